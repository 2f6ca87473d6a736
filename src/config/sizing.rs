//! How many workers: what was asked for, and what it comes to.

use super::units::whole;

/// The most workers that can be asked for; what is computed ends here too.
pub const MOST_INSTANCES: u32 = 1024;

/// From this number on, a request for CPUs without a unit is in thousandths.
const SMALLEST_MILLIS: u64 = 100;

/// How many workers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// So many, 1 to [`MOST_INSTANCES`].
    Exactly(u32),
    /// As many as there are CPUs.
    Max,
    /// So many fewer than there are CPUs.
    MaxLess(u32),
    /// So many hundredths of the CPUs.
    Percent(u32),
    /// So many thousandths of the CPUs: 1500 for `1.5x`.
    Times(u32),
}

impl Instances {
    /// How many workers that is with so many CPUs: a part of one is rounded
    /// up; at least 1, at most [`MOST_INSTANCES`].
    #[must_use]
    pub fn of(self, cpus: u32) -> u32 {
        let share = |parts: u32, whole: u64| {
            let workers = (u64::from(cpus) * u64::from(parts)).div_ceil(whole);
            u32::try_from(workers).unwrap_or(MOST_INSTANCES)
        };
        let workers = match self {
            Self::Exactly(workers) => workers,
            Self::Max => cpus,
            Self::MaxLess(fewer) => cpus.saturating_sub(fewer),
            Self::Percent(percent) => share(percent, 100),
            Self::Times(thousandths) => share(thousandths, 1000),
        };
        workers.clamp(1, MOST_INSTANCES)
    }

    /// Reads `4`, `max`, `0`, `max-1`, `-1`, `50%`, `2x` or `1.5x`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fewer = |fewer| match fewer {
            0 => Self::Max,
            fewer => Self::MaxLess(fewer),
        };
        let read = if text == "max" {
            Some(Self::Max)
        } else if let Some(text) = text.strip_prefix("max-").or(text.strip_prefix('-')) {
            whole(text).map(fewer)
        } else if let Some(text) = text.strip_suffix('%') {
            whole(text).filter(|p| *p > 0).map(Self::Percent)
        } else if let Some(text) = text.strip_suffix('x') {
            thousandths(text).filter(|t| *t > 0).map(Self::Times)
        } else {
            match whole::<u64>(text).map(u32::try_from) {
                Some(Ok(0)) => Some(Self::Max),
                Some(Ok(workers)) if workers <= MOST_INSTANCES => Some(Self::Exactly(workers)),
                Some(_) => return Err(format!("at most {MOST_INSTANCES} are accepted")),
                None => None,
            }
        };
        read.ok_or_else(|| "accepted are a number, max, max-1, 50% or 2x".into())
    }
}

/// Everything that the number of workers is computed from, save what the
/// system has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// What was asked for.
    pub instances: Instances,
    /// An upper bound on what is computed.
    pub max_instances: Option<u32>,
    /// How many bytes of memory a worker needs; more than 0.
    pub worker_memory: Option<u64>,
    /// Whether Kubernetes runs this container, whose affinity mask is then
    /// the node's.
    pub in_kubernetes: bool,
    /// How many thousandths of a CPU the pod requests, where
    /// `CLINIT_CPU_REQUEST` says so; more than 0.
    pub cpu_request_millis: Option<u64>,
}

impl Sizing {
    /// How many workers that is with so many CPUs and a memory limit in
    /// bytes. The bounds are on what is computed: a number that was asked for
    /// is taken as it stands.
    #[must_use]
    pub fn workers(self, cpus: u32, memory_limit: Option<u64>) -> u32 {
        let workers = self.instances.of(cpus);
        if matches!(self.instances, Instances::Exactly(_)) {
            return workers;
        }
        let in_memory = memory_limit
            .zip(self.worker_memory)
            .and_then(|(limit, each)| limit.checked_div(each))
            .and_then(|workers| u32::try_from(workers).ok());
        let bounds = self.max_instances.into_iter().chain(in_memory);
        bounds.fold(workers, u32::min).max(1)
    }
}

