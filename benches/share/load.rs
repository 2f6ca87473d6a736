//! The load generator: one thread, one epoll, HTTP/1.1 over loopback.
//!
//! Next to nothing it does leaves a socket in `TIME_WAIT`, on either side: where each
//! request has a connection of its own the client asks the server to close it,
//! waits for that, and resets what is left. So ephemeral ports do not run out.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};

/// An answer that is not there so long after the last request has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of some requests.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How long each answer took, from the request's due time on, in order.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) failed: u64,
    /// From the first request's due time to the last answer.
    pub(crate) took: Duration,
    /// How many answers came from each worker, by its pid.
    pub(crate) by_worker: BTreeMap<u32, u64>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The least and the most that one of so many workers answered, of 1.
    pub(crate) fn shares(&self, workers: usize) -> (f64, f64) {
        let total: u64 = self.by_worker.values().sum();
        let share = |count: u64| count as f64 / total.max(1) as f64;
        let most = self.by_worker.values().max().map_or(0.0, |it| share(*it));
        let least = self.by_worker.values().min().map_or(0.0, |it| share(*it));
        let all_had_some = self.by_worker.len() >= workers;
        (if all_had_some { least } else { 0.0 }, most)
    }
}

/// What becomes of a connection once its answer is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The server closes it.
    Close,
    /// It carries the next request.
    Reuse,
    /// It stays open to the end.
    Hold,
}

/// So many requests are given up after this time: somebody does not serve.
const LONGEST: Duration = Duration::from_secs(10);

/// When to stop sending requests.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Over(Duration),
    Sent(u64),
}

/// A request that is due at this time, to be answered after this much work.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) work: Duration,
}

/// So many connections, each with its next request once it has its answer.
pub(crate) fn closed(port: u16, width: usize, then: Then, until: Until) -> io::Result<Outcome> {
    let mut engine = Engine::new(port, then)?;
    let start = Instant::now();
    let (end, mut left) = match until {
        Until::Over(time) => (start + time, u64::MAX),
        Until::Sent(count) => (start + LONGEST, count),
    };
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let now = Instant::now();
        let going = now < end && left > 0;
        if going {
            for _ in engine.under_way..width {
                left = left.saturating_sub(1);
                engine.begin(Instant::now(), Duration::ZERO);
            }
        } else if engine.waiting == 0 || now > end + PATIENCE {
            break;
        }
        let timeout = EpollTimeout::from(50_u8);
        let count = engine.epoll.wait(&mut events, timeout)?;
        for event in events.iter().take(count) {
            let token = usize::try_from(event.data()).unwrap_or_default();
            if engine.step(token, event.events()) && then == Then::Reuse && going && left > 0 {
                left -= 1;
                engine.send_again(token);
            }
        }
    }
    Ok(engine.end(start))
}

/// Requests that come when they are due, whatever became of those before; each
/// on a connection of its own.
pub(crate) fn open(port: u16, arrivals: &[Arrival], then: Then) -> io::Result<Outcome> {
    let mut engine = Engine::new(port, then)?;
    let start = Instant::now();
    let mut arrivals = arrivals.iter().peekable();
    let mut end = start;
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let now = Instant::now();
        while let Some(due) = arrivals.next_if(|next| start + next.at <= now) {
            end = start + due.at;
            engine.begin(end, due.work);
        }
        let next = arrivals.peek().map(|next| start + next.at);
        if next.is_none() && (engine.waiting == 0 || now > end + PATIENCE) {
            break;
        }
        let until = next.unwrap_or(now + Duration::from_millis(50));
        let timeout = TimeSpec::from(until.saturating_duration_since(now));
        // epoll_wait counts milliseconds, which is too coarse for what is due.
        let mut ready = [PollFd::new(engine.epoll.0.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut ready, Some(timeout), None)?;
        let count = engine.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        for event in events.iter().take(count) {
            let token = usize::try_from(event.data()).unwrap_or_default();
            engine.step(token, event.events());
        }
    }
    Ok(engine.end(start))
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    request: Vec<u8>,
    stage: Stage,
    answer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Waiting,
    /// Its answer is there; the server has yet to close it, or it is kept.
    Answered,
}

struct Engine {
    epoll: Epoll,
    port: u16,
    then: Then,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that exist.
    under_way: usize,
    /// Requests without an answer.
    waiting: usize,
    last_answer: Instant,
    outcome: Outcome,
}

