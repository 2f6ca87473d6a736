//! The listeners that clinit makes or was given, and hands down.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config::{Bound, Dialects, ListenAddress, ListenerSpec, Share};
use crate::port::{ListenerId, Sharing};
use crate::supervisor::WorkerId;
use crate::sys::binding::give_to;
use crate::sys::errno::describe;
use crate::sys::listener::{self, Address, BindError, Listener};

use super::handover::{self, Claimed};
use super::lanes::Lanes;
use super::log;
use super::manager::Manager;

/// The number that a worker finds its first listener under.
const FIRST_FD: i32 = 3;

/// What there is of a listener.
enum Kind {
    /// One socket, which every worker has: no TCP, so nothing that could be
    /// steered.
    Plain {
        socket: Listener,
        /// How many connections have arrived while that was told.
        arrivals: u32,
    },
    /// Lanes, of which each worker has one.
    Lanes(ListenerId),
}

/// One listener.
struct Held {
    name: Option<String>,
    /// Where it listens, as `--listen` takes it.
    local: String,
    port: Option<u16>,
    kind: Kind,
    /// Whether the service manager keeps it for the next clinit.
    is_kept: bool,
}

/// All listeners, in the order of their descriptors.
#[derive(Default)]
pub(super) struct Listeners {
    held: Vec<Held>,
    told: bool,
    /// At the end, those whose queues are still to be emptied.
    emptied: Vec<Held>,
}

impl Listeners {
    /// Takes over sockets that clinit was started with, and then binds those
    /// that were asked for. Those are the workers' user's, if that is another
    /// one: all that share a port have one owner, and a worker's own socket may
    /// have to join.
    pub(super) fn open(
        adopted: Vec<(Option<String>, Listener)>,
        specs: &[ListenerSpec],
        (share, owner): (Share, Option<u32>),
        lanes: &mut Lanes,
        manager: &mut Manager,
    ) -> Result<Self, BindError> {
        let mut listeners = Self::default();
        let addresses: Vec<_> = specs.iter().map(|spec| address(spec, specs)).collect();
        let (claimed, others) = handover::distribute(adopted, specs, &addresses, manager);
        for (name, socket) in others {
            // Others may have it too, who expect it as it is.
            listeners.hold(name, socket, Share::Queue, lanes);
        }
        for ((spec, address), claimed) in specs.iter().zip(&addresses).zip(claimed) {
            let mut socket = match claimed {
                Some(Claimed::Activated(socket)) => {
                    listeners.hold(spec.name.clone(), socket, Share::Queue, lanes);
                    continue;
                }
                Some(Claimed::Kept(socket)) => socket,
                None => listener::bind(address)?,
            };
            if let Some(owner) = owner
                && let Err(error) = give_to(socket.as_fd(), owner)
            {
                log::debug!("cannot give a socket to user {owner}: {}", describe(&error));
            }
            let name = handover::kept_name(spec, address);
            let is_kept = manager.keep(&name, socket.as_fd());
            if is_kept {
                socket.leave_to_others();
            }
            listeners.hold(spec.name.clone(), socket, share, lanes);
            if let Some(held) = listeners.held.last_mut() {
                held.is_kept = is_kept;
            }
        }
        Ok(listeners)
    }

    fn hold(&mut self, name: Option<String>, socket: Listener, share: Share, lanes: &mut Lanes) {
        let (local, port) = (socket.local(), socket.port());
        let kind = match socket.address().filter(|_| socket.counts_its_queue()) {
            None => Kind::Plain {
                socket,
                arrivals: 0,
            },
            Some(address) => {
                // It is bound, so nobody else has the address: from here on
                // it can be shared.
                let sharing = match (socket.share_port(), share) {
                    (Ok(()), Share::Auto | Share::Slots) => Sharing::Lanes,
                    (Ok(()), Share::Queue | Share::Off) | (Err(_), _) => Sharing::OneQueue,
                };
                let listener = lanes.change().open(address, sharing);
                let lane = lanes.change().made(listener);
                lanes.hold(lane, socket);
                Kind::Lanes(listener)
            }
        };
        self.held.push(Held {
            name,
            local,
            port,
            kind,
            is_kept: false,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Where they listen, for people.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<_> = self.held.iter().map(|held| held.local.as_str()).collect();
        addresses.join(", ")
    }

    /// Where those listen that have no lanes.
    pub(super) fn plain_addresses(&self) -> impl Iterator<Item = String> + '_ {
        self.plain().map(|(_, socket, _)| socket.local())
    }

    /// Those that have lanes.
    pub(super) fn with_lanes(&self) -> impl Iterator<Item = ListenerId> + '_ {
        self.held.iter().filter_map(|held| match held.kind {
            Kind::Plain { .. } => None,
            Kind::Lanes(listener) => Some(listener),
        })
    }

