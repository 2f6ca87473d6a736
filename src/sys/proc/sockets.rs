//! Which sockets a process has, and which of all listen.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};

use super::super::guise::Guise;
use super::super::numbered::numbers_in;
use super::in_proc;

/// A table of sockets below /proc/net, of this process's network namespace.
struct Table {
    file: &'static str,
    /// The column that says what state a socket is in.
    state: usize,
    /// What it says of one that listens.
    listening: &'static str,
    inode: usize,
}

const TABLES: [Table; 3] = [
    Table {
        file: "/proc/net/tcp",
        state: 3,
        listening: "0A",
        inode: 9,
    },
    Table {
        file: "/proc/net/tcp6",
        state: 3,
        listening: "0A",
        inode: 9,
    },
    Table {
        file: "/proc/net/unix",
        state: 3,
        // __SO_ACCEPTCON
        listening: "00010000",
        inode: 6,
    },
];

/// The inodes of the sockets that a process has open.
#[must_use]
pub fn socket_inodes(pid: i32) -> Vec<u64> {
    let _guise = Guise::to_look_into(pid);
    let directory = in_proc(pid, "fd");
    let mut inodes = Vec::new();
    for descriptor in numbers_in(&directory).unwrap_or_default() {
        if let Ok(link) = fs::read_link(directory.join(descriptor.to_string())) {
            inodes.extend(link.to_str().and_then(socket_inode));
        }
    }
    inodes
}

/// As [`socket_inodes`], where that is to be known for certain: not of a
/// process that may not be looked into, and not of one that is exiting, whose
/// descriptors are gone before it is a zombie.
#[must_use]
pub fn certain_socket_inodes(pid: i32) -> Option<Vec<u64>> {
    let guise = Guise::to_look_into(pid);
    File::open(in_proc(pid, "fd")).ok()?;
    drop(guise);
    let inodes = socket_inodes(pid);
    is_running(&fs::read(in_proc(pid, "stat")).ok()?).then_some(inodes)
}

/// As [`socket_inodes`], of a process that may be gone or exiting, and then has
/// none; not of one that may not be looked into.
#[must_use]
pub fn known_socket_inodes(pid: i32) -> Option<Vec<u64>> {
    let guise = Guise::to_look_into(pid);
    let opened = File::open(in_proc(pid, "fd"));
    drop(guise);
    match opened {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let stat = fs::read(in_proc(pid, "stat"));
            let is_running = stat.is_ok_and(|stat| is_running(&stat));
            (!is_running).then(Vec::new)
        }
        Ok(_) | Err(_) => Some(socket_inodes(pid)),
    }
}

/// Whether /proc/PID/stat is of a process that is not exiting.
fn is_running(stat: &[u8]) -> bool {
    /// Of linux/sched.h, in the ninth field.
    const PF_EXITING: u64 = 4;
    // The second field is the name, which may hold anything.
    let name = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    let rest = stat.get(name..).and_then(|rest| str::from_utf8(rest).ok());
    let flags = rest.and_then(|rest| rest.split_ascii_whitespace().nth(7));
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING == 0)
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The inodes of all TCP and Unix sockets that listen.
#[must_use]
pub fn listening_inodes() -> Vec<u64> {
    let mut inodes = Vec::new();
    for table in &TABLES {
        // Without IPv6 there is no table of it.
        if let Ok(file) = File::open(table.file) {
            table.collect(BufReader::new(file), &mut inodes);
        }
    }
    inodes
}

impl Table {
    /// Reads line by line: with many connections the table is long.
    fn collect(&self, mut lines: impl BufRead, inodes: &mut Vec<u64>) {
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            // A Unix socket's path is last, and need not be UTF-8.
            inodes.extend(self.listening_inode(&String::from_utf8_lossy(&line)));
            line.clear();
        }
    }

    fn listening_inode(&self, line: &str) -> Option<u64> {
        let column = |index| line.split_ascii_whitespace().nth(index);
        (column(self.state)? == self.listening).then(|| column(self.inode)?.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0000000000000000 20 4 30 10 -1
";
    const UNIX: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/a \xff.sock
0000000000000000: 00000003 00000000 00000000 0001 03 78
";

    #[test]
    fn listening_sockets_are_told_from_others() {
        let [tcp, _, unix] = &TABLES;
        let mut inodes = Vec::new();
        tcp.collect(TCP.as_bytes(), &mut inodes);
        unix.collect(UNIX, &mut inodes);
        assert_eq!(inodes, [4242, 77]);
    }

    #[test]
    fn links_of_sockets_are_told_from_others() {
        assert_eq!(socket_inode("socket:[123]"), Some(123));
        for link in ["pipe:[123]", "/tmp/socket:[1]", "socket:[]", "socket:[1"] {
            assert_eq!(socket_inode(link), None);
        }
    }

    #[test]
    fn real_listeners_are_found() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("clinit-sockets-{}", std::process::id()));
        // An earlier process of this pid may have been killed before it cleared up.
        let _ = fs::remove_file(&path);
        let unix = UnixListener::bind(&path).unwrap();
        fs::remove_file(path).unwrap();
        let tcp = TcpListener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let inode = |fd: &dyn AsRawFd| {
            let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            socket_inode(link.to_str().unwrap()).unwrap()
        };
        let own = socket_inodes(std::process::id().try_into().unwrap());
        let listening = listening_inodes();
        for (socket, listens) in [
            (inode(&unix), true),
            (inode(&tcp), true),
            (inode(&client), false),
        ] {
            assert!(own.contains(&socket));
            assert_eq!(listening.contains(&socket), listens);
        }
    }

    #[test]
    fn what_a_process_that_exits_has_is_not_known() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!certain_socket_inodes(own).unwrap().is_empty());
        assert_eq!(certain_socket_inodes(i32::MAX), None);
        assert!(is_running(b"7 (a) b) S 1 7 7 0 -1 4194560 0"));
        assert!(!is_running(b"7 (a) b) Z 1 7 7 0 -1 4194564 0"));
        assert!(!is_running(b"7 (a"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = || fs::read(in_proc(pid, "stat")).unwrap();
        while !stat().windows(3).any(|window| window == b") Z") {
            std::thread::yield_now();
        }
        assert_eq!(certain_socket_inodes(pid), None);
        child.wait().unwrap();
    }
}
