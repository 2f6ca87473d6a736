//! Those who talk to the control socket: accepting, reading, writing.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::control::{LONGEST_REQUEST, Lines, Request, check_peer, refusal};
use crate::sys::control::{Peer, accept, peer};
use crate::sys::errno::describe;
use crate::sys::output::{Wrote, write_without_blocking};
use crate::sys::start::own_uid;

use super::super::log;
use super::super::token::Token;
use super::super::{Shell, now};
use super::Control;

/// How many may talk at a time.
const MOST_CLIENTS: usize = 64;

/// How many are accepted before anything else is looked at.
const MOST_A_TURN: u32 = 64;

/// How much a client may leave unread before it is told something more.
const MOST_UNREAD: usize = 64 * 1024;

/// How many users' strangers are told of.
const MOST_STRANGERS: usize = 8;

/// How long nobody is accepted where there is no room for another descriptor.
const PAUSE: Duration = Duration::from_secs(1);

/// Somebody who talks.
pub(super) struct Client {
    socket: UnixStream,
    said: Lines,
    unread: Vec<u8>,
    /// Whether it is watched for room to write.
    waits_for_room: bool,
    pub(super) role: Role,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To say something.
    Asking,
    /// For whatever happens.
    Events,
    /// For the end of the reload to this generation, once it is known.
    Reload(Option<u32>),
    /// For clinit to be ready.
    Ready,
    /// For clinit's end.
    Stopped,
}

/// Whether a client is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Yes,
    No,
}

impl Shell {
    /// Takes in those who have connected.
    pub(in crate::shell) fn accept_clients(&mut self) {
        for _ in 0..MOST_A_TURN {
            let Some(listener) = &self.control.listener else {
                return;
            };
            match accept(listener) {
                Ok(Some(socket)) => self.take_in_client(socket),
                Ok(None) => return,
                Err(error) => {
                    // It would be reported again and again.
                    log::debug!("nobody is heard for a while: {}", describe(&error));
                    let _ = self.poller.remove(listener);
                    self.control.paused_until = Some(now() + PAUSE);
                    return;
                }
            }
        }
    }

    /// Accepts again, where that is due.
    pub(in crate::shell) fn resume_accepting(&mut self) {
        if self
            .control
            .paused_until
            .is_some_and(|until| until <= now())
            && let Some(listener) = &self.control.listener
        {
            self.control.paused_until = None;
            if self.poller.add(listener, Token::Control.pack()).is_err() {
                self.control.paused_until = Some(now() + PAUSE);
            }
        }
    }

    fn take_in_client(&mut self, socket: UnixStream) {
        let stranger = match peer(&socket) {
            Ok(peer) => check_peer(peer.pid, peer.uid, own_uid())
                .err()
                .inspect(|why| self.control.tell_of_a_stranger(peer, why)),
            Err(_) => Some("the kernel does not say who it is"),
        };
        if let Some(why) = stranger {
            turn_away(
                &socket,
                &["you are not heard: the asking process: ", why].concat(),
            );
            return;
        }
        if self.control.clients.len() >= MOST_CLIENTS && !self.drop_oldest() {
            turn_away(&socket, "too many wait for something here: try again later");
            return;
        }
        let id = self.control.next_client;
        self.control.next_client = id.wrapping_add(1);
        if let Err(error) = self.poller.add(&socket, Token::Client(id).pack()) {
            log::debug!("cannot watch a client: {}", describe(&error));
            return;
        }
        let client = Client {
            socket,
            said: Lines::default(),
            unread: Vec::new(),
            waits_for_room: false,
            role: Role::Asking,
        };
        self.control.clients.insert(id, client);
    }

    /// Drops the one that has been there the longest and waits for nothing, if
    /// there is one.
    fn drop_oldest(&mut self) -> bool {
        let idle = self.control.with_role(|role| role == Role::Asking);
        let oldest = idle.first().copied();
        if let Some(id) = oldest {
            self.drop_client(id);
        }
        oldest.is_some()
    }

