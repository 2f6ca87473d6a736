//! Requests that fail while a server is reloaded again and again, under clinit
//! and under what people use today. Prints a table.
//!
//! `cargo bench --bench reload -- [--reloads=20] [NAME…]`
//!
//! Clients ask without a pause: two with a connection for each request, two
//! with one that is kept, which send a request again where its connection ended
//! before the first byte of the answer.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a benchmark"
)]

#[path = "../tests/servers/load.rs"]
mod load;
#[path = "share/programs.rs"]
#[expect(dead_code, reason = "the other benchmark uses the rest")]
mod programs;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use load::{Clients, Seen, Tally, under_load};

const CLIENTS: Clients = Clients {
    of_new_connections: 2,
    of_kept_connections: 2,
};

/// A reload, or a start, that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a contender is told to reload, and tells that it has.
enum Reload {
    /// By HUP; a line with this text, a number of which the nth reload writes.
    Hup { done: &'static str, lines: usize },
    /// By this command, which returns when it is done.
    Command(Vec<String>, PathBuf),
}

struct Contender {
    name: &'static str,
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
    reload: Reload,
}

fn contenders(port: u16) -> Vec<Result<Contender, String>> {
    let server = |name: &str| format!("{}/tests/servers/{name}", env!("CARGO_MANIFEST_DIR"));
    let clinit = |command: &[&str]| {
        let mut words = vec![
            env!("CARGO_BIN_EXE_clinit").to_owned(),
            "-i".into(),
            "2".into(),
            "--".into(),
        ];
        words.extend(command.iter().map(|word| (*word).to_owned()));
        words
    };
    let reloaded = || Reload::Hup {
        done: "reloaded generation=",
        lines: 1,
    };
    let delay = || ("DELAY_MS", "50".to_owned());
    let port_text = port.to_string();
    let node = [String::from("node"), server("server.js"), port_text.clone()];
    let node: Vec<&str> = node.iter().map(String::as_str).collect();
    let python = [
        String::from("/usr/bin/python3"),
        server("threaded.py"),
        port_text.clone(),
    ];
    let python: Vec<&str> = python.iter().map(String::as_str).collect();
    let gunicorn = std::env::var("GUNICORN").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/target/ci-venv/bin/gunicorn").to_owned()
    });
    let wsgi = format!("{}/tests/servers", env!("CARGO_MANIFEST_DIR"));
    let gunicorn_words = |workers: &str| -> Vec<String> {
        [
            "--chdir",
            &wsgi,
            "--workers",
            workers,
            "--bind",
            &format!("127.0.0.1:{port}"),
            "wsgi:app",
        ]
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
    };
    let plain = |name, words, environment| {
        Ok(Contender {
            name,
            words,
            environment,
            reload: reloaded(),
        })
    };
    let mut bare_gunicorn = vec![gunicorn.clone()];
    bare_gunicorn.extend(gunicorn_words("2"));
    let mut under_clinit = vec![gunicorn];
    under_clinit.extend(gunicorn_words("1"));
    let under_clinit: Vec<&str> = under_clinit.iter().map(String::as_str).collect();
    vec![
        plain(
            "clinit, Node of 50 ms, no handler",
            clinit(&node),
            vec![delay()],
        ),
        plain(
            "clinit, Node of 50 ms, graceful",
            clinit(&node),
            vec![delay(), ("GRACEFUL", "1".into())],
        ),
        plain(
            "clinit, Python of 50 ms, no handler",
            clinit(&python),
            vec![delay(), ("KEEP_ALIVE", "1".into())],
        ),
        plain("clinit, Node, no handler", clinit(&node), vec![]),
        plain("clinit, gunicorn", clinit(&under_clinit), vec![]),
        Ok(Contender {
            name: "gunicorn itself",
            words: bare_gunicorn,
            environment: vec![],
            reload: Reload::Hup {
                done: "Booting worker with pid",
                lines: 2,
            },
        }),
        pm2(
            "pm2, Node of 50 ms, no handler",
            port,
            &server("server.js"),
            vec![delay()],
        ),
        pm2(
            "pm2, Node of 50 ms, graceful",
            port,
            &server("server.js"),
            vec![delay(), ("GRACEFUL", "1".into())],
        ),
    ]
}

