//! What a notification brings, from bytes that may be anything: an address as
//! a worker hands it to `bind(2)`, and a sequence of calls in any order. Run by
//! the property test beside this, and by `fuzz/`, which includes this file.

use super::address::{self, LONGEST};
use super::program::Program;
use super::{Arrivals, Bind, LaneId, ListenerId, Ports, Sharing};
use crate::supervisor::{Time, WorkerId};

/// How many workers, slots and addresses there are to confuse.
const WORKERS: u8 = 8;

/// Takes bytes one by one; zero once there are none.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.next()) % end.max(1)
    }
}

/// Reads the bytes as a `sockaddr` and as calls, and asserts what holds of any.
/// Returns how many lanes there have been at most.
pub(super) fn run(bytes: &[u8]) -> usize {
    let mut input = Bytes(bytes);
    let sharing = match input.next() % 2 {
        0 => Sharing::Lanes,
        _ => Sharing::OneQueue,
    };
    let arrivals = match input.next() % 2 {
        0 => Arrivals::Told,
        _ => Arrivals::Untold,
    };
    let mut ports = Ports::new(sharing, arrivals);
    let (mut lanes, mut listeners) = (Vec::new(), Vec::new());
    let (mut now, mut most) = (0_u64, 0);
    while !input.0.is_empty() {
        call(&mut ports, &mut input, &mut lanes, &mut listeners, &mut now);
        let listening: Vec<_> = ports.listening().collect();
        most = most.max(listening.len());
        let queue = u32::from(input.next());
        for (lane, program) in ports.due_programs(Time::from_millis(now), &|_| queue) {
            assert!(listening.contains(&lane), "told through a lane of no group");
            let named = match &program {
                Program::Pinned(index) => std::slice::from_ref(index),
                Program::Random(indices) => indices,
            };
            assert!(!named.is_empty(), "a program without a lane");
            let known = |index: &u32| (*index as usize) < listening.len();
            assert!(named.iter().all(known), "an index is out of range");
            assert!(!program.instructions().is_empty());
        }
        let watched = ports.watched();
        assert!(watched.iter().all(|lane| listening.contains(lane)));
        for worker in (0..WORKERS).map(worker) {
            for lane in ports.lanes_of(worker) {
                let known = listening.contains(&lane) || ports.is_bound(lane);
                assert!(known && ports.is_held(lane), "a lease of nothing");
            }
        }
    }
    most
}

fn worker(number: u8) -> WorkerId {
    WorkerId::from_index(u32::from(number % WORKERS))
}

/// One call, in any order and of any lane, whatever the state.
fn call(
    ports: &mut Ports,
    input: &mut Bytes<'_>,
    lanes: &mut Vec<LaneId>,
    listeners: &mut Vec<ListenerId>,
    now: &mut u64,
) {
    let (what, who) = (input.next(), worker(input.next()));
    let position = input.below(lanes.len());
    let lane = lanes.get(position).copied();
    let queue = u32::from(input.next() % 4);
    let queued = move |of: LaneId| if Some(of) == lane { queue } else { 0 };
    *now += u64::from(input.next()) * 4;
    let time = Time::from_millis(*now);
    match (what % 20, lane) {
        (0, _) => ports.starting(who, u32::from(input.next() % 4)),
        (1..=5, _) => bind(ports, who, input, lanes, &queued),
        (6, _) => {
            let _ = ports.admit(who, &queued);
        }
        (7, _) => ports.turn_away(who),
        (8, _) => ports.suspend(who, queue % 2 == 0),
        (9, _) => {
            let _ = ports.gone(who);
            assert!(ports.lanes_of(who).is_empty(), "it is gone, and has a lane");
        }
        (10, _) => {
            let _ = ports.listened(who, lane);
        }
        (11, _) => {
            ports.look(time, &queued);
            let doubtful = ports.doubtful(time);
            assert!(doubtful.iter().all(|of| !ports.lanes_of(*of).is_empty()));
            if queue == 0 {
                ports.held_after_all(time);
                assert_eq!(ports.doubtful(time), []);
            } else {
                ports.doubt(time);
            }
        }
        (12, _) => {
            let address = ([127, 0, 0, 1], u16::from(queue == 0)).into();
            if listeners.len() < 4 {
                let sharing = if queue % 2 == 0 {
                    Sharing::Lanes
                } else {
                    Sharing::OneQueue
                };
                listeners.push(ports.open(address, sharing));
            }
        }
        (13, _) => {
            if let Some(&listener) = listeners.get(input.below(listeners.len())) {
                match ports.lease(who, listener, &queued) {
                    Some(lane) => assert!(lanes.contains(&lane)),
                    None => lanes.push(ports.made(listener)),
                }
            }
        }
        (14, Some(lane)) => ports.joins_group(lane),
        (15, Some(lane)) => ports.arrived(lane, time, &queued),
        (16, Some(lane)) => ports.abandoned(who, lane),
        (17, Some(lane)) => ports.shut_down(lane),
        (18, Some(lane)) => ports.retiring(lane),
        (19, Some(lane)) => {
            ports.retire(lane);
            assert!(ports.listening().all(|known| known != lane));
        }
        (14.., _) => {}
    }
}

/// A `bind` of any bytes, and what the shell makes of its answer.
fn bind(
    ports: &mut Ports,
    worker: WorkerId,
    input: &mut Bytes<'_>,
    lanes: &mut Vec<LaneId>,
    queued: &dyn Fn(LaneId) -> u32,
) {
    let mut bytes = [0; LONGEST];
    let length = match input.next() {
        // One of a few that are whole, so that some meet.
        few @ 0..200 => {
            bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
            bytes[3] = few % 3 + 1;
            16
        }
        length => usize::from(length - 200) % (LONGEST + 1),
    };
    if length != 16 {
        for byte in &mut bytes {
            *byte = input.next();
        }
    }
    let Some(address) = address::parse(&bytes[..length]) else {
        return;
    };
    let stays = input.next().is_multiple_of(4);
    match ports.bind(worker, address, None, stays, queued) {
        Bind::Proceed => {}
        Bind::Lend(lane) => {
            assert!(lanes.contains(&lane), "a lane that nobody made is lent");
            ports.lent(worker, lane);
            assert!(ports.lanes_of(worker).contains(&lane), "it is not lent");
        }
        Bind::Again if stays && ports.paired(worker, address).is_some() => {
            let lane = ports.paired(worker, address);
            if let Some(lane) = lane {
                ports.lent(worker, lane);
            }
            assert_ne!(ports.paired(worker, address), lane, "it is lent twice");
        }
        Bind::Again | Bind::Join { .. } => {
            lanes.push(ports.joined(worker, address));
            assert!(ports.has_port(address.port()));
            let _ = ports.passed_over(worker, address);
        }
    }
}
