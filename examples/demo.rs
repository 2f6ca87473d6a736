//! What clinit does, to try by hand: `cargo demo`.
//!
//! Started plainly it explains itself and becomes clinit, with this same
//! program as the server: `demo serve` is what each worker runs. The server
//! knows one thing of its surroundings: its listening socket is descriptor 3.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1:8080";

/// Connections that one worker serves at a time.
const THREADS: usize = 4;

/// A client that says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request line and header section of more bytes than this is none.
const LONGEST_REQUEST: u64 = 16 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let outcome = if arguments.first().is_some_and(|first| first == "serve") {
        serve()
    } else {
        become_clinit(arguments)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error}");
        ExitCode::FAILURE
    })
}

fn become_clinit(given: Vec<OsString>) -> io::Result<ExitCode> {
    let server = env::current_exe()?;
    let mut arguments: Vec<OsString> = vec!["clinit".into()];
    if !given
        .iter()
        .any(|word| is_option(word, "-i", "--instances"))
    {
        arguments.extend(["-i".into(), "max".into()]);
    }
    if !given.iter().any(|word| is_option(word, "-l", "--listen")) {
        arguments.extend(["-l".into(), ADDRESS.into()]);
    }
    explain(&address(&given));
    arguments.extend(given);
    arguments.extend(["--".into(), server.into(), "serve".into()]);
    let inherited = clinit::shell::Inherited::record();
    Ok(ExitCode::from(clinit::shell::run(&arguments, inherited)))
}

/// Whether `word` is that option, its value attached or not.
fn is_option(word: &OsStr, short: &str, long: &str) -> bool {
    let bytes = word.as_encoded_bytes();
    let long_with_value = bytes.strip_prefix(long.as_bytes());
    bytes.starts_with(short.as_bytes())
        || long_with_value.is_some_and(|rest| matches!(rest, [] | [b'=', ..]))
}

/// Where a client reaches the demo.
fn address(given: &[OsString]) -> String {
    let mut words = given.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let value = if word == "-l" || word == "--listen" {
            words.next()
        } else {
            let attached = word.strip_prefix("--listen=").or(word.strip_prefix("-l"));
            attached.map(|value| value.trim_start_matches('=').to_owned().into())
        };
        if let Some(port) = value.as_deref().and_then(|value| value.rsplit(':').next()) {
            return format!("127.0.0.1:{port}");
        }
    }
    ADDRESS.to_owned()
}

fn explain(address: &str) {
    let clinit = process::id();
    let text = format!(
        "\
A small HTTP server as the workers of clinit, all of them on http://{address}

In a second terminal:
  while curl -s {address}; do sleep 0.1; done
                            which worker answers
  kill -9 PID               a PID from such an answer: the slot gets a new worker
  curl {address}/exit
                            an answer, and then that worker fails
  curl {address}/slow
                            an answer that takes 2 s
  kill -TTIN {clinit}          one worker more; -TTOU: one fewer
Here:
  Ctrl-C                    an orderly end

"
    );
    // Where nobody reads it, the demo is one all the same.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// What a worker says of itself.
struct Worker {
    slot: String,
    slots: String,
    generation: String,
    answers: AtomicU32,
}

impl Worker {
    fn introduction(&self) -> String {
        let answers = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        format!(
            "slot {} of {}, pid {}, generation {}, answer {answers}\n",
            self.slot,
            self.slots,
            process::id(),
            self.generation,
        )
    }
}

fn serve() -> io::Result<ExitCode> {
    let own_pid = process::id().to_string();
    if variable("LISTEN_PID") != own_pid || variable("LISTEN_FDS") != "1" {
        return Err(io::Error::other(
            "descriptor 3 is no listener for this process: LISTEN_FDS",
        ));
    }
    // SAFETY: descriptor 3 was handed down for this process (LISTEN_PID), and
    // nothing else in it owns it.
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    let worker = Worker {
        slot: variable("CLINIT_SLOT"),
        slots: variable("CLINIT_SLOTS"),
        generation: variable("CLINIT_GENERATION"),
        answers: AtomicU32::new(0),
    };
    thread::scope(|scope| {
        for _ in 1..THREADS {
            let accepts = || accept(&listener, &worker);
            // Fewer threads do as well, where no more are to be had.
            let _ = thread::Builder::new().spawn_scoped(scope, accepts);
        }
        accept(&listener, &worker);
    });
    Ok(ExitCode::SUCCESS)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| "?".to_owned())
}

/// Serves one connection after the other, until the worker is told to end.
fn accept(listener: &TcpListener, worker: &Worker) {
    loop {
        match listener.accept() {
            // What goes wrong with one client is no other's business.
            Ok((client, _)) => drop(answer(&client, worker)),
            // Out of descriptors, say. Trying again at once would spin.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn answer(client: &TcpStream, worker: &Worker) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let request = read_request(client)?;
    let path = request.split(' ').nth(1).unwrap_or_default();
    match path {
        "/" => respond(client, "200 OK", &worker.introduction()),
        "/slow" => {
            thread::sleep(Duration::from_secs(2));
            respond(client, "200 OK", &worker.introduction())
        }
        "/exit" => {
            respond(client, "200 OK", &worker.introduction())?;
            process::exit(1)
        }
        _ => respond(client, "404 Not Found", "try /, /slow or /exit\n"),
    }
}

/// The request line, once the empty line after the headers is there.
fn read_request(client: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(client.take(LONGEST_REQUEST));
    let mut request = String::new();
    lines.read_line(&mut request)?;
    let mut header = String::new();
    while lines.read_line(&mut header)? > 0 {
        if header.trim_end().is_empty() {
            return Ok(request);
        }
        header.clear();
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn respond(mut client: &TcpStream, status: &str, body: &str) -> io::Result<()> {
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(response.as_bytes())?;
    client.shutdown(Shutdown::Write)
}