    /// What a worker finds as its descriptors, once it has its lanes.
    pub(super) fn descriptors<'a>(
        &'a self,
        worker: WorkerId,
        lanes: &'a Lanes,
    ) -> Vec<BorrowedFd<'a>> {
        let of = |held: &'a Held| match &held.kind {
            Kind::Plain { socket, .. } => Some(socket.as_fd()),
            Kind::Lanes(listener) => {
                let lane = lanes.ports.lane_of(worker, *listener)?;
                lanes.descriptor(lane)
            }
        };
        self.held.iter().filter_map(of).collect()
    }

    /// The inodes of the sockets that have no lanes.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.plain().map(|(_, socket, _)| socket.inode())
    }

    fn plain(&self) -> impl Iterator<Item = (usize, &Listener, u32)> + '_ {
        let held = self.held.iter().enumerate();
        held.filter_map(|(index, held)| match &held.kind {
            Kind::Plain { socket, arrivals } => Some((index, socket, *arrivals)),
            Kind::Lanes(_) => None,
        })
    }

    /// What a worker's arguments may refer to.
    pub(super) fn bound(&self) -> Vec<Bound<'_>> {
        (FIRST_FD..)
            .zip(&self.held)
            .map(|(fd, held)| Bound {
                name: held.name.as_deref(),
                fd,
                port: held.port,
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
                .map(|(fd, held)| format!("{}={fd}", starter_name(held)))
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

    // ---- queues of the sockets that have no lanes ----

    /// How many wait at each, and how many have arrived while that was told.
    /// Of such a socket it is only known whether anything waits.
    pub(super) fn queues(&self) -> impl Iterator<Item = (usize, u32, u32)> + '_ {
        self.plain()
            .map(|(index, socket, arrivals)| (index, socket.queued(), arrivals))
    }

    /// Has arrivals told, or not.
    pub(super) fn tell_arrivals(&mut self, wanted: bool) {
        if std::mem::replace(&mut self.told, wanted) == wanted {
            return;
        }
        for (_, socket, _) in self.plain() {
            if let Err(error) = socket.announce(wanted) {
                log::debug!("cannot watch {}: {}", socket.local(), describe(&error));
            }
        }
    }

    /// Counts an arrival at the socket with this descriptor.
    pub(super) fn arrived(&mut self, descriptor: i32) {
        for held in &mut self.held {
            if let Kind::Plain { socket, arrivals } = &mut held.kind
                && socket.descriptor() == descriptor
            {
                *arrivals = arrivals.wrapping_add(1);
            }
        }
    }

    // ---- the end ----

    /// Closes clinit's copies: with a worker's last one the socket is closed.
    /// A Unix socket's path goes at once, so that late clients fail, and its
    /// copy when those that wait there are gone.
    pub(super) fn close(&mut self) {
        self.tell_arrivals(false);
        self.emptied = std::mem::take(&mut self.held);
        self.emptied.retain(|held| match &held.kind {
            Kind::Plain { socket, .. } => {
                socket.remove_path();
                socket.has_queue_of_its_own()
            }
            Kind::Lanes(_) => false,
        });
    }

    /// Whether anything waits, at the end, that workers are to take.
    pub(super) fn awaits(&self) -> bool {
        self.emptied.iter().any(|held| match &held.kind {
            Kind::Plain { socket, .. } => socket.queued() > 0,
            Kind::Lanes(_) => false,
        })
    }

    /// Nobody is left who waits for that.
    pub(super) fn let_go(&mut self) {
        self.emptied.clear();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Kind::Plain { socket, .. } = &self.kind
            && !self.is_kept
        {
            socket.remove_path();
        }
    }
}

fn starter_name(held: &Held) -> String {
    let local = held.local.as_str();
    if let (Some(port), Some(_)) = (held.port, local.strip_prefix("[::]:")) {
        return port.to_string();
    }
    let plain = local.strip_prefix("udp:").or(local.strip_prefix("unix:"));
    plain.unwrap_or(local).to_owned()
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
