//! What `--listen` takes: addresses, never the names of hosts.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::units::whole;

/// The most bytes of a unix socket's path, and of an abstract name: the 108 of
/// `sun_path` less the NUL that ends the one and begins the other (unix(7)).
/// `sys::listener` has it too: neither module may import the other, and the one
/// refuses a command line while the other never makes a wrong address.
const MOST_UNIX_BYTES: usize = 107;
/// The most bytes of a listener's name, as `sd_listen_fds_with_names(3)` has it.
const MOST_NAME_BYTES: usize = 255;

const ACCEPTED: &str = "accepted are 8080, :8080, 127.0.0.1:8080, [::]:8080, \
                        unix:/run/a.sock and udp:53, after NAME= where it has one";

/// A listener that clinit is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// What workers know it by.
    pub name: Option<String>,
    /// What it is bound to.
    pub address: ListenAddress,
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// This TCP port of any local address: IPv6 and IPv4 in one socket where
    /// there is IPv6, else IPv4.
    TcpAny(u16),
    /// An absolute path of at most 107 bytes.
    Unix(PathBuf),
    /// A name in the abstract namespace, without the NUL before it; 1 to 107
    /// bytes.
    UnixAbstract(Vec<u8>),
    /// A UDP address.
    Udp(SocketAddr),
    /// This UDP port of any local address, as [`Self::TcpAny`].
    UdpAny(u16),
}

impl ListenAddress {
    /// Whether binding both is bound to fail. Port 0 stands for a free port.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        let is_free = match self {
            Self::Tcp(address) | Self::Udp(address) => address.port() == 0,
            Self::TcpAny(port) | Self::UdpAny(port) => *port == 0,
            Self::Unix(_) | Self::UnixAbstract(_) => false,
        };
        self == other && !is_free
    }
}

impl ListenerSpec {
    /// Reads `[NAME=]ADDR`. A relative path is one below `cwd`.
    pub(super) fn parse(text: &str, cwd: &Path) -> Result<Self, String> {
        // A path may hold an equals sign, but only after `unix:`.
        let (name, address) = match text.split_once('=') {
            Some((name, address)) if !name.contains([':', '/']) => (Some(name), address),
            _ => (None, text),
        };
        if name.is_some_and(|name| !is_name(name)) {
            return Err("a listener's name is made of A-Z a-z 0-9 _ . and -".into());
        }
        let address = match address.split_once(':') {
            Some(("unix", path)) => unix(path, cwd)?,
            Some(("udp", address)) => match inet(address)? {
                Inet::Address(address) => ListenAddress::Udp(address),
                Inet::Any(port) => ListenAddress::UdpAny(port),
            },
            tcp => {
                let rest = tcp.filter(|(scheme, _)| *scheme == "tcp");
                match inet(rest.map_or(address, |(_, rest)| rest))? {
                    Inet::Address(address) => ListenAddress::Tcp(address),
                    Inet::Any(port) => ListenAddress::TcpAny(port),
                }
            }
        };
        Ok(Self {
            name: name.map(str::to_owned),
            address,
        })
    }
}

/// Whether a listener may have this name. It begins with no digit: `{fd:3}`
/// and `{port:8080}` are JavaScript, as in `listen({fd:3})`.
pub(super) fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MOST_NAME_BYTES).contains(&text.len())
        && text.bytes().all(is_of_name)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// What follows `tcp:` or `udp:`.
enum Inet {
    Address(SocketAddr),
    Any(u16),
}

