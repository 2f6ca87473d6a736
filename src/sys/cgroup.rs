//! What this container may use, by its control groups (`cgroups(7)`), of
//! version 1, 2 or both at once.
//!
//! A limit of an ancestor binds as well, as far as ancestors are visible: a
//! container usually sees no further up than its own group.

mod hierarchy;

use std::fs;
use std::path::{Path, PathBuf};

use hierarchy::{Hierarchy, groups};

/// Where the file system begins: `/`, or a tree of files in a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(pub PathBuf);

impl Root {
    /// The real one.
    #[must_use]
    pub fn system() -> Self {
        Self(PathBuf::from("/"))
    }
}

/// A limit on CPU time: so much in each period, of all CPUs together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Microseconds of CPU time.
    pub quota_us: u64,
    /// In each so many microseconds; not 0.
    pub period_us: u64,
    /// The file that says so.
    pub file: PathBuf,
}

const CPU: Hierarchy = Hierarchy::Controller("cpu");
const MEMORY: Hierarchy = Hierarchy::Controller("memory");
const CPUSET: Hierarchy = Hierarchy::Controller("cpuset");
const PIDS: Hierarchy = Hierarchy::Controller("pids");

const V2_QUOTA: &str = "cpu.max";
const V1_QUOTA: &str = "cpu.cfs_quota_us";
const V1_PERIOD: &str = "cpu.cfs_period_us";
const CPUS: &str = "cpuset.cpus";

/// Version 1 says "unlimited" with the largest multiple of a page in 63 bits.
const UNLIMITED: u64 = 1 << 62;

/// Every CPU quota that binds this process.
#[must_use]
pub fn cpu_quotas(root: &Root) -> Vec<Quota> {
    let mut quotas = Vec::new();
    for group in groups(root, Hierarchy::Unified) {
        quotas.extend(v2_quota(&group));
    }
    for group in groups(root, CPU) {
        quotas.extend(v1_quota(&group));
    }
    quotas
}

/// The files that say what this process may use of the CPUs: those of its
/// quotas, and those that its affinity mask follows.
#[must_use]
pub fn cpu_files(root: &Root) -> Vec<PathBuf> {
    files(
        root,
        &[
            (Hierarchy::Unified, V2_QUOTA),
            (Hierarchy::Unified, CPUS),
            (CPU, V1_QUOTA),
            (CPU, V1_PERIOD),
            (CPUSET, CPUS),
        ],
    )
}

/// The smallest memory limit, in bytes, and the file that says so.
#[must_use]
pub fn memory_limit(root: &Root) -> Option<(u64, PathBuf)> {
    let v1 = (MEMORY, "memory.limit_in_bytes");
    let mut smallest: Option<(u64, PathBuf)> = None;
    for file in files(root, &[(Hierarchy::Unified, "memory.max"), v1]) {
        let Some(limit) = number(&file).filter(|limit| *limit < UNLIMITED) else {
            continue;
        };
        if smallest.as_ref().is_none_or(|(least, _)| limit < *least) {
            smallest = Some((limit, file));
        }
    }
    smallest
}

/// How many processes of this container the kernel has killed for want of
/// memory.
#[must_use]
pub fn oom_kills(root: &Root) -> Option<u64> {
    let v2 = files(root, &[(Hierarchy::Unified, "memory.events")]);
    let v1 = files(root, &[(MEMORY, "memory.oom_control")]);
    let closest = [v2.first(), v1.first()].into_iter().flatten();
    closest.filter_map(|file| read(file)).find_map(|text| {
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count?.trim_ascii().parse().ok()
    })
}

/// How many tasks there are and may be, where that is closest to its limit.
#[must_use]
pub fn pids_limit(root: &Root) -> Option<(u64, u64)> {
    let mut closest = None;
    let mut least_left = u64::MAX;
    for file in files(
        root,
        &[(Hierarchy::Unified, "pids.max"), (PIDS, "pids.max")],
    ) {
        let current = number(&file.with_file_name("pids.current"));
        if let (Some(current), Some(limit)) = (current, number(&file)) {
            let left = limit.saturating_sub(current);
            if closest.is_none() || left < least_left {
                closest = Some((current, limit));
                least_left = left;
            }
        }
    }
    closest
}

/// The files of these names, each from this process's group upwards.
fn files(root: &Root, wanted: &[(Hierarchy<'_>, &str)]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (hierarchy, name) in wanted {
        for mut file in groups(root, *hierarchy) {
            file.push(name);
            if file.exists() {
                files.push(file);
            }
        }
    }
    files
}

fn v2_quota(group: &Path) -> Option<Quota> {
    let file = group.join(V2_QUOTA);
    let text = read(&file)?;
    let (quota, period) = text.trim_ascii().split_once(' ')?;
    // "max" is no number, and no limit.
    quota_of(quota.parse().ok()?, period.parse().ok()?, file)
}

fn v1_quota(group: &Path) -> Option<Quota> {
    let file = group.join(V1_QUOTA);
    // Neither is -1.
    quota_of(number(&file)?, number(&group.join(V1_PERIOD))?, file)
}

fn quota_of(quota_us: u64, period_us: u64, file: PathBuf) -> Option<Quota> {
    (quota_us > 0 && period_us > 0).then_some(Quota {
        quota_us,
        period_us,
        file,
    })
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

fn number(file: &Path) -> Option<u64> {
    read(file)?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests;
