//! Ports for servers that are told theirs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of all loopback addresses that nobody listens on, below those that
/// the kernel chooses from: a client's own port may be any of these.
pub(crate) fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many in a row, for this caller alone.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    loop {
        // Another process looks elsewhere.
        let start = std::process::id() % 199 * 101;
        let offset = start + u32::from(NEXT.fetch_add(count, Ordering::Relaxed));
        let first = u16::try_from(FIRST + offset % COUNT).expect("below 30,000");
        let is_free = |host: IpAddr, port| TcpListener::bind((host, port)).is_ok();
        let mut ports = first..first + count;
        if ports.all(|port| {
            is_free(Ipv4Addr::LOCALHOST.into(), port) && is_free(Ipv6Addr::UNSPECIFIED.into(), port)
        }) {
            return first;
        }
    }
}
