//! Sockets that clinit is started with, and the listeners that it is to make:
//! which of them are the same.
//!
//! A listener that clinit makes is kept by a service manager that does that
//! (`FDSTORE=1` of `sd_notify(3)`), and comes back to the next clinit under
//! its name: nobody is refused meanwhile.

use crate::config::ListenerSpec;
use crate::sys::binding::set_nonblocking;
use crate::sys::errno::describe;
use crate::sys::listener::{Address, Listener};

use super::log;
use super::manager::Manager;

/// What the names of clinit's own listeners begin with at a manager.
const KEPT: &str = "clinit.";

/// The longest name that a manager takes (`FDNAME_MAX`).
const LONGEST_NAME: usize = 255;

/// A socket that there is, of a listener that is to be made.
pub(super) enum Claimed {
    /// An earlier clinit made it.
    Kept(Listener),
    /// Somebody else did, and may have it too.
    Activated(Listener),
}

/// What a manager is to know a listener by: neither a colon nor anything that
/// is not printable may be in it.
pub(super) fn kept_name(spec: &ListenerSpec, address: &Address) -> String {
    let name = spec.name.clone().unwrap_or_else(|| address.to_string());
    let plain = |c: char| {
        if c.is_ascii_graphic() && c != ':' {
            c
        } else {
            '-'
        }
    };
    let mut kept = String::from(KEPT);
    kept.extend(name.chars().map(plain));
    kept.truncate(LONGEST_NAME);
    kept
}

type Named = (Option<String>, Listener);

/// Finds for each listener that is to be made the socket that there is, and
/// returns the sockets that are none of them beside. What an earlier clinit
/// made and nobody wants any more is closed.
pub(super) fn distribute(
    mut passed: Vec<Named>,
    specs: &[ListenerSpec],
    addresses: &[Address],
    manager: &mut Manager,
) -> (Vec<Option<Claimed>>, Vec<Named>) {
    let claimed = specs.iter().zip(addresses).map(|(spec, address)| {
        let kept = kept_name(spec, address);
        let position = passed.iter().position(|(name, socket)| match name {
            Some(name) if name.starts_with(KEPT) => *name == kept && is_at(socket, address, true),
            Some(name) => {
                spec.name.as_ref().is_none_or(|own| own == name) && is_at(socket, address, false)
            }
            None => is_at(socket, address, false),
        })?;
        let (name, socket) = passed.remove(position);
        log::info!("taking over {}", socket.local());
        if name.is_none_or(|name| !name.starts_with(KEPT)) {
            return Some(Claimed::Activated(socket));
        }
        // As if it were new.
        if let Err(error) = set_nonblocking(std::os::fd::AsFd::as_fd(&socket), false) {
            log::debug!("cannot make {} block: {}", socket.local(), describe(&error));
        }
        let _ = socket.detach();
        Some(Claimed::Kept(socket))
    });
    let claimed = claimed.collect();
    passed.retain(|(name, socket)| match name {
        Some(name) if name.starts_with(KEPT) => {
            log::info!("closing {}, which is no listener any more", socket.local());
            manager.release(name);
            false
        }
        Some(_) | None => true,
    });
    (claimed, passed)
}

/// The wildcard `[::]` as that of IPv4.
fn in_ipv4(wanted: &str) -> Option<String> {
    let (before, rest) = wanted.split_once('[')?;
    let (_, port) = rest.split_once(']')?;
    Some([before, "0.0.0.0", port].concat())
}

/// Whether a socket is at an address. Where `whichever` port was free could
/// be had, it may be any.
fn is_at(socket: &Listener, address: &Address, whichever: bool) -> bool {
    let local = socket.local();
    let host = |text: &str| text.rsplit_once(':').map(|(host, _)| host.to_owned());
    let alike = |wanted: &str| {
        let free = whichever && wanted.ends_with(":0") && socket.port().is_some();
        wanted == local || (free && host(wanted) == host(&local))
    };
    let wanted = address.to_string();
    match address {
        // Where there is no IPv6.
        Address::TcpAny(_) | Address::UdpAny(_) => {
            alike(&wanted) || in_ipv4(&wanted).is_some_and(|wanted| alike(&wanted))
        }
        // Without its path nobody finds it.
        Address::Unix(path) => alike(&wanted) && path.exists(),
        Address::Tcp { .. } | Address::Udp { .. } | Address::UnixAbstract(_) => alike(&wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::ListenAddress;
    use crate::sys::listener::bind;

    fn spec(name: Option<&str>, port: u16) -> (ListenerSpec, Address) {
        let addr = ([127, 0, 0, 1], port).into();
        let spec = ListenerSpec {
            name: name.map(str::to_owned),
            address: ListenAddress::Tcp(addr),
        };
        let only_v6 = false;
        (spec, Address::Tcp { addr, only_v6 })
    }

    fn socket() -> (Listener, u16) {
        let socket = bind(&spec(None, 0).1).unwrap();
        let port = socket.port().unwrap();
        (socket, port)
    }

    /// What becomes of a socket of this name for a listener of that name: kept,
    /// activated, left beside, or closed.
    fn fate(passed: Option<&str>, name: Option<&str>, same_port: bool) -> &'static str {
        let (socket, port) = socket();
        let (spec, address) = spec(name, if same_port { port } else { 1 });
        let passed = vec![(
            passed.map(|it| it.replace("PORT", &port.to_string())),
            socket,
        )];
        let (claimed, others) = distribute(passed, &[spec], &[address], &mut Manager::none());
        match (claimed.first().unwrap(), others.is_empty()) {
            (Some(Claimed::Kept(_)), true) => "kept",
            (Some(Claimed::Activated(_)), true) => "activated",
            (None, false) => "beside",
            (None, true) => "closed",
            (Some(_), false) => "both",
        }
    }

    #[test]
    fn a_listener_is_known_by_its_name_and_its_address() {
        assert_eq!(fate(Some("clinit.web"), Some("web"), true), "kept");
        assert_eq!(fate(Some("clinit.127.0.0.1-PORT"), None, true), "kept");
        assert_eq!(fate(Some("clinit.web"), Some("web"), false), "closed");
        assert_eq!(fate(Some("clinit.web"), Some("api"), true), "closed");
        assert_eq!(fate(Some("web"), Some("web"), true), "activated");
        assert_eq!(fate(Some("web"), None, true), "activated");
        assert_eq!(fate(None, Some("web"), true), "activated");
        assert_eq!(fate(Some("web"), Some("api"), true), "beside");
        assert_eq!(fate(Some("web"), Some("web"), false), "beside");
    }

    #[test]
    fn a_free_port_stays_the_one_that_was_found() {
        let (socket, _) = socket();
        let (_, free) = spec(None, 0);
        assert!(is_at(&socket, &free, true) && !is_at(&socket, &free, false));
    }

    #[test]
    fn names_are_such_as_a_manager_takes() {
        let (unnamed, address) = spec(None, 80);
        assert_eq!(kept_name(&unnamed, &address), "clinit.127.0.0.1-80");
        let path = Address::Unix(PathBuf::from(format!("/{}", "ä\n:".repeat(100))));
        let name = kept_name(&unnamed, &path);
        assert!(name.len() <= LONGEST_NAME && name.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!name.contains(':'));
    }
}