fn pm2(
    name: &'static str,
    port: u16,
    server: &str,
    mut environment: Vec<(&'static str, String)>,
) -> Result<Contender, String> {
    let runtime = programs::pm2()?;
    let home = std::env::temp_dir().join(format!("clinit-pm2-{}", std::process::id()));
    let client = runtime.with_file_name("pm2");
    environment.push(("PM2_HOME", home.display().to_string()));
    let words = [
        "node",
        &runtime.display().to_string(),
        server,
        "-i",
        "2",
        "--",
        &port.to_string(),
    ];
    Ok(Contender {
        name,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        environment,
        reload: Reload::Command(
            vec![
                "node".into(),
                client.display().to_string(),
                "reload".into(),
                "all".into(),
            ],
            home,
        ),
    })
}

/// One that serves; it ends with this value.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(contender: &Contender, address: SocketAddr) -> Result<Self, String> {
        let (program, arguments) = contender.words.split_first().ok_or("no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(
                contender
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no stderr")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > PATIENCE || child.try_wait().is_ok_and(|ended| ended.is_some()) {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it does not serve".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Until its second worker serves too.
        thread::sleep(Duration::from_secs(1));
        Ok(Self { child, lines })
    }

    fn reload(&self, how: &Reload) -> Result<(), String> {
        match how {
            Reload::Command(words, home) => {
                let (program, arguments) = words.split_first().ok_or("no command")?;
                let status = Command::new(program)
                    .args(arguments)
                    .env("PM2_HOME", home)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                match status {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(format!("its reload: {status}")),
                    Err(error) => Err(error.to_string()),
                }
            }
            Reload::Hup { done, lines } => {
                while self.lines.try_recv().is_ok() {}
                self.send(Signal::SIGHUP);
                let mut left = *lines;
                while left > 0 {
                    let line = self.lines.recv_timeout(PATIENCE);
                    let line = line.map_err(|_| "it says nothing of a reload".to_owned())?;
                    if line.contains("reload failed") {
                        return Err(line);
                    }
                    left -= usize::from(line.contains(done));
                }
                Ok(())
            }
        }
    }

    fn send(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.send(Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn row(name: &str, reloads: usize, seen: &Seen<Result<(), String>>, took: Duration) {
    let cell = |tally: &Tally| {
        format!(
            "{} of {}",
            tally.failures.len(),
            tally.answered + tally.failures.len()
        )
    };
    let each = took.as_secs_f64() / f64::from(u32::try_from(reloads).unwrap_or(u32::MAX));
    let note = match &seen.done {
        Ok(()) => String::new(),
        Err(why) => format!(" ({why})"),
    };
    println!(
        "| {name}{note} | {} | {} | {} | {each:.1} |",
        cell(&seen.by_new),
        cell(&seen.by_kept),
        seen.by_kept.again,
    );
    let failures = seen.by_new.failures.iter().chain(&seen.by_kept.failures);
    if let Some(first) = failures.into_iter().next() {
        eprintln!("{name}: the first failure: {first}");
    }
}

fn main() {
    let mut reloads = 20;
    let mut names = Vec::new();
    for argument in std::env::args().skip(1) {
        if let Some(count) = argument.strip_prefix("--reloads=") {
            reloads = count.parse().expect("--reloads=N");
        } else if !argument.starts_with("--") {
            names.push(argument);
        }
    }
    println!("{reloads} reloads each; failed requests of all, by client\n");
    println!("| server | a connection each | kept | sent again | s a reload |");
    println!("|---|---|---|---|---|");
    let count = contenders(0).len();
    for index in 0..count {
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let contender = match contenders(port).swap_remove(index) {
            Ok(contender) => contender,
            Err(why) => {
                println!("| not here: {why} | – | – | – | – |");
                continue;
            }
        };
        let is_wanted = |name: &String| contender.name.contains(name.as_str());
        if !names.is_empty() && !names.iter().any(is_wanted) {
            continue;
        }
        let running = match Running::start(&contender, address) {
            Ok(running) => running,
            Err(why) => {
                println!("| {} ({why}) | – | – | – | – |", contender.name);
                continue;
            }
        };
        let start = Instant::now();
        let seen = under_load(address, CLIENTS, || {
            (0..reloads).try_for_each(|_| running.reload(&contender.reload))
        });
        row(contender.name, reloads, &seen, start.elapsed());
        drop(running);
        if let Reload::Command(_, home) = &contender.reload {
            let _ = fs::remove_dir_all(home);
        }
    }
}