    pub(super) fn drop_client(&mut self, id: u32) {
        if let Some(client) = self.control.clients.remove(&id) {
            // A child before its exec may hold a copy.
            let _ = self.poller.remove(&client.socket);
        }
    }

    /// Something happened to a client: it said something, has room, or is gone.
    pub(in crate::shell) fn serve_client(&mut self, id: u32) {
        if self.hear_client(id) == There::No || self.write_to(id) == There::No {
            self.drop_client(id);
            return;
        }
        // What it said before it was done with what it said before that.
        while let Some(client) = self.control.clients.get_mut(&id) {
            if client.role != Role::Asking || !client.unread.is_empty() {
                if client.said.waiting() > LONGEST_REQUEST {
                    self.drop_client(id);
                }
                return;
            }
            match client.said.take_line() {
                Ok(None) => return,
                Ok(Some(line)) => match Request::parse(&line) {
                    Ok(request) => self.answer(id, request),
                    Err(why) => self.send(id, &refusal(&why)),
                },
                Err(_) => {
                    let accepted = "accepted is a line of at most 4096 bytes";
                    turn_away(&client.socket, accepted);
                    self.drop_client(id);
                }
            }
        }
    }

    /// Takes in a part of what a client says.
    fn hear_client(&mut self, id: u32) -> There {
        let Some(client) = self.control.clients.get_mut(&id) else {
            return There::No;
        };
        let mut buffer = [0; LONGEST_REQUEST];
        match client.socket.read(&mut buffer) {
            Ok(0) => There::No,
            Ok(length) => {
                client
                    .said
                    .take_in(buffer.get(..length).unwrap_or_default());
                There::Yes
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => There::Yes,
            Err(_) => There::No,
        }
    }

    /// Tells a client something. Who does not read is dropped.
    pub(super) fn send(&mut self, id: u32, line: &str) {
        let Some(client) = self.control.clients.get_mut(&id) else {
            return;
        };
        let has_room = client.unread.len() <= MOST_UNREAD;
        client.unread.extend_from_slice(line.as_bytes());
        client.unread.push(b'\n');
        if !has_room || self.write_to(id) == There::No {
            self.drop_client(id);
        }
    }

    fn write_to(&mut self, id: u32) -> There {
        let Some(client) = self.control.clients.get_mut(&id) else {
            return There::No;
        };
        match write_without_blocking(client.socket.as_fd(), &client.unread) {
            // Its memory as well: one status of many workers is long.
            Wrote::All => client.unread = Vec::new(),
            Wrote::Partly(length) => drop(client.unread.drain(..length)),
            Wrote::NotNow => {}
            Wrote::Closed => return There::No,
        }
        let waits = !client.unread.is_empty();
        if client.waits_for_room != waits {
            client.waits_for_room = waits;
            let token = Token::Client(id).pack();
            if self
                .poller
                .watch_room(&client.socket, token, waits)
                .is_err()
            {
                return There::No;
            }
        }
        There::Yes
    }
}

impl Control {
    pub(super) fn with_role(&self, wanted: fn(Role) -> bool) -> Vec<u32> {
        let clients = self.clients.iter();
        clients
            .filter(|(_, client)| wanted(client.role))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn set_role(&mut self, id: u32, role: Role) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.role = role;
        }
    }

    pub(super) fn role(&self, id: u32) -> Option<Role> {
        self.clients.get(&id).map(|client| client.role)
    }

    fn tell_of_a_stranger(&mut self, Peer { pid, uid }: Peer, why: &str) {
        if self.strangers.len() < MOST_STRANGERS && self.strangers.insert(uid) {
            log::warn!(pid, uid; "somebody who talks to the control socket is not heard: {why}");
        }
    }
}

/// Says why, if there is room for it, and hangs up.
fn turn_away(socket: &UnixStream, why: &str) {
    let line = [&refusal(why), "\n"].concat();
    let _ = write_without_blocking(socket.as_fd(), line.as_bytes());
}
