//! Sockets that a worker has let go of while it lives on: it has closed them,
//! as who probes for a free port does. Nobody tells of that, so it is looked
//! for whenever it may matter.

use crate::port::LaneId;
use crate::supervisor::WorkerId;
use crate::sys::proc;
use crate::table::Set;

use super::log;
use super::{Shell, now};

/// How often the tree is looked at, for it to hold still: a process that hands
/// its sockets on to a child and exits is otherwise missed.
const MOST_LOOKS: u32 = 4;

impl Shell {
    /// Looks for lanes of a worker that no process has open any more; `process`
    /// is the one to look at first. What clinit made is the worker's to begin
    /// with, whatever it does with its copy.
    pub(super) fn look_for_abandoned(&mut self, worker: WorkerId, process: Option<i32>) {
        let lanes = self.lanes.ports.lanes_of(worker).into_iter();
        let lanes = lanes.filter(|lane| self.lanes.ports.is_captured(*lane));
        let lanes = lanes.collect();
        self.look_for_lanes(worker, process, lanes);
    }

    /// Looks whether those still have their lanes that take nothing from them.
    /// What nobody has is steered away from, and waits for whoever binds next.
    pub(super) fn look_at_doubtful(&mut self) {
        let doubtful = self.lanes.ports.doubtful(now());
        for &worker in &doubtful {
            let lanes = self.lanes.ports.lanes_of(worker);
            self.look_for_lanes(worker, None, lanes);
        }
        if !doubtful.is_empty() {
            self.lanes.ports.held_after_all(now());
        }
    }

    /// Likewise where they were seen to have them before: somebody else could
    /// take over what waits there now.
    pub(super) fn look_at_doubtful_again(&mut self) {
        self.lanes.ports.doubt(now());
        self.look_at_doubtful();
    }

    fn look_for_lanes(&mut self, worker: WorkerId, process: Option<i32>, lanes: Vec<LaneId>) {
        let inode = |lane: LaneId| Some((lane, self.lanes.inode(lane)?));
        let mut lanes: Vec<(LaneId, u64)> = lanes.into_iter().filter_map(inode).collect();
        if lanes.is_empty() {
            return;
        }
        let Some(known) = self.workers.get(worker) else {
            return;
        };
        let mut near = known.roots();
        if let Some(process) = process
            && !near.contains(&process)
        {
            near.push(process);
        }
        for near in near {
            // It is about to exit, and its lanes wait for its successor.
            let Some(inodes) = proc::certain_socket_inodes(near) else {
                return;
            };
            lanes.retain(|(_, inode)| !inodes.contains(inode));
        }
        if lanes.is_empty() {
            return;
        }
        let Some(far) = self.inodes_around(worker) else {
            return;
        };
        for (lane, inode) in lanes {
            if !far.contains(&inode) {
                log::debug!("a worker has closed one of its sockets");
                self.lanes.abandoned(worker, lane, now());
            }
        }
    }

    /// The sockets of all processes below clinit that may be this worker's:
    /// those below other workers are not. What was left by its parent hangs
    /// from clinit, and nothing says whose it was. None where that is not to be
    /// known for certain.
    fn inodes_around(&self, worker: WorkerId) -> Option<Vec<u64>> {
        let own = i32::try_from(std::process::id()).ok()?;
        let mut others = Vec::new();
        for of in self.workers.iter() {
            if of.id != worker {
                others.extend(of.roots());
            }
        }
        let (mut seen, mut inodes) = (Set::new(), Vec::new());
        for _ in 0..MOST_LOOKS {
            let mut processes = proc::processes();
            processes.retain(|process| !others.contains(&process.pid));
            let looked_at = seen.len();
            for pid in proc::descendants_in(&processes, own) {
                if seen.insert(pid) {
                    inodes.extend(proc::known_socket_inodes(pid)?);
                }
            }
            if seen.len() == looked_at {
                return Some(inodes);
            }
        }
        None
    }
}
