//! Why a listener could not be had.

use std::fmt;
use std::fs;
use std::io;

use super::super::errno::Described;
use super::address::Address;

/// Why an address could not be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindError {
    /// The kernel refused.
    Refused {
        /// Which address.
        address: String,
        /// Why.
        errno: i32,
    },
    /// The kernel keeps ports as low as this for the privileged.
    PrivilegedPort {
        /// Which address.
        address: String,
        /// Why.
        errno: i32,
        /// The first port that anybody may have.
        first_free: u16,
    },
    /// A Unix socket's path is in use.
    ServerListening {
        /// Which address.
        address: String,
    },
    /// There is something else at a Unix socket's path.
    NotASocket {
        /// Which address.
        address: String,
    },
    /// A Unix socket's path or name does not fit into an address.
    PathTooLong {
        /// Which address.
        address: String,
        /// The longest that fits, in bytes.
        longest: usize,
    },
}

/// The sysctl that says which ports need no privilege, and its file.
const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
const SYSCTL_FILE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

impl BindError {
    pub(super) fn of(address: &Address, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        let port = address.port();
        let address = address.to_string();
        if let (Some(port), libc::EACCES | libc::EPERM) = (port, errno) {
            let first_free = first_unprivileged_port();
            if port < first_free {
                return Self::PrivilegedPort {
                    address,
                    errno,
                    first_free,
                };
            }
        }
        Self::Refused { address, errno }
    }

    /// Whether this machine, or this container, has no IPv6.
    pub(super) fn is_no_ipv6(&self) -> bool {
        let absent = [
            libc::EAFNOSUPPORT,
            libc::EADDRNOTAVAIL,
            libc::EPROTONOSUPPORT,
        ];
        matches!(self, Self::Refused { errno, .. } if absent.contains(errno))
    }
}

/// It is of the network namespace, for IPv6 too. Without a /proc, what the
/// kernel starts with.
fn first_unprivileged_port() -> u16 {
    fs::read_to_string(SYSCTL_FILE)
        .ok()
        .and_then(|text| text.trim_ascii().parse().ok())
        .unwrap_or(1024)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { address, errno } => {
                write!(f, "cannot bind {address}: {}", Described(*errno))
            }
            Self::PrivilegedPort {
                address,
                errno,
                first_free,
            } => write!(
                f,
                "cannot bind {address}: {}: ports below {first_free} need CAP_NET_BIND_SERVICE here \
                 (sysctl {SYSCTL})",
                Described(*errno)
            ),
            Self::ServerListening { address } => {
                write!(f, "cannot bind {address}: a server is listening there")
            }
            Self::NotASocket { address } => {
                write!(f, "cannot bind {address}: it exists and is not a socket")
            }
            Self::PathTooLong { address, longest } => {
                write!(f, "cannot bind {address}: longer than {longest} bytes")
            }
        }
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_port_names_the_sysctl() {
        let error = BindError::PrivilegedPort {
            address: Address::TcpAny(80).to_string(),
            errno: libc::EACCES,
            first_free: 1024,
        };
        assert_eq!(
            error.to_string(),
            "cannot bind [::]:80: permission denied (os error 13): ports below 1024 need \
             CAP_NET_BIND_SERVICE here (sysctl net.ipv4.ip_unprivileged_port_start)"
        );
    }

    #[test]
    fn what_is_refused_for_another_reason_does_not() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        let error = BindError::of(&Address::TcpAny(65_535), &denied);
        assert_eq!(
            error.to_string(),
            "cannot bind [::]:65535: permission denied (os error 13)"
        );
        let missing = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        assert!(BindError::of(&Address::UdpAny(1), &missing).is_no_ipv6());
        assert!(!error.is_no_ipv6());
    }
}
