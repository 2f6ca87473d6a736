//! Load from clients of both kinds: of a connection for each request, and of
//! one that is kept, where a request is sent again if its connection ended
//! before the first byte of the answer: without that no server can promise
//! that none is lost (RFC 9112, 9.3.1).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// An answer that is not there by then is not coming.
const PATIENCE: Duration = Duration::from_secs(20);

/// What clients have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    /// Requests on a kept connection that were sent again.
    pub(crate) again: usize,
    pub(crate) failures: Vec<String>,
}

impl Tally {
    fn take(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.answered += 1,
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    fn with(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.again += other.again;
        self.failures.extend(other.failures);
        self
    }
}

/// So many clients of each kind.
#[derive(Clone, Copy)]
pub(crate) struct Clients {
    pub(crate) of_new_connections: usize,
    pub(crate) of_kept_connections: usize,
}

/// What the clients of each kind have seen while something was done.
pub(crate) struct Seen<T> {
    pub(crate) by_new: Tally,
    pub(crate) by_kept: Tally,
    pub(crate) done: T,
}

/// Has clients ask for `/` without a pause while something is done.
pub(crate) fn under_load<T>(
    address: SocketAddr,
    clients: Clients,
    act: impl FnOnce() -> T,
) -> Seen<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let start = |count: usize, client: fn(SocketAddr, &AtomicBool) -> Tally| {
            let is_over = &is_over;
            let clients = (0..count).map(|_| scope.spawn(move || client(address, is_over)));
            clients.collect::<Vec<_>>()
        };
        let new = start(clients.of_new_connections, ask_by_new_connections);
        let kept = start(clients.of_kept_connections, ask_by_a_kept_connection);
        let over = Over(&is_over);
        let done = act();
        drop(over);
        let total = |clients: Vec<thread::ScopedJoinHandle<'_, Tally>>| {
            clients
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .map(|tally| tally.expect("no client panics"))
                .fold(Tally::default(), Tally::with)
        };
        Seen {
            by_new: total(new),
            by_kept: total(kept),
            done,
        }
    })
}

/// Ends the clients, also where what was done has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn ask_by_new_connections(address: SocketAddr, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::SeqCst) {
        let answered = connect(address).and_then(|mut stream| ask(&mut stream, "close"));
        tally.take(answered.map(|_| ()).map_err(Lost::into_error));
    }
    tally
}

fn ask_by_a_kept_connection(address: SocketAddr, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<TcpStream> = None;
    while !over.load(Ordering::SeqCst) {
        let reused = kept.take();
        let is_reused = reused.is_some();
        let stream = reused.map_or_else(|| connect(address), Ok);
        let asked = stream.and_then(|mut stream| {
            let stays = ask(&mut stream, "keep-alive")?;
            Ok(stays.then_some(stream))
        });
        match asked {
            Ok(stream) => {
                kept = stream;
                tally.take(Ok(()));
            }
            Err(Lost::BeforeTheAnswer(_)) if is_reused => tally.again += 1,
            Err(lost) => tally.take(Err(lost.into_error())),
        }
    }
    tally
}

/// How a request was lost.
enum Lost {
    /// Not a byte of an answer came.
    BeforeTheAnswer(io::Error),
    InTheAnswer(io::Error),
}

impl Lost {
    fn into_error(self) -> io::Error {
        match self {
            Self::BeforeTheAnswer(error) => {
                io::Error::new(error.kind(), format!("no answer: {error}"))
            }
            Self::InTheAnswer(error) => {
                io::Error::new(error.kind(), format!("half an answer: {error}"))
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, Lost> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    stream.map_err(Lost::BeforeTheAnswer)
}

/// Asks for `/`; returns whether the connection may be used again.
fn ask(stream: &mut TcpStream, connection: &str) -> Result<bool, Lost> {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(Lost::BeforeTheAnswer)?;
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = match stream.read(&mut part) {
            Ok(0) => None,
            Ok(length) => Some(length),
            Err(error) if answer.is_empty() => return Err(Lost::BeforeTheAnswer(error)),
            Err(error) => return Err(Lost::InTheAnswer(error)),
        };
        let ended = length.is_none();
        answer.extend_from_slice(part.get(..length.unwrap_or(0)).unwrap_or_default());
        if ended && answer.is_empty() {
            return Err(Lost::BeforeTheAnswer(io::ErrorKind::UnexpectedEof.into()));
        }
        match is_whole(&answer, ended) {
            Some(true) => return Ok(!ended && connection == "keep-alive"),
            Some(false) if ended => {
                return Err(Lost::InTheAnswer(io::ErrorKind::UnexpectedEof.into()));
            }
            Some(false) => {}
            None => {
                let said = String::from_utf8_lossy(&answer).into_owned();
                return Err(Lost::InTheAnswer(io::Error::other(said)));
            }
        }
    }
}

/// Whether this is a whole answer; none where it is no good one.
fn is_whole(answer: &[u8], ended: bool) -> Option<bool> {
    let text = std::str::from_utf8(answer).ok()?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Some(false);
    };
    if head.split(' ').nth(1) != Some("200") {
        return None;
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    Some(length.map_or(ended, |length| body.len() >= length))
}
