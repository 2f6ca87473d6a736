use super::*;
use crate::port::{Arrivals, Sharing};

const TIMEOUT: Duration = Duration::from_secs(8);

fn worker(number: u32) -> WorkerId {
    WorkerId::from_index(number)
}

fn at(ms: u64) -> Time {
    Time::from_millis(1_000_000 + ms)
}

/// Workers one a slot that are ready and listen.
fn ready(sharing: Sharing, workers: u32) -> (Ports, Vec<LaneId>) {
    let mut ports = Ports::new(sharing, Arrivals::Untold);
    let listener = ports.open(([127, 0, 0, 1], 80).into(), sharing);
    let lanes = (0..workers).map(|number| {
        ports.starting(worker(number), number);
        let lane = ports.lease(worker(number), listener, &|_| 0);
        let lane = lane.unwrap_or_else(|| {
            let lane = ports.made(listener);
            ports.lent(worker(number), lane);
            lane
        });
        ports.admit(worker(number), &|_| 0);
        lane
    });
    let lanes = lanes.collect();
    ports.find_hung(TIMEOUT, at(0));
    (ports, lanes)
}

/// Looks whenever that is due, and returns who hangs and when that is known.
fn watch(
    ports: &mut Ports,
    until: u64,
    queued: &dyn Fn(LaneId, u64) -> u32,
    untouched: &dyn Fn(LaneId) -> bool,
) -> Vec<(u64, WorkerId)> {
    let mut hung = Vec::new();
    while let Some(due) = ports.next_look_for_hung().filter(|due| *due < at(until)) {
        let ms = u64::try_from(due.since(at(0)).as_millis()).unwrap();
        let _ = ports.due_programs(due, &|lane| queued(lane, ms));
        let found = ports.look_for_hung(due, &|lane| queued(lane, ms), untouched);
        hung.extend(found.hung.into_iter().map(|worker| (ms, worker)));
    }
    hung
}

const UNKNOWN: &dyn Fn(LaneId) -> bool = &|_| false;

#[test]
fn one_that_takes_nothing_is_suspected_turned_away_from_and_hung() {
    let (mut ports, lanes) = ready(Sharing::Lanes, 2);
    let stuck = lanes[0];
    let queued = |lane, _| u32::from(lane == stuck) * 3;
    assert_eq!(watch(&mut ports, 4000, &queued, UNKNOWN), []);
    let _ = watch(&mut ports, 4001, &queued, UNKNOWN);
    let told = ports.due_programs(at(4000), &|_| 0);
    assert_eq!(told.last().unwrap().1, Program::Pinned(1));
    assert_eq!(
        watch(&mut ports, 9000, &queued, UNKNOWN),
        [(8000, worker(0))]
    );
}

#[test]
fn a_queue_that_gets_shorter_once_is_taken_from() {
    let (mut ports, lanes) = ready(Sharing::Lanes, 2);
    let slow = lanes[0];
    let queued = |lane, ms: u64| {
        if lane == slow {
            9 - (ms / 5000).min(8)
        } else {
            0
        }
    };
    let queued = |lane, ms| u32::try_from(queued(lane, ms)).unwrap();
    assert_eq!(watch(&mut ports, 44_000, &queued, UNKNOWN), []);
}

/// The only one is given whatever comes: a queue that only grows may still be
/// taken from.
#[test]
fn the_only_one_is_hung_where_none_was_taken_and_not_where_it_is_overrun() {
    for (sharing, workers) in [(Sharing::Lanes, 1), (Sharing::OneQueue, 3)] {
        let (mut ports, _) = ready(sharing, workers);
        let queued = |_, ms| u32::try_from(1 + ms / 1000).unwrap();
        assert_eq!(watch(&mut ports, 100_000, &queued, UNKNOWN), []);
        let (mut ports, _) = ready(sharing, workers);
        let hung = watch(&mut ports, 9000, &queued, &|_| true);
        assert_eq!(
            hung,
            [(8000, worker(0))],
            "one of them, and then it is seen"
        );
    }
}

/// While all are stuck all are given connections.
#[test]
fn where_all_take_nothing_all_are_hung_if_that_is_certain() {
    let (mut ports, _) = ready(Sharing::Lanes, 2);
    assert_eq!(watch(&mut ports, 100_000, &|_, _| 1, UNKNOWN), []);
    let (mut ports, _) = ready(Sharing::Lanes, 2);
    let hung = watch(&mut ports, 9000, &|_, _| 1, &|_| true);
    assert_eq!(hung, [(8000, worker(0)), (8000, worker(1))]);
}

#[test]
fn who_is_excused_vouches_starts_or_leaves_is_not_hung() {
    let reasons: [fn(&mut Ports); 4] = [
        |ports| ports.excuse(worker(0), true),
        |ports| ports.vouches(worker(0)),
        |ports| ports.turn_away(worker(0)),
        |ports| drop(ports.gone(worker(0))),
    ];
    for reason in reasons {
        let (mut ports, lanes) = ready(Sharing::Lanes, 2);
        let stuck = lanes[0];
        reason(&mut ports);
        let queued = |lane, _| u32::from(lane == stuck);
        assert_eq!(watch(&mut ports, 100_000, &queued, &|_| true), []);
    }
}

/// Nothing waits for it, since it is given nothing, or nobody knows what does.
#[test]
fn who_somebody_has_stopped_is_hung_whatever_waits() {
    for (sharing, workers) in [
        (Sharing::Lanes, 2),
        (Sharing::Lanes, 1),
        (Sharing::OneQueue, 2),
    ] {
        let (mut ports, _) = ready(sharing, workers);
        let last = worker(workers - 1);
        ports.suspend(last, true);
        let hung = watch(&mut ports, 9000, &|_, _| 0, UNKNOWN);
        assert_eq!(hung, [(8000, last)]);
        let (mut ports, _) = ready(sharing, workers);
        ports.suspend(last, true);
        assert_eq!(watch(&mut ports, 7999, &|_, _| 0, UNKNOWN), []);
        ports.suspend(last, false);
        assert_eq!(watch(&mut ports, 100_000, &|_, _| 0, UNKNOWN), []);
    }
}

/// The time begins anew when it goes on.
#[test]
fn who_was_stopped_has_all_of_the_time_afterwards() {
    let (mut ports, lanes) = ready(Sharing::Lanes, 2);
    let queued = |lane, _| u32::from(lane == lanes[0]);
    ports.excuse(worker(0), true);
    assert_eq!(watch(&mut ports, 20_000, &queued, UNKNOWN), []);
    ports.excuse(worker(0), false);
    let hung = watch(&mut ports, 29_000, &queued, UNKNOWN);
    assert_eq!(hung, [(28_000, worker(0))]);
}

#[test]
fn looks_are_few_while_nothing_waits_and_never_without_end() {
    let (mut ports, _) = ready(Sharing::Lanes, 1);
    let _ = watch(&mut ports, 1, &|_, _| 0, UNKNOWN);
    assert_eq!(ports.next_look_for_hung(), Some(at(2000)));
    let _ = watch(&mut ports, 2001, &|_, _| 1, UNKNOWN);
    assert_eq!(ports.next_look_for_hung(), Some(at(3000)));
    ports.find_hung(Duration::from_millis(1), at(0));
    let _ = watch(&mut ports, 1, &|_, _| 1, UNKNOWN);
    assert_eq!(ports.next_look_for_hung(), Some(at(10)));
}
