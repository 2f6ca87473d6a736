//! A number of workers that follows the CPUs which the container may use.

use std::time::Duration;

use crate::config::{Instances, Sizing};
use crate::supervisor::{Event, Time};
use crate::sys::affinity::allowed_cpus;
use crate::sys::cgroup::{Root, cpu_files, memory_limit};
use crate::sys::errno::describe;
use crate::sys::inotify::Watch;
use crate::sys::poll::Poller;

use super::cpus::Cpus;
use super::log;
use super::token::Token;
use super::{Shell, now};

/// How often the files are read where nobody tells of a change.
const PERIOD: Duration = Duration::from_secs(30);

/// How clinit learns that the CPUs have changed.
enum Source {
    /// It does not: so many workers were asked for, or there is no file that
    /// says how many CPUs there are.
    Nobody,
    /// It is told.
    Told(Watch),
    /// It looks.
    Looks { next: Time },
}

/// What the number of workers follows.
pub(super) struct Resizing {
    sizing: Sizing,
    /// What it came to last. Nothing is decided anew by a file that is written
    /// and says the same: somebody may have scaled meanwhile.
    workers: u32,
    source: Source,
}

impl Resizing {
    /// Follows the CPUs from here on, where the number of workers depends on
    /// them.
    pub(super) fn new(sizing: Sizing, poller: &Poller) -> Self {
        Self {
            sizing,
            workers: 0,
            source: source(&sizing, poller),
        }
    }

    /// So many workers are started.
    pub(super) fn begin(&mut self, workers: u32) {
        self.workers = workers;
    }

    /// When to look.
    pub(super) fn next_look(&self) -> Option<Time> {
        match self.source {
            Source::Looks { next } => Some(next),
            Source::Nobody | Source::Told(_) => None,
        }
    }

    /// Counts the CPUs, and returns how many workers that is, if that has
    /// changed.
    fn count(&mut self) -> Option<u32> {
        let cpus = Cpus::count(&self.sizing);
        let memory = memory_limit(&Root::system()).map(|(limit, _)| limit);
        let workers = self.sizing.workers(cpus.count, memory);
        if std::mem::replace(&mut self.workers, workers) == workers {
            return None;
        }
        log::info!("{cpus}");
        Some(workers)
    }
}

fn source(sizing: &Sizing, poller: &Poller) -> Source {
    if matches!(sizing.instances, Instances::Exactly(_)) {
        return Source::Nobody;
    }
    let files = cpu_files(&Root::system());
    if files.is_empty() {
        return Source::Nobody;
    }
    let watched = Watch::of(&files).and_then(|watch| {
        poller.add(&watch, Token::Cpus.pack())?;
        Ok(watch)
    });
    match watched {
        Ok(watch) => Source::Told(watch),
        Err(error) => {
            let (why, period) = (describe(&error), PERIOD.as_secs());
            log::info!("the CPU limit is read every {period} s: cannot watch it: {why}");
            Source::Looks {
                next: now() + PERIOD,
            }
        }
    }
}

impl Shell {
    /// Tells the core of CPUs that have come or gone: something was written,
    /// or it is time to look.
    pub(super) fn count_cpus(&mut self) {
        match &mut self.resizing.source {
            Source::Nobody => return,
            Source::Told(watch) => watch.clear(),
            Source::Looks { next } => *next = now() + PERIOD,
        }
        self.plan.repin(allowed_cpus());
        if let Some(workers) = self.resizing.count() {
            self.events.push_back(Event::Resized(workers));
        }
    }

    /// Looks at the CPUs, where that is due.
    pub(super) fn look_for_cpus(&mut self) {
        if self.resizing.next_look().is_some_and(|due| due <= now()) {
            self.count_cpus();
        }
    }
}
