//! Medians, and tables of them.

use std::time::Duration;

/// The middle one, or the mean of the middle two.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.len() / 2;
    let lower = figures.len().saturating_sub(1) / 2;
    match (figures.get(lower), figures.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        (_, _) => f64::NAN,
    }
}

/// The one that so many of a million are not above. They are in order.
pub(crate) fn quantile(sorted: &[Duration], per_million: usize) -> Duration {
    let rank = (sorted.len() * per_million).div_ceil(1_000_000);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

pub(crate) const P50: usize = 500_000;
pub(crate) const P99: usize = 990_000;
pub(crate) const P999: usize = 999_000;

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(crate) fn times(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{ratio:.2}×")
    } else {
        "-".to_owned()
    }
}

/// One row a contender; those that did not run have dashes, and why below.
pub(crate) struct Table {
    width: usize,
    reasons: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n## {title}\n");
        println!("| {} |", columns.join(" | "));
        println!("|{}", "---|".repeat(columns.len()));
        Self {
            width: columns.len(),
            reasons: Vec::new(),
        }
    }

    pub(crate) fn row(&self, cells: &[String]) {
        debug_assert_eq!(cells.len(), self.width);
        println!("| {} |", cells.join(" | "));
    }

    /// A row without figures.
    pub(crate) fn absent(&mut self, name: &str, reason: &str) {
        println!("| {name} |{}", " - |".repeat(self.width - 1));
        self.reasons.push(format!("{name}: {reason}"));
    }

    /// Prints why rows have no figures.
    pub(crate) fn end(self) {
        if !self.reasons.is_empty() {
            println!();
        }
        for reason in self.reasons {
            println!("- {reason}");
        }
    }
}
