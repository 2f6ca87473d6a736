//! How an error number reads in a message.

use std::fmt;
use std::io;

/// An error number as the last part of a message, the same with either C
/// library: `permission denied (os error 13)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described(pub i32);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = usize::try_from(self.0)
            .ok()
            .and_then(|number| TEXTS.split('\n').nth(number))
            .filter(|text| !text.is_empty())
            .unwrap_or("unknown errno");
        write!(f, "{text} (os error {})", self.0)
    }
}

/// What each number means (errno(3)), a line for each from 0 on. Two are
/// nobody's. nix has the same texts in a function of 2,500 bytes.
const TEXTS: &str = "
operation not permitted
no such file or directory
no such process
interrupted system call
I/O error
no such device or address
argument list too long
exec format error
bad file number
no child processes
try again
out of memory
permission denied
bad address
block device required
device or resource busy
file exists
cross-device link
no such device
not a directory
is a directory
invalid argument
file table overflow
too many open files
not a typewriter
text file busy
file too large
no space left on device
illegal seek
read-only file system
too many links
broken pipe
math argument out of domain of func
math result not representable
resource deadlock would occur
file name too long
no record locks available
function not implemented
directory not empty
too many symbolic links encountered

no message of desired type
identifier removed
channel number out of range
level 2 not synchronized
level 3 halted
level 3 reset
link number out of range
protocol driver not attached
no CSI structure available
level 2 halted
invalid exchange
invalid request descriptor
exchange full
no anode
invalid request code
invalid slot

bad font file format
device not a stream
no data available
timer expired
out of streams resources
machine is not on the network
package not installed
object is remote
link has been severed
advertise error
srmount error
communication error on send
protocol error
multihop attempted
RFS specific error
not a data message
value too large for defined data type
name not unique on network
file descriptor in bad state
remote address changed
can not access a needed shared library
accessing a corrupted shared library
.lib section in a.out corrupted
attempting to link in too many shared libraries
cannot exec a shared library directly
illegal byte sequence
interrupted system call should be restarted
streams pipe error
too many users
socket operation on non-socket
destination address required
message too long
protocol wrong type for socket
protocol not available
protocol not supported
socket type not supported
operation not supported on transport endpoint
protocol family not supported
address family not supported by protocol
address already in use
cannot assign requested address
network is down
network is unreachable
network dropped connection because of reset
software caused connection abort
connection reset by peer
no buffer space available
transport endpoint is already connected
transport endpoint is not connected
cannot send after transport endpoint shutdown
too many references: cannot splice
connection timed out
connection refused
host is down
no route to host
operation already in progress
operation now in progress
stale file handle
structure needs cleaning
not a XENIX named type file
no XENIX semaphores available
is a named type file
remote I/O error
quota exceeded
no medium found
wrong medium type
operation canceled
required key not available
key has expired
key has been revoked
key was rejected by service
owner died
state not recoverable
operation not possible due to RF-kill
memory page has hardware error";

/// An error as the last part of a message, in the words of [`Described`] where
/// it has a number.
#[must_use]
pub fn describe(error: &io::Error) -> Reason<'_> {
    Reason(error)
}

/// What [`describe`] makes of an error.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    // io::Error's own has the C library's texts, which no other code needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.raw_os_error(), self.0.get_ref()) {
            (Some(errno), _) => fmt::Display::fmt(&Described(errno), f),
            (None, Some(error)) => fmt::Display::fmt(error, f),
            // Std's own are of two kinds here: a path that no call takes, and a
            // text that is none.
            (None, None) if self.0.kind() == io::ErrorKind::InvalidInput => {
                f.write_str("invalid input parameter")
            }
            (None, None) => f.write_str("invalid data"),
        }
    }
}

/// Whether this error says that there is no room now: for a process, memory
/// or a descriptor.
#[must_use]
pub fn passes(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(errno_passes)
}

pub(super) fn errno_passes(errno: i32) -> bool {
    [
        libc::EAGAIN,
        libc::ENOMEM,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
    ]
    .contains(&errno)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn reads_as_a_fragment() {
        let said = |errno| Described(errno).to_string();
        assert_eq!(said(libc::EACCES), "permission denied (os error 13)");
        assert_eq!(
            said(libc::EADDRINUSE),
            "address already in use (os error 98)"
        );
        assert_eq!(said(libc::EIO), "I/O error (os error 5)");
        assert!(said(4095).ends_with("(os error 4095)"));
    }

    #[test]
    fn every_number_has_its_text() {
        for number in -1..=4096 {
            let said = Described(number).to_string();
            let known = Errno::from_raw(number).desc();
            assert!(
                said.eq_ignore_ascii_case(&format!("{known} (os error {number})")),
                "{said}"
            );
        }
    }

    #[test]
    fn an_error_without_a_number_says_what_it_says() {
        let again = io::Error::from_raw_os_error(libc::EAGAIN);
        assert_eq!(describe(&again).to_string(), "try again (os error 11)");
        assert_eq!(
            describe(&io::Error::other("cut short")).to_string(),
            "cut short"
        );
        for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData] {
            assert_eq!(describe(&kind.into()).to_string(), kind.to_string());
        }
    }
}
