//! How many CPUs this container may use, and why.

use std::fmt::{self, Write as _};
use std::fs;

use crate::config::Sizing;
use crate::sys::affinity::allowed_cpus;
use crate::sys::cgroup::{self, Quota, Root};

/// What `max` is bounded by in Kubernetes where nothing says how much CPU the
/// pod may use, and the mask is the node's.
const UNLIMITED_POD: u32 = 8;

/// What is known of the machine.
#[derive(Clone, Debug)]
struct Facts {
    /// The smallest quota of the visible control groups.
    quota: Option<Quota>,
    /// CPUs of the affinity mask.
    mask: u32,
    /// CPUs that are online.
    online: u32,
    in_kubernetes: bool,
    /// What the pod requests, in thousandths of a CPU.
    request: Option<u64>,
}

/// Which of the facts decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    Quota,
    Mask,
    Request,
    UnlimitedPod,
}

/// A number of CPUs and its derivation.
#[derive(Clone, Debug)]
pub(super) struct Cpus {
    facts: Facts,
    basis: Basis,
    /// At least 1.
    pub(super) count: u32,
}

impl Cpus {
    /// Reads the control groups and the affinity mask.
    pub(super) fn count(sizing: &Sizing) -> Self {
        let mask = number(allowed_cpus().len()).max(1);
        let mut smallest: Option<Quota> = None;
        for quota in cgroup::cpu_quotas(&Root::system()) {
            if smallest
                .as_ref()
                .is_none_or(|least| millis(&quota) < millis(least))
            {
                smallest = Some(quota);
            }
        }
        Self::derive(Facts {
            quota: smallest,
            mask,
            online: online().unwrap_or(mask),
            in_kubernetes: sizing.in_kubernetes,
            request: sizing.cpu_request_millis,
        })
    }

    fn derive(facts: Facts) -> Self {
        let ceil = |millis: u64| u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX);
        // Where the kubelet gives whole CPUs away it does so by the mask.
        let whole_node = facts.in_kubernetes && facts.mask >= facts.online;
        let (basis, count) = match (&facts.quota, facts.request) {
            (Some(quota), _) if ceil(millis(quota)) <= facts.mask => {
                (Basis::Quota, ceil(millis(quota)))
            }
            (None, Some(request)) if whole_node => (Basis::Request, ceil(request).min(facts.mask)),
            (None, None) if whole_node => (Basis::UnlimitedPod, facts.mask.min(UNLIMITED_POD)),
            (Some(_) | None, _) => (Basis::Mask, facts.mask),
        };
        Self {
            facts,
            basis,
            count: count.max(1),
        }
    }

    /// Whether a quota leaves less than the mask has CPUs.
    pub(super) fn quota_is_below_mask(&self) -> bool {
        let mask = u64::from(self.facts.mask) * 1000;
        self.facts
            .quota
            .as_ref()
            .is_some_and(|quota| millis(quota) < mask)
    }

    /// What to warn of where the count is what was asked for.
    pub(super) fn warning(&self) -> Option<String> {
        (self.basis == Basis::UnlimitedPod).then(|| {
            format!(
                "this pod has no CPU limit, so max is the node's {} CPUs, at most {UNLIMITED_POD}: \
                 set limits.cpu, CLINIT_CPU_REQUEST (from requests.cpu) or --max-instances",
                self.facts.mask,
            )
        })
    }

    /// The derivation, line by line.
    pub(super) fn report(
        &self,
        sizing: &Sizing,
        memory_limit: Option<&(u64, std::path::PathBuf)>,
    ) -> String {
        let mut report = String::new();
        // Writing to a string cannot fail.
        let mut line = |line: fmt::Arguments<'_>| {
            let _ = report.write_fmt(line);
        };
        line(format_args!("{self}"));
        match &self.facts.quota {
            Some(quota) => line(format_args!(
                "\nquota    {}  {}: {} us in every {} us",
                Thousandths(millis(quota)),
                quota.file.display(),
                quota.quota_us,
                quota.period_us,
            )),
            None => line(format_args!("\nquota    none")),
        }
        line(format_args!(
            "\nmask     {}  sched_getaffinity, of {} online",
            self.facts.mask, self.facts.online
        ));
        if self.facts.in_kubernetes {
            let request = self.facts.request.map_or("not told".into(), |request| {
                Thousandths(request).to_string()
            });
            line(format_args!("\nrequest  {request}  CLINIT_CPU_REQUEST"));
        }
        if let Some((limit, file)) = memory_limit {
            line(format_args!("\nmemory   {limit}  {}", file.display()));
        }
        let workers = sizing.workers(self.count, memory_limit.map(|(limit, _)| *limit));
        line(format_args!("\nworkers  {workers}"));
        report
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { mask, request, .. } = self.facts;
        write!(f, "{} CPUs: ", self.count)?;
        match (self.basis, &self.facts.quota) {
            (Basis::Quota, Some(quota)) => {
                write!(
                    f,
                    "a quota of {}, of a mask of {mask}",
                    Thousandths(millis(quota))
                )
            }
            (Basis::Request, _) => {
                write!(
                    f,
                    "a request of {}, no quota",
                    Thousandths(request.unwrap_or(0))
                )
            }
            (Basis::UnlimitedPod, _) => {
                write!(f, "at most {UNLIMITED_POD} in a pod without a limit")
            }
            (Basis::Mask, Some(_)) => write!(f, "the mask, which is below the quota"),
            (Basis::Quota | Basis::Mask, None) => write!(f, "the mask, no quota"),
        }
    }
}

