//! How an error number reads in a message.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// An error number as the last part of a message, the same with either C
/// library: `permission denied (os error 13)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described(pub i32);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Errno::from_raw(self.0).desc();
        let mut rest = text.chars();
        // "RPC version wrong" and "I/O error" keep their capitals.
        match (rest.next(), rest.clone().next()) {
            (Some(first), Some(second)) if second.is_ascii_lowercase() => {
                write!(f, "{}{}", first.to_ascii_lowercase(), rest.as_str())?;
            }
            _ => f.write_str(text)?,
        }
        write!(f, " (os error {})", self.0)
    }
}

/// An error as the last part of a message, in the words of [`Described`] where
/// it has a number.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => Described(errno).to_string(),
        None => error.to_string(),
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
    fn an_error_without_a_number_says_what_it_says() {
        let again = io::Error::from_raw_os_error(libc::EAGAIN);
        assert_eq!(describe(&again), "try again (os error 11)");
        assert_eq!(describe(&io::Error::other("cut short")), "cut short");
    }
}
