//! Servers that know nothing of clinit: each is started as it would be without
//! it, is told its port the way that it always is, and binds that itself.

mod build;
mod client;
pub(crate) mod drill;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) use build::DIRECTORY;
pub(crate) use drill::Drill;

use crate::harness::cannot_run;
pub(crate) use crate::harness::free_port;

/// One row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `http` of Node, on `[::]`.
    Node,
    /// `python3 -m http.server`, which does not say who answers.
    PythonModule,
    /// A thread for each connection, and a thread that binds.
    PythonThreads,
    /// A master with a worker of its own.
    Gunicorn,
    Uvicorn,
    /// Static, with epoll.
    C,
    /// In the epoll set before it is bound.
    CRegistersFirst,
    /// The same, with an interest only once it listens, as Netty has it.
    CModifies,
    /// Static, `net/http`, made by the Go on the PATH or in `GO`.
    Go,
    /// The same, made by one that listens with MPTCP, in `GO_MPTCP`.
    GoMptcp,
    /// A master with two workers of its own.
    Nginx,
    /// `com.sun.net.httpserver`.
    Java,
    /// A `Selector` that is asked before the socket is bound.
    JavaRegistersFirst,
}

impl Server {
    /// The command that starts it; `writable` is a directory that it may write
    /// to. None, which is said loudly, where it cannot be had here.
    pub(crate) fn command(self, port: u16, writable: &str) -> Option<Vec<String>> {
        match self.try_command(port, writable) {
            Ok(command) => Some(command),
            Err(why) => {
                cannot_run("RING 4", &format!("{self:?}: {why}"));
                None
            }
        }
    }

    fn try_command(self, port: u16, writable: &str) -> Result<Vec<String>, String> {
        let directory = DIRECTORY.display().to_string();
        let source = |name: &str| format!("{directory}/{name}");
        let address = format!("{}:{port}", Ipv4Addr::LOCALHOST);
        let port = port.to_string();
        let python = "/usr/bin/python3";
        let words: Vec<String> = match self {
            Self::Node => vec![build::installed("node")?, source("server.js"), port],
            Self::PythonModule => {
                let words = [python, "-m", "http.server", "--bind", "127.0.0.1"];
                let serve = ["--directory", &directory, &port];
                words
                    .iter()
                    .chain(&serve)
                    .map(|word| (*word).into())
                    .collect()
            }
            Self::PythonThreads => vec![python.into(), source("threaded.py"), port],
            Self::Gunicorn => {
                let gunicorn = build::from_pypi("gunicorn", "GUNICORN")?;
                let words = ["--chdir", &directory, "--bind", &address, "wsgi:app"];
                with_arguments(gunicorn, &words)
            }
            Self::Uvicorn => {
                let uvicorn = build::from_pypi("uvicorn", "UVICORN")?;
                let app = ["--app-dir", &directory, "asgi:app"];
                let words = ["--host", "127.0.0.1", "--port", &port];
                with_arguments(uvicorn, &[app.as_slice(), &words].concat())
            }
            Self::C => vec![build::c()?, port],
            Self::CRegistersFirst => vec![build::c()?, port, "--register-first".into()],
            Self::CModifies => {
                let option = "--register-first-and-modify";
                vec![build::c()?, port, option.into()]
            }
            Self::Go => vec![build::go()?, port],
            Self::GoMptcp => vec![build::go_with_mptcp()?, port],
            Self::Nginx => {
                let nginx = build::installed("nginx")?;
                let configuration = source(&format!("nginx-{port}.conf"));
                let template = include_str!("nginx.conf");
                let text = template
                    .replace("DIRECTORY", writable)
                    .replace("127.0.0.1:PORT", &address);
                fs::write(&configuration, text).map_err(|error| error.to_string())?;
                with_arguments(nginx, &["-e", "stderr", "-c", &configuration])
            }
            Self::Java => with_arguments(build::java()?, &["-cp", &directory, "Server", &port]),
            Self::JavaRegistersFirst => {
                with_arguments(build::java()?, &["-cp", &directory, "Selecting", &port])
            }
        };
        Ok(words)
    }

    /// Whether processes of its own outlive the first one, which clinit then
    /// asks to stop, whatever they are answering.
    fn has_children(self) -> bool {
        matches!(self, Self::Gunicorn | Self::Nginx)
    }

    /// Whether its answers tell which slot it runs in.
    fn tells_slot(self) -> bool {
        !matches!(self, Self::PythonModule | Self::Nginx)
    }

    /// Where it is asked.
    fn addresses(self, port: u16) -> Vec<SocketAddr> {
        let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let hosts = if self == Self::Node {
            vec![v4, v6]
        } else {
            vec![v4]
        };
        let at = |host| SocketAddr::new(host, port);
        hosts.into_iter().map(at).collect()
    }
}

fn with_arguments(program: String, arguments: &[&str]) -> Vec<String> {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    std::iter::once(program).chain(arguments).collect()
}

/// How many copies of each are to run: 4. `MATRIX_COPIES=1` runs one of each,
/// and expects no port to outlive it: where that fails, a server or these tests
/// are at fault, not the sharing.
pub(crate) fn copies() -> usize {
    let given = std::env::var("MATRIX_COPIES");
    given.map_or(4, |copies| copies.parse().expect("a number"))
}
