//! Which ways there are to a worker's socket, and what is said where there
//! are none.

use crate::config::Route;
use crate::sys::errno::Described;
use crate::sys::machinery::Machinery;
use crate::sys::process::{SpawnFailure, Step};

use super::super::log;

/// The ways that are left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routes(Option<Route>);

impl From<Option<Route>> for Routes {
    fn from(route: Option<Route>) -> Self {
        Self(route)
    }
}

impl Routes {
    pub(super) fn best(self) -> Option<Route> {
        self.0
    }

    pub(super) fn may_duplicate(self) -> bool {
        self.0 == Some(Route::Duplicate)
    }

    pub(super) fn may_trace(self) -> bool {
        matches!(self.0, Some(Route::Duplicate | Route::Trace))
    }
}

/// Whether workers' ports can be shared here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shell) enum Availability {
    /// They can, by this way.
    By(Route),
    /// They cannot, for this reason.
    Not(String),
}

/// What the machinery amounts to, where clinit is to go by no better way than
/// this one.
pub(in crate::shell) fn available(machinery: Machinery, at_best: Option<Route>) -> Availability {
    match machinery.filter {
        Ok(()) => {}
        // There was no room for the child that would have told: the best is
        // hoped for, and the next best taken where that fails.
        Err(failure) if failure.passes() => {
            return Availability::By(at_best.unwrap_or(Route::Duplicate));
        }
        Err(failure) => return Availability::Not(reason(failure)),
    }
    if !machinery.can_put {
        return Availability::Not("the kernel is older than 5.9".into());
    }
    if !machinery.can_read {
        return Availability::Not(
            "clinit may not look into its workers (ptrace scope, or a seccomp profile)".into(),
        );
    }
    let ways = [
        (machinery.can_duplicate, Route::Duplicate),
        (machinery.can_trace, Route::Trace),
    ];
    let mut ways = ways.into_iter().filter(|(there, _)| *there);
    let way = ways.find(|(_, way)| at_best.is_none_or(|best| *way >= best));
    Availability::By(way.map_or(Route::Replace, |(_, way)| way))
}

fn reason(failure: SpawnFailure) -> String {
    /// Of `asm-generic/errno-base.h` and `errno.h`, on both machines.
    const EBUSY: i32 = 16;
    const EINVAL: i32 = 22;
    const ENOSYS: i32 = 38;
    match (failure.step, failure.errno) {
        (Step::Filter, EBUSY) => "another supervisor around this one has a seccomp listener".into(),
        (Step::Filter, EINVAL | ENOSYS) => format!(
            "this kernel, or sandbox, has no seccomp listeners: {}",
            Described(failure.errno)
        ),
        _ => failure.to_string(),
    }
}

/// One warning, and what to do about it.
pub(in crate::shell) fn warn_of_one_worker(why: &str) {
    log::warn!(
        "workers cannot share the port that they bind: {why}; so there is one worker: \
         let clinit bind it (-l), or let each have its own (--share off)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Machinery = Machinery {
        filter: Ok(()),
        can_put: true,
        can_duplicate: true,
        can_trace: true,
        can_read: true,
    };

    #[test]
    fn the_best_way_that_there_is() {
        for (can_duplicate, can_trace, route) in [
            (true, true, Route::Duplicate),
            (true, false, Route::Duplicate),
            (false, true, Route::Trace),
            (false, false, Route::Replace),
        ] {
            let machinery = Machinery {
                can_duplicate,
                can_trace,
                ..ALL
            };
            assert_eq!(available(machinery, None), Availability::By(route));
        }
        let no_room = SpawnFailure {
            step: Step::Filter,
            errno: 11,
        };
        let untried = Machinery {
            filter: Err(no_room),
            ..ALL
        };
        let best = Availability::By(Route::Duplicate);
        assert_eq!(available(untried, None), best, "a full pids cgroup");
        for route in [Route::Duplicate, Route::Trace, Route::Replace] {
            let by = Availability::By(route);
            assert_eq!(available(ALL, Some(route)), by);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let failed = |errno| Machinery {
            filter: Err(SpawnFailure {
                step: Step::Filter,
                errno,
            }),
            ..ALL
        };
        let unreadable = Machinery {
            can_read: false,
            ..ALL
        };
        let old = Machinery {
            can_put: false,
            ..ALL
        };
        for (machinery, word) in [
            (failed(16), "another supervisor"),
            (failed(22), "no seccomp listeners"),
            (failed(38), "no seccomp listeners"),
            (failed(13), "seccomp filter"),
            (unreadable, "ptrace scope"),
            (old, "5.9"),
        ] {
            let Availability::Not(why) = available(machinery, None) else {
                panic!("{word}");
            };
            assert!(why.contains(word), "{why}");
        }
    }
}
