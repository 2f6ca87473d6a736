//! Datagrams from bytes that may be anything, and what holds of any. Run by
//! the property test beside this, and by `fuzz/`, which includes this file.

use super::{LONGEST_EXTENSION, LONGEST_STATUS, Message};

/// What bytes are turned into, so that random ones come to messages that say
/// something.
const PIECES: [&[u8]; 16] = [
    b"READY=",
    b"RELOADING=",
    b"STOPPING=",
    b"STATUS=",
    b"WATCHDOG=",
    b"WATCHDOG_USEC=",
    b"EXTEND_TIMEOUT_USEC=",
    b"MAINPID=",
    b"MONOTONIC_USEC=",
    b"BARRIER=",
    b"FDSTORE=",
    b"1",
    b"trigger",
    b"18446744073709551615",
    b"\n",
    b"\n",
];

/// Reads the bytes as they are, and as pieces of messages. Returns whether
/// they say anything as those.
pub(super) fn run(bytes: &[u8]) -> bool {
    check(bytes);
    let mut datagram = Vec::new();
    for &byte in bytes {
        match PIECES.get(usize::from(byte) / 8) {
            Some(piece) => datagram.extend_from_slice(piece),
            None => datagram.push(byte),
        }
    }
    check(&datagram) != Message::default()
}

fn check(datagram: &[u8]) -> Message {
    let message = Message::parse(datagram);
    if let Some(status) = &message.status {
        assert!(status.len() <= LONGEST_STATUS, "{} bytes", status.len());
        assert!(!status.chars().any(char::is_control), "{status:?}");
    }
    assert!(
        message
            .extension
            .is_none_or(|time| time <= LONGEST_EXTENSION)
    );
    assert!(message.main_pid.is_none_or(|pid| pid > 0));
    // The order of names is no matter, but for two of one name.
    let lines: Vec<&[u8]> = datagram.split(|&byte| byte == b'\n').collect();
    let name = |line: &[u8]| line.split(|&byte| byte == b'=').next().map(<[u8]>::to_vec);
    let mut names: Vec<_> = lines.iter().map(|line| name(line)).collect();
    names.sort();
    names.dedup();
    if names.len() == lines.len() {
        let mut backwards = lines;
        backwards.reverse();
        let mut other = Message::parse(&backwards.join(&b'\n'));
        other.refused = message.refused;
        assert_eq!(other, message);
    }
    message
}
