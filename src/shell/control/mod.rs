//! The control socket: whoever may, asks and is answered, one JSON object a
//! line (docs/control.md).
//!
//! Nobody can hold clinit up with it: no read or write waits, what is said and
//! what is not read are bounded, and so is the number of those who talk.

mod asked;
mod clients;
mod connections;
mod observe;
mod status;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use crate::config::{Config, Instances, Sizing, Socket};
use crate::control::Readiness;
use crate::supervisor::Time;
use crate::sys::binding::set_nonblocking;
use crate::sys::control::{make_private, mount_namespace};
use crate::sys::errno::describe;
use crate::sys::listener::{self, Address, BindError, Listener};
use crate::sys::poll::Poller;
use crate::table::{Set, Table};

use super::capture::Capture;
use super::log;
use super::now;
use super::token::Token;
use clients::Client;
use observe::History;

/// The abstract name of the first clinit in a mount namespace. A second one
/// adds its pid.
pub(super) fn abstract_name() -> String {
    let namespace = mount_namespace().unwrap_or(0);
    ["clinit/mnt-", &namespace.to_string()].concat()
}

/// What a status tells that does not change.
pub(super) struct Facts {
    app: String,
    sizing: Sizing,
    share: &'static str,
    capture: &'static str,
    ready_during_drain: bool,
    started: Time,
}

impl Facts {
    pub(super) fn of(config: &Config, capture: &Capture) -> Self {
        let program = config.command.first().map(Path::new);
        let name = program.and_then(Path::file_name).and_then(OsStr::to_str);
        Self {
            app: name.unwrap_or("app").to_owned(),
            sizing: config.sizing,
            share: config.share.name(),
            capture: capture.route().map_or("off", |route| route.name()),
            ready_during_drain: config.ready_during_drain,
            started: now(),
        }
    }

    /// As of `-i max`, with the bounds that were given.
    fn at_most(&self) -> Sizing {
        Sizing {
            instances: Instances::Max,
            ..self.sizing
        }
    }
}

/// The socket, and those who talk to it.
pub(super) struct Control {
    listener: Option<Listener>,
    clients: Table<u32, Client>,
    next_client: u32,
    /// While there is no room for a further descriptor, nobody is accepted.
    paused_until: Option<Time>,
    /// Whose request the core is told just now, and what it says to it.
    asker: Option<u32>,
    refused: Option<String>,
    readiness: Readiness,
    histories: Table<u32, History>,
    /// The users whose being refused has been told: once each, and few.
    strangers: Set<u32>,
    facts: Facts,
}

impl Control {
    /// Without a socket.
    pub(super) fn closed(facts: Facts) -> Self {
        Self {
            listener: None,
            clients: Table::new(),
            next_client: 0,
            paused_until: None,
            asker: None,
            refused: None,
            readiness: Readiness::default(),
            histories: Table::new(),
            strangers: Set::new(),
            facts,
        }
    }

    /// Opens the socket. Clinit can do without: then that is said.
    pub(super) fn open(socket: &Socket, facts: Facts, poller: &Poller) -> Self {
        let mut control = Self::closed(facts);
        let listener = match socket {
            Socket::Off => return control,
            Socket::Abstract => open_abstract(),
            Socket::Path(path) => open_at(path),
        };
        let listener = listener.map_err(|error| error.to_string());
        let watched = listener.and_then(|listener| {
            set_nonblocking(listener.as_fd(), true)
                .and_then(|()| poller.add(&listener, Token::Control.pack()))
                .map_err(|error| describe(&error).to_string())?;
            Ok(listener)
        });
        match watched {
            Ok(listener) => {
                log::debug!("verbs talk to {}", listener.local());
                control.listener = Some(listener);
            }
            Err(error) => log::warn!("no control socket: {error}"),
        }
        control
    }

    /// When to accept again.
    pub(super) fn paused_until(&self) -> Option<Time> {
        self.paused_until
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.remove_path();
        }
    }
}

fn open_abstract() -> Result<Listener, BindError> {
    let name = abstract_name();
    listener::bind(&Address::UnixAbstract(name.clone().into_bytes())).or_else(|_| {
        let own = [&name, "/", &std::process::id().to_string()].concat();
        listener::bind(&Address::UnixAbstract(own.into_bytes()))
    })
}

/// A socket that somebody listens on is left to them.
fn open_at(path: &Path) -> Result<Listener, BindError> {
    let listener = listener::bind(&Address::Unix(path.to_owned()))?;
    if let Err(error) = make_private(path) {
        // Whoever connects is looked at in any case.
        log::warn!(
            "cannot make {} private: {}",
            path.display(),
            describe(&error)
        );
    }
    Ok(listener)
}
