//! The listeners that clinit makes or was given, and what passes through
//! their queues.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config::{Bound, Dialects, ListenAddress, ListenerSpec};
use crate::sys::errno::describe;
use crate::sys::listener::{self, Address, BindError, Listener};

/// The number that a worker finds its first listener under.
const FIRST_FD: i32 = 3;

/// One listener and what is known of its queue.
struct Held {
    name: Option<String>,
    socket: Listener,
    /// How many connections have arrived while it was watched.
    arrivals: u32,
}

/// All listeners, in the order of their descriptors.
#[derive(Default)]
pub(super) struct Listeners {
    held: Vec<Held>,
    watched: bool,
    /// Whether arrivals may be told of. They are sent in clinit's name, and a
    /// worker that shares the listener can have SIGKILL sent in their place:
    /// so not where it could not send that itself.
    may_announce: bool,
}

/// The state of all queues when a worker started.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline(Vec<Queue>);

#[derive(Clone, Copy, Debug)]
struct Queue {
    waiting: u32,
    arrivals: u32,
}

impl Listeners {
    /// Takes over sockets that clinit was started with, and then binds those
    /// that were asked for.
    pub(super) fn open(
        adopted: Vec<(Option<String>, Listener)>,
        specs: &[ListenerSpec],
        may_announce: bool,
    ) -> Result<Self, BindError> {
        let mut held: Vec<Held> = adopted
            .into_iter()
            .map(|(name, socket)| Held {
                name,
                socket,
                arrivals: 0,
            })
            .collect();
        for spec in specs {
            let socket = listener::bind(&address(spec, specs))?;
            held.push(Held {
                name: spec.name.clone(),
                socket,
                arrivals: 0,
            });
        }
        Ok(Self {
            held,
            watched: false,
            may_announce,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Where they listen, for people.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<_> = self.held.iter().map(|held| held.socket.local()).collect();
        addresses.join(", ")
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.held.iter().map(|held| held.socket.as_fd()).collect()
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.held.iter().map(|held| held.socket.inode())
    }

    /// What a worker's arguments may refer to.
    pub(super) fn bound(&self) -> Vec<Bound<'_>> {
        (FIRST_FD..)
            .zip(&self.held)
            .map(|(fd, held)| Bound {
                name: held.name.as_deref(),
                fd,
                port: held.socket.port(),
            })
            .collect()
    }

    /// The variables that tell a worker of them (`sd_listen_fds(3)`, einhorn's
    /// README; `LISTEN_PID` is the child's to add).
    pub(super) fn variables(&self, dialects: Dialects) -> Vec<(&'static str, String)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let count = self.held.len();
        let names: Vec<_> = self
            .held
            .iter()
            .map(|held| held.name.as_deref().unwrap_or("unknown"))
            .collect();
        let mut variables = vec![
            ("LISTEN_FDS", count.to_string()),
            ("LISTEN_FDNAMES", names.join(":")),
            ("EINHORN_FD_COUNT", count.to_string()),
            ("EINHORN_MASTER_PID", std::process::id().to_string()),
        ];
        let numbered = || (FIRST_FD..).zip(&self.held);
        if dialects.server_starter {
            let pairs: Vec<_> = numbered()
                .map(|(fd, held)| format!("{}={fd}", starter_name(&held.socket)))
                .collect();
            variables.push(("SERVER_STARTER_PORT", pairs.join(";")));
        }
        if dialects.nginx {
            let list = numbered().fold(String::new(), |mut list, (fd, _)| {
                let _ = write!(list, "{fd};");
                list
            });
            variables.push(("NGINX", list));
        }
        variables
    }

    /// einhorn's numbered variables.
    pub(super) fn numbered_variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        (0..self.held.len())
            .zip(FIRST_FD..)
            .map(|(index, fd)| (format!("EINHORN_FD_{index}"), fd.to_string()))
    }

    // ---- whether anything is taken from the queues ----
    //
    // A worker that exits right after it served is no failed start. Nobody
    // tells who took a connection, but a queue that is shorter than what was
    // there and what came has been taken from.

