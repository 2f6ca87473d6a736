//! A client that finds out who answers, from outside: its connection's other
//! end is a socket with an inode, which some process has open. So nothing that
//! a server says has to be believed, and one that says nothing will do.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getpgid};

use crate::harness::{DEADLINE, descendants, status_field};

/// An answer and who gave it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The process group of the process that accepted the connection, which
    /// for clinit is one worker; as seen from here.
    pub(super) copy: i32,
    /// As the server knows it.
    pub(super) slot: Option<String>,
}

/// Half of a request for `/`, and the rest of it.
const REQUEST: [&[u8]; 2] = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"Connection: close\r\n\r\n",
];

/// Asks for `/` on a connection of its own. Who has it is looked up below the
/// process `init`, while the server waits for the rest of the request.
pub(super) fn ask(address: SocketAddr, init: i32) -> io::Result<Answer> {
    let mut stream = connect(address)?;
    stream.write_all(REQUEST[0])?;
    let owner = owner_of_other_end(&stream, init)?;
    let copy = getpgid(Some(Pid::from_raw(owner)))?.as_raw();
    // In a container it knows itself by another pid.
    let known_as = status_field(owner, "NSpid:").unwrap_or_default();
    let known_as = known_as.split_whitespace().last();
    stream.write_all(REQUEST[1])?;
    let body = read_answer(stream)?;
    let value = |name: &str| {
        let mut words = body.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let pid = value("pid");
    if pid.is_some() && pid != known_as {
        let reason = format!("{pid:?} answered what {owner}, inside {known_as:?}, accepted");
        return Err(io::Error::other(reason));
    }
    let slot = value("slot").filter(|slot| *slot != "-");
    let slot = slot.map(str::to_owned);
    Ok(Answer { copy, slot })
}

/// Asks for `/` and does not wait: whoever gets the connection is chosen.
pub(super) fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(address)?;
    stream.write_all(&REQUEST.concat())?;
    Ok(stream)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// The body of a good answer, which ends with the connection.
pub(super) fn read_answer(mut stream: TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let is_good = answer.split(' ').nth(1) == Some("200");
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) if is_good => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("no good answer: {answer:?}"))),
    }
}

/// The process that has accepted this connection, once one has.
fn owner_of_other_end(stream: &TcpStream, init: i32) -> io::Result<i32> {
    let (ours, theirs) = (stream.local_addr()?.port(), stream.peer_addr()?.port());
    let start = Instant::now();
    stream.set_nonblocking(true)?;
    let owner = loop {
        // Where it ends, or says something already, nobody will be found.
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(length) => {
                let said = format!("half a request was answered by {length} bytes");
                return Err(io::Error::other(said));
            }
        }
        let owner = inode(theirs, ours).and_then(|inode| owner_of(&inode, init));
        if let Some(owner) = owner {
            break owner;
        }
        if start.elapsed() > DEADLINE {
            return Err(io::Error::other("nobody accepts the connection"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    stream.set_nonblocking(false)?;
    Ok(owner)
}

/// The inode of the established socket between these ports of this machine;
/// one that was not accepted yet has none.
fn inode(local: u16, remote: u16) -> Option<String> {
    const ESTABLISHED: &str = "01";
    let ends_with = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        table.lines().find_map(|line| {
            // sl, local, remote, state, …, the tenth is the inode.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (of, to) = (fields.get(1)?, fields.get(2)?);
            let (state, inode) = (fields.get(3)?, fields.get(9)?);
            let is_it = ends_with(of, local) && ends_with(to, remote) && *state == ESTABLISHED;
            (is_it && *inode != "0").then(|| (*inode).to_owned())
        })
    })
}

fn owner_of(inode: &str, init: i32) -> Option<i32> {
    let socket = format!("socket:[{inode}]");
    descendants(init).into_iter().find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        descriptors.is_ok_and(|descriptors| {
            let mut targets =
                descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            targets.any(|target| target.as_os_str() == socket.as_str())
        })
    })
}
