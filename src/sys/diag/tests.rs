use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;

use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn inode(socket: &impl AsRawFd) -> u64 {
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::metadata(path).unwrap().ino()
}

fn handshakes(address: SocketAddr) -> Vec<Handshake> {
    let mut found = Vec::new();
    each_at_port(address.port(), |socket| match socket {
        Socket::Handshake(handshake) => found.push(handshake),
        Socket::Connection(_) => {}
    })
    .unwrap();
    found
}

fn connections(address: SocketAddr) -> Vec<Connection> {
    let mut found = Vec::new();
    each_at_port(address.port(), |socket| match socket {
        Socket::Handshake(_) => {}
        Socket::Connection(connection) => found.push(connection),
    })
    .unwrap();
    found
}

/// The only one there is.
fn connection(address: SocketAddr) -> Connection {
    let found = connections(address);
    assert_eq!(found.len(), 1);
    found[0]
}

#[test]
fn a_port_with_no_handshake_under_way_has_none() {
    let (_listener, address) = listener();
    let _client = TcpStream::connect(address).unwrap();
    assert_eq!(handshakes(address), Vec::new());
}

/// With `TCP_DEFER_ACCEPT` a handshake is under way until the client has
/// said something.
#[test]
fn a_handshake_under_way_is_listed_until_it_is_over() {
    let (listener, address) = listener();
    let seconds = 60_i32;
    // SAFETY: TCP_DEFER_ACCEPT reads an int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            4,
        )
    };
    assert_eq!(result, 0);
    let mut clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let both = handshakes(address);
    assert_eq!(both.len(), 2);
    clients[0].write_all(b"x").unwrap();
    let _ = listener.accept().unwrap();
    let one = handshakes(address);
    assert!(one.len() == 1 && both.contains(&one[0]));
}

#[test]
fn a_connection_waits_until_it_is_accepted() {
    let (listener, address) = listener();
    let clients = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    let both = waiting(address.port()).unwrap();
    assert_eq!(both.len(), 2);
    let _served = listener.accept().unwrap();
    let one = waiting(address.port()).unwrap();
    assert!(one.len() == 1 && both.contains(&one[0]));
    // Its client has gone, and it waits on.
    drop(clients);
    assert_eq!(waiting(address.port()).unwrap(), one);
}

#[test]
fn a_connection_tells_what_has_come_and_gone() {
    let (listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    let waiting = connection(address);
    assert_eq!((waiting.inode, waiting.unread, waiting.unsent), (0, 0, 0));
    assert!(!waiting.has_received && !waiting.has_sent);
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(connection(address).inode, inode(&server));
    client.write_all(b"question").unwrap();
    let asked = connection(address);
    assert!(asked.unread == 8 && asked.has_received && !asked.has_sent);
    server.read_exact(&mut [0; 8]).unwrap();
    assert_eq!(connection(address).unread, 0);
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    assert!(connection(address).has_sent);
    // What the client said last is no data, whether it is read or not.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(connection(address).unread, 0);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert_eq!(connection(address).unread, 0);
}

#[test]
fn what_the_client_does_not_read_stays_unsent() {
    let (listener, address) = listener();
    let _client = TcpStream::connect(address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    while server.write(&[0; 4096]).is_ok() {}
    assert!(connection(address).unsent > 0);
}

/// It ages by the clock that quietness is told by: a tick of the kernel's.
#[test]
fn quietness_is_told_since_the_last_byte() {
    let (listener, address) = listener();
    let mut client = TcpStream::connect(address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    while connection(address).quiet_out < Duration::from_millis(40) {
        std::thread::yield_now();
    }
    client.write_all(b"question").unwrap();
    let asked = connection(address);
    assert!(asked.quiet_in < asked.quiet_out);
    server.read_exact(&mut [0; 8]).unwrap();
    while connection(address).quiet_in < Duration::from_millis(40) {
        std::thread::yield_now();
    }
    server.write_all(b"answer").unwrap();
    let answered = connection(address);
    assert!(answered.quiet_out < answered.quiet_in);
}

#[test]
fn listeners_are_found_by_inode() {
    let (listener, address) = listener();
    let found = listening().unwrap();
    assert!(found.contains(&(inode(&listener), address.port())));
    drop(listener);
    assert!(
        !listening()
            .unwrap()
            .iter()
            .any(|(_, port)| *port == address.port())
    );
}

#[test]
fn messages_are_taken_in_and_a_mangled_one_ends_the_part() {
    let message = |kind: u16, body: &[u8]| {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    };
    let listed = |port: u8, state: u8| {
        let mut body = vec![2, state, 0, 0];
        body.extend([port; ATTRIBUTES - SOCKET_ID]);
        // An attribute that is not asked for, and the one that is.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        body.extend(204_u16.to_ne_bytes());
        body.extend(INFO.to_ne_bytes());
        body.extend([port; 200]);
        message(SOCK_DIAG_BY_FAMILY, &body)
    };
    let mut found = Vec::new();
    let mut show = |body: &[u8]| found.push(socket(body));
    let part = [listed(1, SYN_RECEIVED), listed(2, ESTABLISHED)].concat();
    assert!(!take_in(&part, &mut show).unwrap());
    let last = [listed(3, CLOSE_WAIT), message(DONE, &[0; 4])].concat();
    assert!(take_in(&last, &mut show).unwrap());
    assert_eq!(
        found[0],
        Some(Socket::Handshake(Handshake([1; SOCKET_ID_LENGTH])))
    );
    let Some(Some(Socket::Connection(open))) = found.get(1) else {
        panic!("{found:?}");
    };
    assert_eq!(
        (open.inode, open.unread, open.unsent),
        (0x0202_0202, 0x0202_0202, 0x0202_0202)
    );
    let Some(Some(Socket::Connection(half))) = found.get(2) else {
        panic!("{found:?}");
    };
    assert_eq!((half.unread, half.unsent), (0x0303_0302, 0x0303_0303));
    let error = message(ERROR, &(-libc::EPERM).to_ne_bytes());
    assert_eq!(
        take_in(&error, &mut |_| ()).unwrap_err().raw_os_error(),
        Some(libc::EPERM)
    );
    for length in 0..part.len() {
        let _ = take_in(&part[..length], &mut |body| {
            let _ = socket(body);
        });
    }
}