fn inet(text: &str) -> Result<Inet, String> {
    if let Ok(address) = text.parse() {
        return Ok(Inet::Address(address));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Some(port) = whole(port) {
        return Ok(Inet::Any(port));
    }
    Err(why_not_inet(text))
}

/// What is wrong with what is no address, as narrowly as can be said.
fn why_not_inet(text: &str) -> String {
    if let Ok(address) = text.parse::<IpAddr>() {
        let example = SocketAddr::new(address, 8080);
        return format!("a port is missing, as in {example}");
    }
    let colon = text.bytes().rposition(|byte| byte == b':').unwrap_or(0);
    let (host, port) = text.split_at(colon);
    let port = port.strip_prefix(':').unwrap_or(port);
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_letter = |c: char| c.is_ascii_alphabetic() || !c.is_ascii();
    let is_host = |c: char| is_letter(c) || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    match host {
        _ if text.starts_with(['/', '.', '@']) => "a unix socket is written unix:PATH".into(),
        _ if is_number && whole::<u16>(port).is_none() => "a port is at most 65535".into(),
        "*" => "any address is written without the *, as in :8080".into(),
        host if is_number && host.contains(':') && !host.contains(['[', '/']) => {
            "an IPv6 address is written in brackets, as in [::1]:8080".into()
        }
        // Were it four numbers, it would be an address gone wrong.
        host if is_number && host.chars().all(is_host) && host.contains(is_letter) => {
            let port = whole::<u16>(port).unwrap_or_default();
            format!("host names are not looked up; write 127.0.0.1:{port} or [::1]:{port}")
        }
        _ => ACCEPTED.into(),
    }
}

/// What follows `unix:`.
fn unix(text: &str, cwd: &Path) -> Result<ListenAddress, String> {
    if text.contains('\0') {
        return Err("a path cannot hold a NUL".into());
    }
    if matches!(text, "" | "@") {
        return Err("a path or a name is missing, as in unix:/run/a.sock or unix:@a".into());
    }
    let (address, what, length) = if let Some(name) = text.strip_prefix('@') {
        let address = ListenAddress::UnixAbstract(name.into());
        (address, "name", name.len())
    } else {
        let path = cwd.join(text);
        let length = path.as_os_str().len();
        (ListenAddress::Unix(path), "path", length)
    };
    if length > MOST_UNIX_BYTES {
        return Err(format!(
            "the {what} has {length} bytes; at most {MOST_UNIX_BYTES} are accepted"
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ListenerSpec, String> {
        ListenerSpec::parse(text, Path::new("/srv"))
    }

    #[test]
    fn addresses() {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (text, address) in [
            ("8080", ListenAddress::TcpAny(8080)),
            (":8080", ListenAddress::TcpAny(8080)),
            ("tcp:8080", ListenAddress::TcpAny(8080)),
            ("tcp::8080", ListenAddress::TcpAny(8080)),
            (":0", ListenAddress::TcpAny(0)),
            ("127.0.0.1:80", ListenAddress::Tcp(socket("127.0.0.1:80"))),
            ("[::]:8080", ListenAddress::Tcp(socket("[::]:8080"))),
            ("tcp:[::1]:80", ListenAddress::Tcp(socket("[::1]:80"))),
            (
                "[fe80::1%2]:80",
                ListenAddress::Tcp(socket("[fe80::1%2]:80")),
            ),
            ("udp:53", ListenAddress::UdpAny(53)),
            ("udp::53", ListenAddress::UdpAny(53)),
            ("udp:[::]:53", ListenAddress::Udp(socket("[::]:53"))),
            (
                "unix:/run/a.sock",
                ListenAddress::Unix("/run/a.sock".into()),
            ),
            ("unix:/run/a=b:c", ListenAddress::Unix("/run/a=b:c".into())),
            ("unix:a.sock", ListenAddress::Unix("/srv/a.sock".into())),
            ("unix:@a", ListenAddress::UnixAbstract(b"a".to_vec())),
        ] {
            let spec = parse(text).expect(text);
            assert_eq!((spec.name, spec.address), (None, address.clone()));
            let named = format!("a_1.B-c={text}");
            let spec = parse(&named).expect(text);
            assert_eq!(spec.name.as_deref(), Some("a_1.B-c"));
            assert_eq!(spec.address, address);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("localhost:8080", "write 127.0.0.1:8080 or [::1]:8080"),
            ("db-1.example_x.org:80", "host names are not looked up"),
            ("udp:dns:53", "host names are not looked up"),
            ("*:8080", "as in :8080"),
            ("127.0.0.1", "a port is missing, as in 127.0.0.1:8080"),
            ("::1", "a port is missing, as in [::1]:8080"),
            ("65536", "at most 65535"),
            ("127.0.0.1:99999", "at most 65535"),
            ("fe80::1%eth0:80", "in brackets"),
            ("/run/a.sock", "unix:PATH"),
            ("./a.sock", "unix:PATH"),
            ("unix:", "is missing"),
            ("unix:@", "is missing"),
            ("a b=80", "a listener's name is made of"),
            ("=80", "a listener's name is made of"),
            ("", "accepted are"),
            (":", "accepted are"),
            ("http://0.0.0.0:80", "accepted are"),
            ("256.0.0.1:80", "accepted are"),
            ("web=", "accepted are"),
            ("+80", "accepted are"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_fits_its_address() {
        for (prefix, room) in [("unix:/", 106), ("unix:@", 107), ("unix:", 102)] {
            parse(&(prefix.to_owned() + &"x".repeat(room))).expect(prefix);
            let error = parse(&(prefix.to_owned() + &"x".repeat(room + 1))).unwrap_err();
            let reason = "has 108 bytes; at most 107 are accepted";
            assert!(error.contains(reason), "{error}");
        }
        let long = "x".repeat(256);
        parse(&format!("{}=80", &long[..255])).unwrap();
        parse(&format!("{long}=80")).unwrap_err();
    }
}
