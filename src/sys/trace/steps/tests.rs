//! Every order of events, by a search through all states.

use super::*;

/// Where a search is: the steps, what was asked for last, and what the thread
/// has by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a thing to let go of"
)]
struct Node {
    steps: Steps,
    next: Next,
    inspected: bool,
    mapped: bool,
    sent: bool,
    closed: bool,
}

const STOPS: [Stop; 6] = [
    Stop::Trap,
    Stop::Call,
    Stop::Signal(SIGSTOP),
    Stop::Signal(15),
    Stop::Signal(31),
    Stop::Other,
];

const RESULTS: [i64; 8] = [i64::MIN, -4096, -12, -1, 0, 1, 4097, 0x7f00_0000_0000];

/// All that may happen next.
fn successors(node: Node) -> Vec<Node> {
    let mut found = Vec::new();
    let mut go = |steps: Steps, next: Next, change: &dyn Fn(&mut Node)| {
        let mut after = Node {
            steps,
            next,
            ..node
        };
        change(&mut after);
        found.push(after);
    };
    match node.next {
        Next::Done(outcome) => {
            for stop in STOPS {
                let mut steps = node.steps;
                assert_eq!(steps.stopped(stop), Next::Done(outcome));
            }
        }
        Next::Inspect => {
            for result in [Ok(()), Err(4)] {
                let mut steps = node.steps;
                let next = steps.inspected(result);
                go(steps, next, &|after| after.inspected = result.is_ok());
            }
        }
        Next::Read => {
            let State::Left(call) = node.steps.state else {
                panic!("nothing to read: {node:?}");
            };
            for result in RESULTS {
                let mut steps = node.steps;
                let next = steps.returned(result);
                go(steps, next, &|after| match call {
                    Call::Map => after.mapped = result == RESULTS[7],
                    Call::Send => after.sent = result >= 0,
                    Call::Unmap => after.mapped = false,
                    Call::Close => after.closed = true,
                });
            }
        }
        Next::Resume(_) | Next::Inject(_) => {
            for stop in STOPS {
                let mut steps = node.steps;
                let next = steps.stopped(stop);
                go(steps, next, &|_| {});
            }
            let mut steps = node.steps;
            steps.call_off();
            go(steps, Next::Resume(0), &|_| {});
        }
    }
    found
}

fn check(from: Node, to: Node) {
    match to.next {
        Next::Inject(call) => {
            assert!(to.inspected, "not where it was expected: {to:?}");
            assert!(!to.closed, "the channel is closed: {to:?}");
            match call {
                Call::Map => assert!(!to.mapped && !to.sent),
                Call::Send => assert!(to.mapped && !to.steps.called_off && to.steps.page != 0),
                Call::Unmap => assert!(to.mapped),
                Call::Close => {}
            }
        }
        Next::Done(outcome) => {
            assert!(!to.mapped, "a page is left: {to:?}");
            // There was no end to close, or no place to close it at.
            assert!(to.closed || from.next == Next::Inspect, "{from:?} {to:?}");
            assert_eq!(outcome == Outcome::CalledOff, to.steps.called_off);
            if outcome == Outcome::Sent {
                assert!(to.sent, "{to:?}");
            }
        }
        Next::Resume(signal) => {
            // Nothing of the worker's own is delivered once it is in calls
            // that are not its own, but what stops its whole process.
            let is_original = matches!(to.steps.state, State::Seized);
            assert!([0, SIGSTOP].contains(&signal) || is_original);
        }
        Next::Inspect | Next::Read => {}
    }
}

#[test]
fn in_any_order_nothing_is_left_behind() {
    for error in [None, Some(24)] {
        let steps = Steps::new(error);
        let start = Node {
            steps,
            next: Next::Resume(0),
            inspected: false,
            mapped: false,
            sent: false,
            closed: false,
        };
        let mut seen = vec![start];
        let mut at = 0;
        while at < seen.len() {
            let node = seen[at];
            at += 1;
            for after in successors(node) {
                check(node, after);
                if !seen.contains(&after) {
                    seen.push(after);
                }
            }
        }
        assert!(seen.len() > 3 && seen.len() < 1000, "{}", seen.len());
        let ended = |outcome| seen.iter().any(|node| node.next == Next::Done(outcome));
        assert_eq!(ended(Outcome::Sent), error.is_none());
        assert!(ended(Outcome::CalledOff));
        assert!(ended(Outcome::Failed(error.unwrap_or(12))));
    }
}

#[test]
fn it_takes_nine_stops() {
    let mut steps = Steps::new(None);
    assert_eq!(steps.stopped(Stop::Trap), Next::Inspect);
    let mut next = steps.inspected(Ok(()));
    for (call, result) in [
        (Call::Map, 0x7f00_0000_0000),
        (Call::Send, 1),
        (Call::Unmap, 0),
        (Call::Close, 0),
    ] {
        assert_eq!(next, Next::Inject(call));
        assert_eq!(steps.stopped(Stop::Call), Next::Resume(0));
        assert_eq!(steps.stopped(Stop::Call), Next::Read);
        next = steps.returned(result);
    }
    assert_eq!(next, Next::Done(Outcome::Sent));
}

#[test]
fn each_status_is_told() {
    for (status, stop) in [
        (0x8005, Stop::Trap),
        (0x8013, Stop::Trap),
        (0x85, Stop::Call),
        (5, Stop::Signal(5)),
        (19, Stop::Signal(19)),
        (64, Stop::Signal(64)),
        (0x405, Stop::Other),
        (0, Stop::Other),
        (0xff, Stop::Other),
    ] {
        assert_eq!(Stop::from_status(status), stop, "{status:#x}");
    }
}
