//! The least of an HTTP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use super::DEADLINE;

/// Asks for `/` on a connection of its own; yields the body.
pub(crate) fn get(address: impl Into<SocketAddr>) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address.into(), DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(stream)
}

pub(crate) fn get_unix(path: &str) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(stream)
}

/// One request and its answer on a connection that the server closes.
fn exchange(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let refused = |what: &str| io::Error::other(format!("{what}: {answer:?}"));
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| refused("no answer"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(refused("not 200"));
    }
    Ok(body.to_owned())
}
