//! Where a listener listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP on one address.
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// Whether a `[::]` leaves IPv4 alone.
        only_v6: bool,
    },
    /// TCP on this port of every address, IPv4 and IPv6.
    TcpAny(u16),
    /// A Unix stream socket at a path.
    Unix(PathBuf),
    /// A Unix stream socket in the abstract namespace; the name without the
    /// leading NUL.
    UnixAbstract(Vec<u8>),
    /// UDP on one address.
    Udp {
        /// The address.
        addr: SocketAddr,
        /// Whether a `[::]` leaves IPv4 alone.
        only_v6: bool,
    },
    /// UDP on this port of every address, IPv4 and IPv6.
    UdpAny(u16),
}

/// What is spoken below the server's own protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Unix,
}

impl Address {
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { addr, .. } | Self::Udp { addr, .. } => Some(addr.port()),
            Self::TcpAny(port) | Self::UdpAny(port) => Some(*port),
            Self::Unix(_) | Self::UnixAbstract(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { addr, .. } => write!(f, "{addr}"),
            Self::TcpAny(port) => write!(f, "[::]:{port}"),
            Self::Unix(path) => f.write_str(&unix_path(path)),
            Self::UnixAbstract(name) => f.write_str(&unix_abstract(name)),
            Self::Udp { addr, .. } => write!(f, "udp:{addr}"),
            Self::UdpAny(port) => write!(f, "udp:[::]:{port}"),
        }
    }
}

/// A bound address, in the same words.
pub(super) fn describe_local(transport: Transport, local: &SockAddr) -> String {
    if let Some(addr) = local.as_socket() {
        return match transport {
            Transport::Udp => format!("udp:{addr}"),
            Transport::Tcp | Transport::Unix => addr.to_string(),
        };
    }
    if let Some(path) = local.as_pathname() {
        return unix_path(path);
    }
    local
        .as_abstract_namespace()
        .map_or_else(|| "unix:".to_owned(), unix_abstract)
}

fn unix_path(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn unix_abstract(name: &[u8]) -> String {
    format!("unix:@{}", name.escape_ascii())
}
