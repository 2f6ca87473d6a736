//! The other side of the control socket: a verb, from its words to an exit
//! code.

use std::io::{self, BufRead, BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::thread;
use std::time::Duration;

use crate::config::{Show, Socket, Verb};
use crate::control::{Json, Request, check_peer, progress, table};
use crate::sys::control::{abstract_names, connect_abstract, peer};
use crate::sys::errno::describe;
use crate::sys::output::{Wrote, stdout, write_without_blocking};
use crate::sys::start::own_uid;

use super::control::abstract_name;
use super::log::say;
use super::start::print;

/// The exit code of what was refused, or has failed, or is not so.
const REFUSED: u8 = 1;

/// The exit code where there is no clinit to talk to.
const NOBODY: u8 = 3;

/// How long clinit may take to answer what it answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often `top` looks.
const REFRESH: Duration = Duration::from_secs(1);

/// What puts the cursor into a terminal's corner and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Does what is asked, and returns the exit code.
pub(super) fn run(verb: &Verb) -> u8 {
    let socket = match connect(verb) {
        Ok(socket) => socket,
        // It is not there any more, which is what is waited for.
        Err(_) if verb.request == Request::WaitStopped => return 0,
        Err(why) => {
            say(&why);
            return NOBODY;
        }
    };
    let mut talk = Talk {
        verb,
        socket: BufReader::new(socket),
        shows_progress: stdout().is_terminal(),
    };
    let told = talk.run();
    told.unwrap_or_else(|why| {
        say(&why);
        REFUSED
    })
}

// ---- finding it ----

fn connect(verb: &Verb) -> Result<UnixStream, String> {
    match &verb.socket {
        Socket::Off => Err("the control socket is off here: CLINIT_CONTROL says so".into()),
        Socket::Path(path) => {
            let shown = path.display();
            let address = SocketAddr::from_pathname(path);
            let socket = address.and_then(|address| UnixStream::connect_addr(&address));
            let socket =
                socket.map_err(|error| format!("no clinit at {shown}: {}", describe(&error)))?;
            let pid = known(&socket)?;
            match verb.pid {
                Some(wanted) if wanted != pid => {
                    Err(format!("the clinit at {shown} has pid {pid}"))
                }
                Some(_) | None => Ok(socket),
            }
        }
        Socket::Abstract => connect_by_name(verb.pid),
    }
}

/// By the name of this mount namespace, which several may share.
fn connect_by_name(pid: Option<i32>) -> Result<UnixStream, String> {
    let first = abstract_name();
    let prefix = [&first, "/"].concat();
    let mut names = vec![first];
    match pid {
        Some(pid) => names.push([&prefix, pid.to_string().as_str()].concat()),
        None => names.append(&mut abstract_names(&prefix)),
    }
    let mut why = None;
    let mut found = Vec::new();
    for name in names {
        let Ok(socket) = connect_abstract(name.as_bytes()) else {
            continue;
        };
        match known(&socket) {
            Ok(of) if pid.is_none_or(|pid| pid == of) => found.push((of, socket)),
            Ok(_) => {}
            Err(error) => why = Some(error),
        }
    }
    if let [(first, _), (second, _), ..] = found.as_slice() {
        return Err(format!(
            "several clinits run here: --pid {first}, --pid {second}"
        ));
    }
    found.pop().map(|(_, socket)| socket).ok_or_else(|| {
        why.unwrap_or_else(|| {
            "no clinit with workers runs here, in this mount and network namespace: \
             a command of a verb's name is run by clinit -- NAME"
                .into()
        })
    })
}

/// The pid of whoever is at the other end, if it may be believed.
fn known(socket: &UnixStream) -> Result<i32, String> {
    let peer = peer(socket).map_err(|error| describe(&error).to_string())?;
    check_peer(peer.pid, peer.uid, own_uid())
        .map_err(|why| ["who listens at the control socket is a stranger: ", why].concat())?;
    Ok(peer.pid)
}

// ---- talking ----

struct Talk<'a> {
    verb: &'a Verb,
    socket: BufReader<UnixStream>,
    shows_progress: bool,
}

