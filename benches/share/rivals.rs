//! How each contender is started, and ended.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::procs;
use crate::programs::{Programs, pm2, source};

/// Workers that are not there by then are not coming.
const START: Duration = Duration::from_secs(10);

/// Who is asked to end has so long.
const STOP: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
pub(crate) enum Server {
    /// Node's `http.createServer`.
    Node,
    /// A static C server of one connection at a time.
    Blocking,
    /// nginx with one worker process.
    Nginx,
}

/// How several of them come by one port.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// There is only one.
    Alone,
    /// Each has a `SO_REUSEPORT` socket, made here and handed down as its
    /// standard input. Nobody steers.
    ReusePort,
    /// Under clinit with these options.
    Clinit(&'static [&'static str]),
    /// Node's cluster with this policy.
    Cluster(&'static str),
    Pm2,
}

/// A contender: its name, and how it is started.
#[derive(Clone, Copy)]
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) server: Server,
    pub(crate) workers: usize,
}

/// One that serves; it ends with this value.
pub(crate) struct Running {
    pub(crate) port: u16,
    roots: Vec<Child>,
    directory: PathBuf,
}

impl Rival {
    pub(crate) fn start(&self, programs: &Programs) -> Result<Running, String> {
        if matches!(self.way, Way::Clinit(_)) && programs.without_capture.is_none() {
            return Err("this clinit takes no part in a worker's bind".to_owned());
        }
        let port = free_port().map_err(|error| error.to_string())?;
        let directory = programs.scratch.join(port.to_string());
        let mut running = Running {
            port,
            roots: Vec::new(),
            directory,
        };
        fs::create_dir_all(running.ready()).map_err(|error| error.to_string())?;
        let commands = self.commands(programs, &running)?;
        for mut command in commands {
            let log = File::options()
                .append(true)
                .create(true)
                .open(running.log())
                .map_err(|error| error.to_string())?;
            let child = prepare(&mut command, &running, self.workers)
                .stderr(log)
                .spawn()
                .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
            running.roots.push(child);
        }
        running.await_workers(self)?;
        Ok(running)
    }

    fn commands(&self, programs: &Programs, running: &Running) -> Result<Vec<Command>, String> {
        let (program, arguments) = self.server(programs, running)?;
        let bare = || {
            let mut command = Command::new(&program);
            command.args(&arguments).stdin(Stdio::null());
            command
        };
        let node = |script: &Path| {
            let mut command = Command::new(&program);
            command.arg(script).stdin(Stdio::null());
            command
        };
        Ok(match self.way {
            Way::Alone => vec![bare()],
            Way::ReusePort => {
                // All are bound before any serves: a group that grows later
                // would take queued connections along.
                let made: io::Result<Vec<OwnedFd>> = (0..self.workers)
                    .map(|_| reuse_port_socket(running.port, self.server))
                    .collect();
                let sockets = made.map_err(|error| error.to_string())?;
                let handed_down = sockets.into_iter().map(|socket| {
                    let mut command = bare();
                    command.stdin(socket).env("LISTEN_ON_STDIN", "1");
                    command
                });
                handed_down.collect()
            }
            Way::Clinit(options) => {
                let mut command = Command::new(&programs.clinit);
                command
                    .args(["--log-level", "warn", "-i", &self.workers.to_string()])
                    .args(options)
                    .arg("--")
                    .arg(&program)
                    .args(&arguments)
                    .stdin(Stdio::null());
                vec![command]
            }
            Way::Cluster(policy) => {
                let mut command = node(&source("cluster.js"));
                command.env("NODE_CLUSTER_SCHED_POLICY", policy);
                vec![command]
            }
            Way::Pm2 => {
                let mut command = node(&pm2()?);
                command
                    .arg(source("hello.js"))
                    .args(["-i", &self.workers.to_string()])
                    .env("PM2_HOME", running.directory.join("pm2"));
                vec![command]
            }
        })
    }

    fn server(
        &self,
        programs: &Programs,
        running: &Running,
    ) -> Result<(PathBuf, Vec<PathBuf>), String> {
        match self.server {
            Server::Node => Ok((programs.node.clone()?, vec![source("hello.js")])),
            Server::Blocking => Ok((programs.blocking.clone()?, Vec::new())),
            Server::Nginx => {
                let configuration = nginx_configuration(running).map_err(|it| it.to_string())?;
                let arguments = vec![
                    "-e".into(),
                    "stderr".into(),
                    "-c".into(),
                    configuration,
                    "-p".into(),
                    running.directory.clone(),
                ];
                Ok((programs.nginx.clone()?, arguments))
            }
        }
    }
}

