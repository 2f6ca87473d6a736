//! What a worker hands to `bind(2)`: bytes that may be anything.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// As much of a worker's `sockaddr` as matters: the size of the larger kind.
pub const LONGEST: usize = 28;

/// The size of a `sockaddr_storage`: the kernel takes none that is longer.
pub const LONGEST_TAKEN: u32 = 128;

// The families of Linux on every architecture: sys/socket.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Reads a `sockaddr_in` or `sockaddr_in6` (`ip(7)`, `ipv6(7)`). Nothing for
/// any other family, and for one that is too short: the kernel has a word of
/// its own for those.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array(bytes, 0)?);
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match family {
        AF_INET if bytes.len() >= 16 => {
            let ip = Ipv4Addr::from(array::<4>(bytes, 4)?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        // The kernel takes one without a scope (SIN6_LEN_RFC2133).
        AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            let scope = array(bytes, 24).map_or(0, u32::from_ne_bytes);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(port: u16, ip: [u8; 4]) -> Vec<u8> {
        let mut bytes = AF_INET.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.extend([0; 8]);
        bytes
    }

    fn v6(port: u16, ip: Ipv6Addr, scope: u32) -> Vec<u8> {
        let mut bytes = AF_INET6.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ip.octets());
        bytes.extend(scope.to_ne_bytes());
        bytes
    }

    #[test]
    fn both_families() {
        let found = parse(&v4(8080, [127, 0, 0, 1]));
        assert_eq!(found, Some("127.0.0.1:8080".parse().unwrap()));
        let found = parse(&v6(443, Ipv6Addr::UNSPECIFIED, 0));
        assert_eq!(found, Some("[::]:443".parse().unwrap()));
        let Some(SocketAddr::V6(found)) = parse(&v6(1, Ipv6Addr::LOCALHOST, 7)) else {
            panic!("an IPv6 address");
        };
        assert_eq!(found.scope_id(), 7);
        let without_scope = &v6(443, Ipv6Addr::LOCALHOST, 0)[..24];
        assert_eq!(parse(without_scope), Some("[::1]:443".parse().unwrap()));
    }

    #[test]
    fn what_is_cut_off_or_of_another_family_is_none() {
        for length in 0..16 {
            assert_eq!(parse(&v4(80, [1, 2, 3, 4])[..length]), None, "{length}");
        }
        for length in 0..24 {
            let bytes = v6(80, Ipv6Addr::LOCALHOST, 0);
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
        for family in (0..64).filter(|family| ![AF_INET, AF_INET6].contains(family)) {
            let mut bytes = v6(80, Ipv6Addr::LOCALHOST, 0);
            bytes[..2].copy_from_slice(&family.to_ne_bytes());
            assert_eq!(parse(&bytes), None, "{family}");
        }
    }
}
