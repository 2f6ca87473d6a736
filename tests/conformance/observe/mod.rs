//! What can be seen of an init from outside, each as a few words.

pub(crate) mod child;
pub(crate) mod ending;
pub(crate) mod line;
pub(crate) mod signals;
pub(crate) mod terminal;
pub(crate) mod tree;
pub(crate) mod verbose;

use crate::harness::{Clinit, Report, send};

/// Takes signals after all those that are looked at: where several are pending,
/// the lowest is taken first.
const FENCE: i32 = 40;

/// What processes have reported that they were sent.
#[derive(Default)]
struct Seen(Vec<Report>);

impl Seen {
    fn take_in(&mut self, init: &mut Clinit) {
        self.0.extend(init.reports_so_far());
    }

    /// The signals that this one has been sent so far, in order.
    fn of(&self, pid: i32) -> Vec<i32> {
        let of_it = |report: &&Report| report.pid == pid && report.word == "signal";
        let number = |report: &Report| report.fields.first()?.parse().ok();
        self.0.iter().filter(of_it).filter_map(number).collect()
    }

    /// Waits until this one has been sent this.
    fn until(&mut self, init: &mut Clinit, pid: i32, signal: i32) {
        init.wait_until(&format!("signal {signal} at {pid}"), |init| {
            self.take_in(init);
            self.of(pid).contains(&signal).then_some(())
        });
    }
}

/// The signals that this process has reported by the time that the fence, sent
/// to the init, has come; none where the init has ended instead.
fn until_the_fence(init: &mut Clinit, pid: i32) -> Option<Vec<i32>> {
    init.signal(FENCE);
    let mut seen = Seen::default();
    let has_come = init.wait_until("the fence, or the end", |init| {
        seen.take_in(init);
        if seen.of(pid).contains(&FENCE) {
            return Some(true);
        }
        init.has_ended().then_some(false)
    });
    let mut signals = seen.of(pid);
    signals.retain(|signal| *signal != FENCE);
    has_come.then_some(signals)
}

/// Waits until the init, whose child reports signals, has done whatever it does
/// about what has happened so far: it has come round its loop three times.
fn catch_up(init: &mut Clinit, child: i32) {
    for _ in 0..3 {
        let _ = until_the_fence(init, child);
    }
}

/// The process that has reported itself by this name.
fn named(reports: &[Report], name: &str) -> i32 {
    let of_it = |report: &&Report| report.text() == name;
    reports.iter().find(of_it).expect("its report").pid
}

/// Kills what an init has left behind that has ended.
fn kill(pid: i32) {
    send(pid, libc::SIGKILL);
}
