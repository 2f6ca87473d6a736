//! Long random histories, of more workers and addresses than the explorer can
//! take in, against the same model; and bytes that may be anything.

use std::net::SocketAddr;

use super::model::{KINDS, Met, Model, Move, Scope};
use super::{Arrivals, Sharing, address, notification};

/// Marsaglia's xorshift64: the same numbers on every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let byte = |_| u8::try_from(self.below(256)).unwrap();
        (0..length).map(byte).collect()
    }
}

/// Everything that the explorer takes apart, but for workers with several
/// sockets an address.
const ALL: Scope = Scope {
    ports: &[1, 2, 9229],
    slots: 4,
    successors: true,
    own: false,
    queues: 3,
    turns: true,
    time: true,
    stops: true,
    stays: true,
    several: false,
    closes: true,
    shuts_down: true,
    hangs: true,
    readiness: true,
};

/// How often a history is followed by what a sane system would do rather than
/// by anything at all.
fn weight(step: Move) -> usize {
    match step {
        Move::Start { .. } | Move::Listen { .. } => 8,
        Move::Bind { stays: false, .. } | Move::Admit(_) | Move::Wait | Move::LookForHung => 4,
        Move::Arrive(_) | Move::Accept(_) | Move::Bind { .. } => 2,
        Move::Look
        | Move::Excuse(..)
        | Move::TurnAway(_)
        | Move::Exit(_)
        | Move::Suspend(..)
        | Move::Gone(_)
        | Move::Abandon { .. }
        | Move::ShutDown(_) => 1,
    }
}

fn history(random: &mut Xorshift, sharing: Sharing, arrivals: Arrivals, own: bool, met: &mut Met) {
    let scope = Scope { own, ..ALL };
    let mut model = Model::new(sharing, arrivals, scope);
    let mut path = Vec::new();
    for _ in 0..1_000 {
        let moves = model.moves(scope).into_iter();
        let moves: Vec<_> = moves
            .flat_map(|step| std::iter::repeat_n(step, weight(step)))
            .collect();
        let step = moves[random.below(moves.len())];
        path.push(step);
        let taken = model.take(step, scope, met);
        met.insert(step.kind());
        if let Err(violation) = taken.and_then(|()| model.check(scope, met)) {
            let from = path.len().saturating_sub(50);
            panic!("{violation}\nafter {:#?}\nin {model:#?}", &path[from..]);
        }
    }
}

#[test]
fn long_random_histories_keep_the_invariants() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut met = Met::new();
    for round in 0..40 {
        for sharing in [Sharing::Lanes, Sharing::OneQueue] {
            let arrivals = [Arrivals::Told, Arrivals::Untold][round % 2];
            history(&mut random, sharing, arrivals, round % 4 < 2, &mut met);
        }
    }
    let unmet: Vec<_> = KINDS.iter().filter(|kind| !met.contains(**kind)).collect();
    assert_eq!(unmet, [&"answer: lend its pair"], "it takes several");
}

/// The `sockaddr` of an address, as `ip(7)` and `ipv6(7)` have it.
fn bytes_of(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            let parts = [&2_u16.to_ne_bytes()[..], &port, &v4.ip().octets(), &[0; 8]];
            parts.concat()
        }
        SocketAddr::V6(v6) => [
            &10_u16.to_ne_bytes()[..],
            &port,
            &v6.flowinfo().to_be_bytes(),
            &v6.ip().octets(),
            &v6.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

#[test]
fn an_address_that_is_read_is_the_one_that_was_written() {
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let length = random.below(40);
        let mut bytes = random.bytes(length);
        // Most families are none of ours.
        if let Some(family) = bytes.first_chunk_mut::<2>()
            && random.below(4) > 0
        {
            *family = [2_u16, 10][random.below(2)].to_ne_bytes();
        }
        let Some(read) = address::parse(&bytes) else {
            continue;
        };
        accepted += 1;
        let written = bytes_of(read);
        assert_eq!(address::parse(&written), Some(read), "{bytes:?}");
        assert_eq!(read.port().to_be_bytes()[..], bytes[2..4], "{bytes:?}");
        match read {
            SocketAddr::V4(v4) => assert_eq!(v4.ip().octets()[..], bytes[4..8]),
            SocketAddr::V6(v6) => assert_eq!(v6.ip().octets()[..], bytes[8..24]),
        }
    }
    assert!(accepted > 20_000, "{accepted}");
}

#[test]
fn whatever_a_notification_brings_is_survived() {
    let mut random = Xorshift(0xda94_2042_e4dd_58b5);
    let mut most = 0;
    for _ in 0..2_000 {
        let length = random.below(2_000);
        most = most.max(notification::run(&random.bytes(length)));
    }
    assert!(most > 3, "at most {most} lanes");
}