/// Reads a request for CPUs in thousandths: `500m`, `0.5` and `2` as
/// Kubernetes writes quantities, and the `500` that the downward API gives for
/// half a CPU with `divisor: 1m`. Nothing tells that from 500 CPUs, so a whole
/// number from 100 on is taken for thousandths.
pub(super) fn cpu_request(text: &str) -> Option<u64> {
    let millis = if let Some(millis) = text.strip_suffix('m') {
        whole(millis)?
    } else {
        match whole(text) {
            Some(millis) if millis >= SMALLEST_MILLIS => millis,
            _ => u64::from(thousandths(text)?),
        }
    };
    (millis > 0).then_some(millis)
}

/// Reads a decimal number of at most three decimals, in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let (units, decimals) = match text.split_once('.') {
        Some((units, decimals)) if (1..=3).contains(&decimals.len()) => (units, decimals),
        Some(_) => return None,
        None => (text, "0"),
    };
    let decimals = whole::<u32>(&format!("{decimals:0<3}"))?;
    whole::<u32>(units)?
        .checked_mul(1000)?
        .checked_add(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        for (text, instances) in [
            ("4", Instances::Exactly(4)),
            ("1024", Instances::Exactly(1024)),
            ("max", Instances::Max),
            ("0", Instances::Max),
            ("max-1", Instances::MaxLess(1)),
            ("-2", Instances::MaxLess(2)),
            ("max-0", Instances::Max),
            ("50%", Instances::Percent(50)),
            ("200%", Instances::Percent(200)),
            ("2x", Instances::Times(2000)),
            ("1.5x", Instances::Times(1500)),
            ("0.125x", Instances::Times(125)),
        ] {
            assert_eq!(Instances::parse(text), Ok(instances), "{text}");
        }
        for text in [
            "",
            "-",
            "max-",
            "max+1",
            "MAX",
            "many",
            "+4",
            "4 ",
            "1.5",
            "%",
            "0%",
            "-50%",
            "x",
            "0x",
            "0.0x",
            ".5x",
            "1.x",
            "1.0005x",
            "1.5.0x",
            "--1",
            "max--1",
            "1025",
            "4294967296",
            "4294967296%",
            "4294968x",
            "99999999999999999999",
            "٣",
        ] {
            Instances::parse(text).expect_err(text);
        }
    }

    #[test]
    fn what_it_comes_to() {
        for (instances, cpus, workers) in [
            (Instances::Exactly(3), 48, 3),
            (Instances::Max, 2, 2),
            (Instances::Max, 0, 1),
            (Instances::Max, 5000, MOST_INSTANCES),
            (Instances::MaxLess(1), 4, 3),
            (Instances::MaxLess(1), 1, 1),
            (Instances::MaxLess(u32::MAX), 4, 1),
            (Instances::Percent(50), 3, 2),
            (Instances::Percent(1), 4, 1),
            (Instances::Percent(u32::MAX), u32::MAX, MOST_INSTANCES),
            (Instances::Times(1500), 3, 5),
            (Instances::Times(u32::MAX), u32::MAX, MOST_INSTANCES),
        ] {
            assert_eq!(instances.of(cpus), workers, "{instances:?} of {cpus}");
        }
    }

    #[test]
    fn bounds_are_on_what_is_computed() {
        let sizing = |instances, max_instances, worker_memory| Sizing {
            instances,
            max_instances,
            worker_memory,
            in_kubernetes: false,
            cpu_request_millis: None,
        };
        let max = |bound, memory| sizing(Instances::Max, bound, memory);
        assert_eq!(max(None, None).workers(8, Some(1000)), 8);
        assert_eq!(max(Some(6), None).workers(8, None), 6);
        assert_eq!(max(None, Some(300)).workers(8, None), 8);
        assert_eq!(max(None, Some(300)).workers(8, Some(1000)), 3);
        assert_eq!(max(Some(2), Some(300)).workers(8, Some(1000)), 2);
        assert_eq!(max(None, Some(300)).workers(8, Some(100)), 1);
        assert_eq!(max(None, Some(1)).workers(8, Some(u64::MAX)), 8);
        let exactly = sizing(Instances::Exactly(9), Some(9), Some(300));
        assert_eq!(exactly.workers(8, Some(1000)), 9);
    }

    #[test]
    fn requests_for_cpus() {
        for (text, millis) in [
            ("500m", Some(500)),
            ("1500m", Some(1500)),
            ("2", Some(2000)),
            ("64", Some(64_000)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("500", Some(500)),
            ("1500", Some(1500)),
            ("0", None),
            ("0m", None),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1e3", None),
            ("two", None),
            ("0.5m", None),
            ("0.00001", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(cpu_request(text), millis, "{text}");
        }
    }
}