impl Talk<'_> {
    /// Returns the exit code, or why there was no answer.
    fn run(&mut self) -> Result<u8, String> {
        self.ask()?;
        match (&self.verb.request, self.verb.show) {
            (Request::Status(_), Show::Refreshed) => self.refresh(),
            (Request::Status(_), show) => {
                let (line, answer) = self.answer()?;
                if self.verb.json || !is_granted(&answer) {
                    return Ok(self.finish(&line, &answer));
                }
                Ok(print(&table(&answer, show == Show::Whole, None)))
            }
            (Request::Events, _) => self.stream(),
            _ => {
                let Some((line, answer)) = self.follow()? else {
                    // It has ended, which only one of them waits for.
                    let ended = self.verb.request == Request::WaitStopped;
                    return if ended {
                        Ok(0)
                    } else {
                        Err("clinit ended before it answered".into())
                    };
                };
                Ok(self.finish(&line, &answer))
            }
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        let waits = matches!(
            self.verb.request,
            Request::Reload | Request::Events | Request::WaitReady | Request::WaitStopped
        );
        let socket = self.socket.get_ref();
        let patience = (!waits).then_some(PATIENCE);
        // Without it an answer that never comes is waited for longer.
        let _ = socket.set_read_timeout(patience);
        let line = [&self.verb.request.line(), "\n"].concat();
        match write_without_blocking(socket.as_fd(), line.as_bytes()) {
            // Who is hung up on finds out by reading.
            Wrote::All | Wrote::Closed => Ok(()),
            Wrote::Partly(_) | Wrote::NotNow => Err("clinit takes no request".into()),
        }
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<(String, Json)>, String> {
        let mut line = String::new();
        let length = match self.socket.read_line(&mut line) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(format!(
                    "no answer from clinit within {} s",
                    PATIENCE.as_secs()
                ));
            }
            Err(error) => return Err(format!("no answer from clinit: {}", describe(&error))),
        };
        if length == 0 {
            return Ok(None);
        }
        let json = Json::parse(&line);
        let json = json.ok_or("what clinit answers is not understood")?;
        Ok(Some((line, json)))
    }

    fn answer(&mut self) -> Result<(String, Json), String> {
        self.line()?
            .ok_or_else(|| "clinit ended before it answered".into())
    }

    /// The answer, which events may come before; none at the end.
    fn follow(&mut self) -> Result<Option<(String, Json)>, String> {
        while let Some((line, json)) = self.line()? {
            if json.get("ok").is_some() {
                return Ok(Some((line, json)));
            }
            if self.verb.json {
                print(&line);
            } else if self.shows_progress {
                print(&[&progress(&json), "\n"].concat());
            }
        }
        Ok(None)
    }

    /// Prints events until clinit ends.
    fn stream(&mut self) -> Result<u8, String> {
        let (line, answer) = self.answer()?;
        if !is_granted(&answer) {
            return Ok(self.finish(&line, &answer));
        }
        while let Some((line, _)) = self.line()? {
            if print(&line) != 0 {
                return Ok(REFUSED);
            }
        }
        Ok(0)
    }

    /// Shows the status in place, until somebody ends it or clinit ends.
    fn refresh(&mut self) -> Result<u8, String> {
        let mut earlier = None;
        loop {
            let (line, answer) = self.answer()?;
            if !is_granted(&answer) {
                return Ok(self.finish(&line, &answer));
            }
            let shown = if self.verb.json {
                line
            } else {
                let clear = if self.shows_progress { CLEAR } else { "" };
                [clear, &table(&answer, true, earlier.as_ref())].concat()
            };
            if print(&shown) != 0 {
                return Ok(REFUSED);
            }
            earlier = Some(answer);
            thread::sleep(REFRESH);
            self.ask()?;
        }
    }

    /// Shows an answer and returns what it amounts to.
    fn finish(&self, line: &str, answer: &Json) -> u8 {
        if self.verb.json {
            print(line);
        }
        if is_granted(answer) {
            let told = progress(answer);
            let told = told.trim_ascii_start();
            if !self.verb.json && !told.is_empty() {
                return print(&[told, "\n"].concat());
            }
            return 0;
        }
        if !self.verb.json {
            say(&answer.text("error").unwrap_or("it is refused"));
        }
        REFUSED
    }
}

fn is_granted(answer: &Json) -> bool {
    answer.flag("ok") == Some(true)
}