/// What all are started with.
fn prepare<'a>(command: &'a mut Command, running: &Running, workers: usize) -> &'a mut Command {
    command
        .env("PORT", running.port.to_string())
        .env("READY", running.ready())
        .env("WORKERS", workers.to_string())
        .stdout(Stdio::null())
        .process_group(0);
    // SAFETY: it is one prctl(2), which is fit for a child between fork and
    // exec.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?)) }
}

impl Running {
    fn ready(&self) -> PathBuf {
        self.directory.join("ready")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn await_workers(&mut self, rival: &Rival) -> Result<(), String> {
        let give_up_at = Instant::now() + START;
        loop {
            let serving = match rival.server {
                // It does not say so; its one worker either accepts or does not.
                Server::Nginx => {
                    usize::from(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok())
                }
                Server::Node | Server::Blocking => self.workers().len(),
            };
            if serving >= rival.workers {
                return Ok(());
            }
            for root in &mut self.roots {
                if let Ok(Some(status)) = root.try_wait() {
                    return Err(format!("{status}: {}", self.last_words()));
                }
            }
            if Instant::now() > give_up_at {
                let words = self.last_words();
                let wanted = rival.workers;
                return Err(format!(
                    "{serving} of {wanted} serve after {START:?}: {words}"
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The workers that have said that they listen, and live.
    fn workers(&self) -> Vec<u32> {
        let said = fs::read_dir(self.ready()).into_iter().flatten().flatten();
        said.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| procs::exists(*pid))
            .collect()
    }

    fn last_words(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(self.log()) {
            let _ = log.read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("no word").chars().take(200).collect()
    }

    /// Everything that runs on its behalf.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let roots: Vec<u32> = self.roots.iter().map(Child::id).collect();
        procs::tree(&roots)
    }

    /// What was started first: clinit, where it is clinit's.
    pub(crate) fn root(&self) -> u32 {
        self.roots.first().map_or(0, Child::id)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pids = self.pids();
        let named: Vec<_> = pids
            .into_iter()
            .map(|pid| (pid, procs::started(pid)))
            .collect();
        for root in &self.roots {
            send(root.id(), Signal::SIGTERM);
        }
        let give_up_at = Instant::now() + STOP;
        while Instant::now() < give_up_at {
            // A root that is not waited for stays.
            let roots = self.roots.iter_mut();
            let ended = roots.filter_map(|root| root.try_wait().ok()?).count();
            if ended == self.roots.len() && !named.iter().any(|(pid, _)| procs::exists(*pid)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        for (pid, started) in named {
            if started.is_some() && procs::started(pid) == started {
                send(pid, Signal::SIGKILL);
            }
        }
        for root in &mut self.roots {
            let _ = root.wait();
        }
    }
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A port that nobody has, and that no connection can get by itself: below the
/// ephemeral ones.
pub(crate) fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 30_000 {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // IPv6's wildcard, where there is IPv6, is IPv4's too.
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        if TcpListener::bind(address).is_ok()
            || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        {
            return Ok(port);
        }
    }
}

/// One of several sockets that share that port, as the server would make it.
fn reuse_port_socket(port: u16, server: Server) -> io::Result<OwnedFd> {
    let bound = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        io::Result::Ok(socket)
    };
    let v4 = || bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into());
    let v6 = || bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into());
    let socket = match server {
        // Node binds `::` where there is IPv6.
        Server::Node => v6().or_else(|_| v4())?,
        Server::Blocking | Server::Nginx => v4()?,
    };
    Ok(socket.into())
}

fn nginx_configuration(running: &Running) -> io::Result<PathBuf> {
    let directory = running.directory.to_string_lossy();
    let text = fs::read_to_string(source("nginx.conf"))?;
    // The comment names both.
    let (_, text) = text.split_once('\n').unwrap_or_default();
    let text = text
        .replace("DIRECTORY", &directory)
        .replace("PORT", &running.port.to_string());
    let path = running.directory.join("nginx.conf");
    fs::write(&path, text)?;
    Ok(path)
}
