//! Files whose contents change (`inotify(7)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Files that are watched for being written to. Close-on-exec, non-blocking.
///
/// The files of control groups tell of a write as well, of version 1 and 2 and
/// through a mount that cannot be written to itself.
#[derive(Debug)]
pub struct Watch(Inotify);

impl Watch {
    /// Watches these files.
    ///
    /// # Errors
    ///
    /// Those of `inotify_init1(2)`: `EMFILE` where this user's instances, of
    /// which there are 128 on the whole machine, are in use; and of
    /// `inotify_add_watch(2)`.
    pub fn of<P: AsRef<Path>>(files: &[P]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        for file in files {
            inotify.add_watch(file.as_ref(), AddWatchFlags::IN_MODIFY)?;
        }
        Ok(Self(inotify))
    }

    /// Takes in what has been told so far: that something was written is all
    /// there is to know.
    pub fn clear(&self) {
        let mut buffer = [0; 1024];
        loop {
            match nix::unistd::read(&self.0, &mut buffer) {
                Ok(1..) | Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::poll::Poller;

    #[test]
    fn a_write_is_told_until_it_is_taken_in() {
        let file = std::env::temp_dir().join(format!("clinit-inotify-{}", std::process::id()));
        fs::write(&file, "1").unwrap();
        let watch = Watch::of(&[&file]).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&watch, 1).unwrap();
        let told = || poller.wait(Some(0)).unwrap().tokens().count();
        assert_eq!(told(), 0);
        fs::write(&file, "2").unwrap();
        assert_eq!(told(), 1);
        assert_eq!(told(), 1);
        watch.clear();
        assert_eq!(told(), 0);
        fs::remove_file(&file).unwrap();
        Watch::of(&[&file]).unwrap_err();
    }
}