    /// How many wait in each queue.
    pub(super) fn waiting(&self) -> Vec<u32> {
        self.held.iter().map(|held| held.socket.queued()).collect()
    }

    /// The queues, with what waits in them and what has arrived so far.
    pub(super) fn baseline(&self, waiting: &[u32]) -> Baseline {
        let queues = self.held.iter().zip(waiting).map(|(held, &waiting)| Queue {
            waiting,
            arrivals: held.arrivals,
        });
        Baseline(queues.collect())
    }

    /// Whether a connection has certainly been taken since. Of other sockets
    /// than TCP ones it is only known whether anything waits.
    pub(super) fn taken_since(&self, baseline: &Baseline, waiting: &[u32]) -> bool {
        let queues = self.held.iter().zip(&baseline.0).zip(waiting);
        queues.into_iter().any(|((held, then), &waiting)| {
            let came = held.arrivals.wrapping_sub(then.arrivals);
            let known = held.socket.counts_its_queue() || waiting == 0;
            known && then.waiting.saturating_add(came) > waiting
        })
    }

    /// Has arrivals told, from the start of a worker until it has proved
    /// itself; never for good, since each costs a wake-up. Asked for at every
    /// start, for a worker may have turned it off.
    pub(super) fn watch(&mut self) {
        if self.may_announce {
            self.watched = true;
            self.announce(true);
        }
    }

    /// Makes each listen again that a worker has shut down (invariant 7).
    pub(super) fn revive(&self) {
        for held in &self.held {
            if let Err(error) = held.socket.revive() {
                log::warn!(
                    "cannot listen on {} again: {}",
                    held.socket.local(),
                    describe(&error)
                );
            }
        }
    }

    /// Whether nothing waits in any queue.
    pub(super) fn are_idle(&self) -> bool {
        self.held.iter().all(|held| held.socket.queued() == 0)
    }

    pub(super) fn unwatch(&mut self) {
        if std::mem::take(&mut self.watched) {
            self.announce(false);
        }
    }

    fn announce(&self, on: bool) {
        for held in &self.held {
            if let Err(error) = held.socket.announce(on) {
                log::debug!("cannot watch {}: {error}", held.socket.local());
            }
        }
    }

    /// Counts an arrival at the listener with this descriptor.
    pub(super) fn arrived(&mut self, descriptor: i32) {
        let mut held = self.held.iter_mut();
        if let Some(held) = held.find(|held| held.socket.descriptor() == descriptor) {
            held.arrivals = held.arrivals.wrapping_add(1);
        }
    }

    /// Closes clinit's copies: with a worker's last one the socket is closed,
    /// and late clients fail at once.
    pub(super) fn close(&mut self) {
        self.unwatch();
        self.held.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.socket.remove_path();
    }
}

fn starter_name(socket: &Listener) -> String {
    let local = socket.local();
    match (socket.port(), local.strip_prefix("[::]:")) {
        (Some(port), Some(_)) => port.to_string(),
        _ => local
            .trim_start_matches("udp:")
            .trim_start_matches("unix:")
            .to_owned(),
    }
}

/// An IPv6 wildcard leaves IPv4 to a listener that asks for just that.
fn address(spec: &ListenerSpec, all: &[ListenerSpec]) -> Address {
    let others = || all.iter().filter(|other| *other != spec);
    match &spec.address {
        ListenAddress::Tcp(addr) => Address::Tcp {
            addr: *addr,
            only_v6: others().any(|other| {
                matches!(other.address, ListenAddress::Tcp(other) if other.is_ipv4() && other.port() == addr.port())
            }),
        },
        ListenAddress::Udp(addr) => Address::Udp {
            addr: *addr,
            only_v6: others().any(|other| {
                matches!(other.address, ListenAddress::Udp(other) if other.is_ipv4() && other.port() == addr.port())
            }),
        },
        ListenAddress::TcpAny(port) => Address::TcpAny(*port),
        ListenAddress::UdpAny(port) => Address::UdpAny(*port),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
        ListenAddress::UnixAbstract(name) => Address::UnixAbstract(name.clone()),
    }
}