/// `1500` as `1.5`.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Thousandths of a CPU, rounded up.
fn millis(quota: &Quota) -> u64 {
    quota
        .quota_us
        .saturating_mul(1000)
        .div_ceil(quota.period_us.max(1))
}

/// CPUs that are online, on the whole machine: `0-3,8` is five.
fn online() -> Option<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    count_ranges(text.trim_ascii())
}

fn count_ranges(text: &str) -> Option<u32> {
    text.split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(
        quota: Option<(u64, u64)>,
        mask: u32,
        online: u32,
        kubernetes: bool,
        request: Option<u64>,
    ) -> (u32, Basis) {
        let quota = quota.map(|(quota_us, period_us)| Quota {
            quota_us,
            period_us,
            file: "cpu.max".into(),
        });
        let cpus = Cpus::derive(Facts {
            quota,
            mask,
            online,
            in_kubernetes: kubernetes,
            request,
        });
        (cpus.count, cpus.basis)
    }

    #[test]
    fn the_smaller_of_quota_and_mask_rounded_up() {
        let period = 100_000;
        assert_eq!(
            count(Some((50_000, period)), 4, 4, false, None),
            (1, Basis::Quota)
        );
        assert_eq!(
            count(Some((150_000, period)), 4, 4, false, None),
            (2, Basis::Quota)
        );
        assert_eq!(
            count(Some((200_000, period)), 4, 4, false, None),
            (2, Basis::Quota)
        );
        assert_eq!(
            count(Some((1_000, period)), 4, 4, false, None),
            (1, Basis::Quota)
        );
        assert_eq!(
            count(Some((800_000, period)), 4, 4, false, None),
            (4, Basis::Mask)
        );
        assert_eq!(count(None, 4, 8, false, None), (4, Basis::Mask));
        assert_eq!(
            count(Some((u64::MAX, 1)), 4, 8, false, None),
            (4, Basis::Mask)
        );
    }

    #[test]
    fn a_pod_without_a_limit_does_not_take_the_node() {
        assert_eq!(count(None, 64, 64, true, None), (8, Basis::UnlimitedPod));
        assert_eq!(count(None, 4, 4, true, None), (4, Basis::UnlimitedPod));
        assert_eq!(count(None, 64, 64, true, Some(2500)), (3, Basis::Request));
        assert_eq!(count(None, 2, 2, true, Some(9000)), (2, Basis::Request));
        // The static CPU manager: no quota, a mask of the pod's own.
        assert_eq!(count(None, 12, 64, true, None), (12, Basis::Mask));
        assert_eq!(
            count(Some((300_000, 100_000)), 64, 64, true, Some(1000)),
            (3, Basis::Quota)
        );
    }

    #[test]
    fn ranges_of_cpus() {
        assert_eq!(count_ranges("0"), Some(1));
        assert_eq!(count_ranges("0-3,8,10-11"), Some(7));
        for wrong in ["", "a", "3-1", "0-", "0-4294967295"] {
            assert_eq!(count_ranges(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn thousandths_read_as_people_write_them() {
        for (millis, text) in [
            (1500, "1.5"),
            (2000, "2"),
            (500, "0.5"),
            (1, "0.001"),
            (10_000, "10"),
        ] {
            assert_eq!(Thousandths(millis).to_string(), text);
        }
    }
}