impl Engine {
    fn new(port: u16, then: Then) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            port,
            then,
            connections: Vec::new(),
            free: Vec::new(),
            under_way: 0,
            waiting: 0,
            last_answer: Instant::now(),
            outcome: Outcome::default(),
        })
    }

    /// Opens a connection for a request that is due then.
    fn begin(&mut self, due: Instant, work: Duration) {
        let Ok(stream) = connecting(self.port) else {
            self.outcome.failed += 1;
            return;
        };
        let token = self.free.pop().unwrap_or(self.connections.len());
        if token == self.connections.len() {
            self.connections.push(None);
        }
        let wanted = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let event = EpollEvent::new(wanted, token as u64);
        if self.epoll.add(&stream, event).is_err() {
            self.free.push(token);
            self.outcome.failed += 1;
            return;
        }
        let close = match self.then {
            Then::Close => "Connection: close\r\n",
            Then::Reuse | Then::Hold => "",
        };
        let work = work.as_micros();
        let request = format!("GET /{work} HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}\r\n");
        if let Some(slot) = self.connections.get_mut(token) {
            *slot = Some(Connection {
                stream,
                due,
                request: request.into_bytes(),
                stage: Stage::Connecting,
                answer: Vec::with_capacity(512),
            });
            self.under_way += 1;
            self.waiting += 1;
        }
    }

    /// A further request on a connection that has its answer.
    fn send_again(&mut self, token: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(token) {
            connection.due = Instant::now();
            connection.answer.clear();
            connection.stage = Stage::Waiting;
            self.waiting += 1;
            if connection.send().is_err() {
                self.close(token);
            }
        }
    }

    /// Takes a connection as far as it goes. Whether it has just been answered
    /// and is still there.
    fn step(&mut self, token: usize, flags: EpollFlags) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(token) else {
            return false;
        };
        let before = connection.stage;
        let kept = connection.advance(flags).unwrap_or(false);
        let is_answered = connection.stage == Stage::Answered;
        let just_answered = is_answered && before != Stage::Answered;
        if just_answered {
            let now = Instant::now();
            self.last_answer = now;
            self.waiting -= 1;
            let (due, worker) = (connection.due, worker(&connection.answer));
            self.outcome.latencies.push(now - due);
            *self.outcome.by_worker.entry(worker).or_default() += 1;
        }
        if !kept {
            self.close(token);
        }
        just_answered && kept
    }

    fn close(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::take) else {
            return;
        };
        self.free.push(token);
        self.under_way -= 1;
        if connection.stage != Stage::Answered {
            self.outcome.failed += 1;
            self.waiting -= 1;
        }
    }

    fn end(mut self, start: Instant) -> Outcome {
        self.outcome.failed += self.waiting as u64;
        self.outcome.took = self.last_answer.saturating_duration_since(start);
        self.outcome.latencies.sort_unstable();
        self.outcome
    }
}

impl Connection {
    fn send(&mut self) -> io::Result<()> {
        // A few dozen bytes on an idle connection: they fit, or it is broken.
        let sent = self.stream.write(&self.request)?;
        if sent == self.request.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Whether it is to be kept.
    fn advance(&mut self, flags: EpollFlags) -> io::Result<bool> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            if !flags.contains(EpollFlags::EPOLLOUT) {
                return Ok(true);
            }
            self.send()?;
            self.stage = Stage::Waiting;
        }
        let mut buffer = [0; 2048];
        let ends = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP);
        if !flags.contains(EpollFlags::EPOLLIN) && !ends {
            return Ok(true);
        }
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.answer.extend(buffer.iter().take(count));
                    if self.stage == Stage::Waiting && is_whole(&self.answer)? {
                        self.stage = Stage::Answered;
                    }
                    // Edge-triggered: less than asked for was all there is, but
                    // for an end that has come already.
                    if count < buffer.len() && !ends {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A connection that is being made, to be reset when it is closed.
fn connecting(port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

/// Where the body begins, once the header is there.
fn body(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Whether an answer is all there. One that is no success is an error.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(body) = body(answer) else {
        return Ok(false);
    };
    let header = std::str::from_utf8(answer.get(..body).unwrap_or_default())
        .map_err(|_| io::ErrorKind::InvalidData)?;
    let length = header.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if header.starts_with("HTTP/1.1 200 ") => Ok(answer.len() >= body + length),
        Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The pid that the answer consists of.
fn worker(answer: &[u8]) -> u32 {
    let body = body(answer).and_then(|body| answer.get(body..));
    let text = body.and_then(|body| std::str::from_utf8(body).ok());
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or_default()
}
