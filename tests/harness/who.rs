//! Who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Clinit, DEADLINE, get};

/// The worker that has a connection, by its own word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) pid: i32,
    pub(crate) slot: String,
}

impl Who {
    /// From `pid=… slot=…` somewhere in this.
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut words = text.split_whitespace();
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            pid: value("pid")?.parse().ok()?,
            slot: value("slot")?.to_owned(),
        })
    }
}

/// Asks a worker that serves.
pub(crate) fn ask(address: SocketAddr) -> io::Result<Who> {
    let answer = get(address)?;
    Who::parse(&answer).ok_or_else(|| io::Error::other(answer))
}

/// Connects, to be told later by whom it was accepted.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Who says hello on this connection, as `hold` and `turn-down` have it.
pub(crate) fn greeted(stream: &mut TcpStream) -> io::Result<Who> {
    let mut text = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 && byte != *b"\n" {
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Who::parse(&text).ok_or_else(|| io::Error::other(text))
}

/// How many there are of each.
pub(crate) fn tally<T: Ord>(of: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    for one in of {
        *tally.entry(one).or_default() += 1;
    }
    tally
}

impl Clinit {
    /// Asks until so many workers have answered, which nobody refuses.
    #[track_caller]
    pub(crate) fn answered_by(&mut self, address: impl Into<SocketAddr>, count: usize) -> Vec<Who> {
        let address = address.into();
        let start = Instant::now();
        let mut seen = BTreeSet::new();
        while seen.len() < count {
            match ask(address) {
                Ok(who) => seen.insert(who),
                Err(error) => self.fail(&format!("{address} does not answer: {error}")),
            };
            if start.elapsed() > DEADLINE {
                self.fail(&format!("only these answer: {seen:?}"));
            }
        }
        seen.into_iter().collect()
    }

    /// Waits until clinit, started with `-v`, has done whatever it is to do
    /// about what has happened so far: a signal that means nothing to it has
    /// come round its loop three times.
    #[track_caller]
    pub(crate) fn catch_up(&mut self) {
        const RECEIVED: &str = "received SIGWINCH";
        for _ in 0..3 {
            let before = self.log().matches(RECEIVED).count();
            self.signal(libc::SIGWINCH);
            self.wait_for_nth_log(RECEIVED, before + 1);
        }
    }

    /// Waits until all of so many slots have said that they are ready.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self, workers: usize) {
        self.wait_for_nth_log("worker is ready", workers);
    }
}
