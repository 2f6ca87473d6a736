//! Terminals of a test's own.

use std::fs::File;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

/// A new terminal's master, where somebody looks and types, and the terminal.
/// Both are close-on-exec, which openpty(3) cannot do.
pub(crate) fn terminal() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pty");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let slave = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(ptsname_r(&master).expect("its name"))
        .expect("the terminal");
    // SAFETY: into_raw_fd has given it up.
    let master = unsafe { File::from_raw_fd(master.into_raw_fd()) };
    (master, slave)
}
