//! How many connections each worker has.

use crate::sys::diag::{self, Socket};
use crate::sys::proc::{self, Process};
use crate::table::Set;

use super::super::emptying::worker_processes;

/// With more of them a status would take too long, and goes without.
const MOST: usize = 20_000;

/// The connections at some ports, and all processes: what is asked of the
/// kernel once for all workers.
pub(super) struct Connections {
    /// The inodes of those that somebody has accepted; none where the kernel
    /// does not say, or there are too many.
    accepted: Option<Vec<u64>>,
    processes: Vec<Process>,
}

impl Connections {
    pub(super) fn at(ports: impl Iterator<Item = u16>) -> Self {
        let ports: Set<u16> = ports.collect();
        let mut accepted = Vec::new();
        let mut listed = true;
        for &port in ports.iter() {
            let told = diag::each_at_port(port, |socket| {
                if let Socket::Connection(one) = socket
                    && one.inode != 0
                    && accepted.len() <= MOST
                {
                    accepted.push(one.inode);
                }
            });
            listed &= told.is_ok();
        }
        accepted.sort_unstable();
        Self {
            accepted: (listed && accepted.len() <= MOST).then_some(accepted),
            processes: proc::processes(),
        }
    }

    /// How many the process group with this leader has, or what its leader has
    /// started.
    pub(super) fn of(&self, leader: i32) -> Option<u64> {
        let accepted = self.accepted.as_ref()?;
        let mut count = 0;
        if accepted.is_empty() {
            return Some(count);
        }
        for &pid in worker_processes(&self.processes, leader).iter() {
            // Where it cannot be looked into, nothing is better than less.
            let sockets = proc::certain_socket_inodes(pid)?.into_iter();
            let ours = sockets.filter(|inode| accepted.binary_search(inode).is_ok());
            count += u64::try_from(ours.count()).unwrap_or(u64::MAX);
        }
        Some(count)
    }
}
