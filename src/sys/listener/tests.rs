use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};

use super::*;

fn loopback(transport: Transport) -> Address {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let only_v6 = false;
    match transport {
        Transport::Udp => Address::Udp { addr, only_v6 },
        Transport::Tcp | Transport::Unix => Address::Tcp { addr, only_v6 },
    }
}

/// A directory of this test's own, removed with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("clinit-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // An earlier process of this pid may have been killed before it cleared up.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn tcp_listens_and_counts_who_waits() {
    let listener = bind(&loopback(Transport::Tcp)).unwrap();
    let port = listener.port().unwrap();
    assert_eq!(listener.local(), format!("127.0.0.1:{port}"));
    assert_eq!(listener.queued(), 0);
    let clients = [(); 3].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert_eq!(listener.queued(), 3);
    drop(clients);
    assert!(listener.socket.reuse_address().unwrap());
    assert!(!listener.socket.reuse_port().unwrap());
    assert!(!listener.socket.nonblocking().unwrap());
    let flags = fcntl(&listener, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    let link = format!("/proc/self/fd/{}", listener.socket.as_raw_fd());
    let shown = fs::read_link(link).unwrap();
    assert_eq!(
        shown,
        PathBuf::from(format!("socket:[{}]", listener.inode()))
    );
}

#[test]
fn any_means_both_families() {
    let listener = bind(&Address::TcpAny(0)).unwrap();
    let port = listener.port().unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(listener.queued(), 1);
    if listener.local().starts_with("[::]") {
        assert!(!listener.socket.only_v6().unwrap());
    }
}

#[test]
fn only_v6_leaves_ipv4_alone() {
    let addr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    match bind(&Address::Tcp {
        addr,
        only_v6: true,
    }) {
        Ok(listener) => assert!(listener.socket.only_v6().unwrap()),
        Err(error) => assert!(error.is_no_ipv6(), "{error}"),
    }
}

#[test]
fn udp_tells_whether_a_datagram_waits_and_shares_its_port_with_nobody() {
    let listener = bind(&loopback(Transport::Udp)).unwrap();
    let port = listener.port().unwrap();
    assert_eq!(listener.local(), format!("udp:127.0.0.1:{port}"));
    assert_eq!(listener.queued(), 0);
    let client = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    client.send_to(b"x", server).unwrap();
    assert_eq!(listener.queued(), 1);
    let only_v6 = false;
    let taken = Address::Udp {
        addr: server,
        only_v6,
    };
    let said = format!("cannot bind udp:127.0.0.1:{port}: address already in use (os error 98)");
    assert_eq!(bind(&taken).unwrap_err().to_string(), said);
}

#[test]
fn an_address_in_use_is_named() {
    let listener = bind(&loopback(Transport::Tcp)).unwrap();
    let taken = Address::Tcp {
        addr: listener.local().parse().unwrap(),
        only_v6: false,
    };
    let said = format!(
        "cannot bind {}: address already in use (os error 98)",
        listener.local()
    );
    assert_eq!(bind(&taken).unwrap_err().to_string(), said);
}

#[test]
fn a_unix_socket_is_made_found_and_removed() {
    let scratch = Scratch::new("unix");
    let listener = bind(&Address::Unix(scratch.path())).unwrap();
    assert_eq!(
        listener.local(),
        format!("unix:{}", scratch.path().display())
    );
    assert_eq!((listener.port(), listener.queued()), (None, 0));
    let _client = UnixStream::connect(scratch.path()).unwrap();
    assert_eq!(listener.queued(), 1);
    listener.remove_path();
    assert!(!scratch.path().exists());
}

#[test]
fn another_servers_path_is_not_removed() {
    let scratch = Scratch::new("replaced");
    let listener = bind(&Address::Unix(scratch.path())).unwrap();
    fs::rename(scratch.path(), scratch.0.join("moved")).unwrap();
    let _other = UnixListener::bind(scratch.path()).unwrap();
    listener.remove_path();
    assert!(scratch.path().exists());
}

#[test]
fn a_living_unix_server_is_left_alone() {
    let scratch = Scratch::new("living");
    let address = Address::Unix(scratch.path());
    let _living = bind(&address).unwrap();
    let error = bind(&address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot bind {address}: a server is listening there")
    );
    fs::remove_file(scratch.path()).unwrap();
    let _datagrams = UnixDatagram::bind(scratch.path()).unwrap();
    assert!(matches!(
        bind(&address),
        Err(BindError::ServerListening { .. })
    ));
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let scratch = Scratch::new("stale");
    // Bound and never listening: connecting to it is refused, whoever else
    // holds a duplicate.
    let stale = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    stale
        .bind(&SockAddr::unix(scratch.path()).unwrap())
        .unwrap();
    let listener = bind(&Address::Unix(scratch.path())).unwrap();
    UnixStream::connect(scratch.path()).unwrap();
    assert_eq!(listener.queued(), 1);
}

#[test]
fn what_is_no_socket_is_never_replaced() {
    let scratch = Scratch::new("file");
    fs::write(scratch.path(), "precious").unwrap();
    let error = bind(&Address::Unix(scratch.path())).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(scratch.path()).unwrap(), "precious");
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let long = PathBuf::from(format!("/{}", "x".repeat(107)));
    let error = bind(&Address::Unix(long)).unwrap_err();
    assert!(error.to_string().ends_with(": longer than 107 bytes"));
    for path in ["", "\0abstract", "/tmp/with\0nul"] {
        let error = bind(&Address::Unix(path.into())).unwrap_err();
        assert!(matches!(error, BindError::Refused { .. }), "{error}");
    }
    let error = bind(&Address::Unix("/nonexistent/socket".into())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot bind unix:/nonexistent/socket: no such file or directory (os error 2)"
    );
}

#[test]
fn an_abstract_name_is_listened_on() {
    let name = format!("clinit-test-{}", std::process::id());
    let address = Address::UnixAbstract(name.clone().into_bytes());
    let listener = bind(&address).unwrap();
    assert_eq!(listener.local(), format!("unix:@{name}"));
    assert_eq!(
        bind(&address).unwrap_err().to_string(),
        format!("cannot bind unix:@{name}: address already in use (os error 98)")
    );
    let long = Address::UnixAbstract(vec![b'x'; 108]);
    assert!(matches!(
        bind(&long),
        Err(BindError::PathTooLong { longest: 107, .. })
    ));
}

#[test]
fn sockets_are_adopted_where_they_serve() {
    let made = bind(&loopback(Transport::Tcp)).unwrap();
    let inode = made.inode();
    let copy = made.socket.try_clone().unwrap();
    copy.set_cloexec(false).unwrap();
    let adopted = adopt(copy.into()).unwrap();
    assert_eq!((adopted.inode(), adopted.local()), (inode, made.local()));
    let flags = fcntl(&adopted, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);

    let datagrams = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    assert!(adopt(datagrams.into()).unwrap().local().starts_with("udp:"));

    let errno = |result: io::Result<Listener>| result.unwrap_err().raw_os_error();
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert_eq!(errno(adopt(silent.into())), Some(libc::EINVAL));
    let file = fs::File::open("/proc/self/status").unwrap();
    assert_eq!(errno(adopt(file.into())), Some(libc::ENOTSOCK));
}
