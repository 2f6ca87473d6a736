//! Answers for people.

use super::json::{Json, quote};

/// A column: its heading, how wide it is at least, and whether it is flush
/// right.
const COLUMNS: [(&str, usize, bool); 11] = [
    ("SLOT", 4, true),
    ("PID", 5, true),
    ("GEN", 3, true),
    ("STATE", 8, false),
    ("AGE", 4, true),
    ("RESTARTS", 8, true),
    ("CPU", 4, true),
    ("MEMORY", 6, true),
    ("CONN", 4, true),
    ("QUEUE", 5, true),
    ("LAST", 4, false),
];

/// A status: a table of workers, and above it, if that is asked for, what
/// holds for all of them. The share of a CPU is that since an earlier status,
/// or since a worker's start.
#[must_use]
pub fn table(status: &Json, whole: bool, earlier: Option<&Json>) -> String {
    let mut text = String::new();
    if whole {
        heading(status, &mut text);
    }
    let mut rows = vec![COLUMNS.map(|(heading, ..)| heading.to_owned())];
    for worker in status.list("workers") {
        let earlier = earlier.and_then(|earlier| Earlier::of(worker, earlier));
        rows.push(cells(worker, earlier));
    }
    let mut widths = COLUMNS.map(|(_, width, _)| width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), (.., right)) in row.iter().zip(widths).zip(COLUMNS) {
            let blanks = width - cell.chars().count().min(width);
            let blanks = " ".repeat(blanks);
            let parts = if right {
                [&blanks, cell]
            } else {
                [cell, &blanks]
            };
            line.extend(parts.map(String::as_str));
            line.push(' ');
        }
        text.push_str(line.trim_ascii_end());
        text.push('\n');
    }
    text
}

fn heading(status: &Json, text: &mut String) {
    let number = |key| status.number(key).unwrap_or(0);
    let word = |key| status.text(key).unwrap_or("-");
    let mut listeners = String::new();
    for listener in status.list("listeners") {
        if let Json::Text(address) = listener {
            listeners.extend([&plain(address), " "]);
        }
    }
    let mut workers = format!("{} of {} ready", number("ready"), number("instances"));
    workers.extend([", generation ", &number("generation").to_string()]);
    if let Some(to) = status.number("reloading") {
        workers.extend([", reloading to ", &to.to_string()]);
    }
    let app = format!(
        "{}, {}, pid {}, for {}",
        plain(word("app")),
        plain(word("phase")),
        number("pid"),
        age(number("uptime_ms"))
    );
    let sharing = [word("share"), ", ports by ", word("capture")].concat();
    for (key, value) in [
        ("app", app),
        ("workers", workers),
        ("cpus", plain(word("cpus"))),
        ("share", plain(&sharing)),
        ("listeners", listeners.trim_ascii_end().to_owned()),
    ] {
        let value = if value.is_empty() { "none" } else { &value };
        text.extend([key, &" ".repeat(11 - key.len()), value, "\n"]);
    }
    text.push('\n');
}

fn cells(worker: &Json, earlier: Option<Earlier>) -> [String; COLUMNS.len()] {
    let shown = |key, show: fn(i64) -> String| match worker.number(key) {
        Some(number) => show(number),
        None => "-".into(),
    };
    let word = |key| plain(worker.text(key).unwrap_or_default());
    let whole = |number: i64| number.to_string();
    [
        shown("slot", whole),
        shown("pid", whole),
        shown("generation", whole),
        word("state"),
        shown("age_ms", age),
        shown("restarts", whole),
        cpu(worker, earlier).unwrap_or_else(|| "-".into()),
        shown("memory_bytes", size),
        shown("connections", whole),
        shown("queue", whole),
        word("last"),
    ]
}

/// What was so of a worker at an earlier time.
struct Earlier {
    age_ms: i64,
    cpu_ms: i64,
}

impl Earlier {
    fn of(worker: &Json, earlier: &Json) -> Option<Self> {
        let pid = worker.number("pid")?;
        let mut workers = earlier.list("workers").iter();
        let found = workers.find(|known| known.number("pid") == Some(pid))?;
        Some(Self {
            age_ms: found.number("age_ms")?,
            cpu_ms: found.number("cpu_ms")?,
        })
    }
}

fn cpu(worker: &Json, earlier: Option<Earlier>) -> Option<String> {
    let (age, cpu) = (worker.number("age_ms")?, worker.number("cpu_ms")?);
    let (age, cpu) = match earlier {
        // A pid that is another's by now is younger.
        Some(earlier) if earlier.age_ms < age && earlier.cpu_ms <= cpu => {
            (age - earlier.age_ms, cpu - earlier.cpu_ms)
        }
        Some(_) | None => (age, cpu),
    };
    let percent = cpu.checked_mul(100)?.checked_div(age.max(1))?;
    Some([&percent.to_string(), "%"].concat())
}

/// `7s`, `12m`, `5h` or `80d`.
fn age(millis: i64) -> String {
    let seconds = millis / 1000;
    let (number, unit) = match seconds {
        ..=119 => (seconds, "s"),
        120..=7199 => (seconds / 60, "m"),
        7200..=172_799 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    [&number.to_string(), unit].concat()
}

/// `900K`, `48M` or `12G`, in powers of 1024.
fn size(bytes: i64) -> String {
    let kib = bytes / 1024;
    let (number, unit) = match kib {
        ..=9_999 => (kib, "K"),
        10_000..=10_239_999 => (kib / 1024, "M"),
        _ => (kib / 1024 / 1024, "G"),
    };
    [&number.to_string(), unit].concat()
}

/// An event, or an answer, on one line: `ready slot=0 pid=12 generation=1`.
#[must_use]
pub fn progress(event: &Json) -> String {
    let mut line = plain(event.text("event").unwrap_or_default());
    let Json::Object(pairs) = event else {
        return line;
    };
    for (key, value) in pairs {
        let value = match value {
            Json::Number(number) => number.to_string(),
            Json::Text(text) if text.contains(' ') || text.is_empty() => quote(text),
            Json::Text(text) => plain(text),
            Json::Flag(true) => "yes".into(),
            Json::Flag(false) => "no".into(),
            Json::Null | Json::List(_) | Json::Object(_) => continue,
        };
        if !["v", "ok", "event", "time_ms"].contains(&key.as_str()) {
            line.extend([" ", &plain(key), "=", &value]);
        }
    }
    line
}

/// A text with what a terminal would act on escaped.
fn plain(text: &str) -> String {
    if text.contains(char::is_control) {
        return quote(text);
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::json::Object;
    use super::*;

    fn worker(slot: u64, cpu_ms: u64, age_ms: u64) -> String {
        let of = Object::new()
            .number("slot", slot)
            .number("pid", 1000 + slot);
        let of = of.number("generation", 1).text("state", "ready");
        let of = of.number("age_ms", age_ms).number("cpu_ms", cpu_ms);
        let of = of.number("memory_bytes", 48 << 20).number("restarts", 2);
        of.number("connections", 3)
            .number("queue", 0)
            .text("last", "exited with code 1")
            .finish()
    }

    fn status(workers: &[String]) -> Json {
        let of = Object::line()
            .flag("ok", true)
            .text("app", "server\u{1b}[31m");
        let of = of
            .number("pid", 1)
            .text("phase", "serving")
            .number("ready", 1);
        let of = of.number("instances", 2).number("uptime_ms", 7_000);
        let of = of
            .number("generation", 1)
            .text("share", "auto")
            .text("capture", "ptrace");
        let of = of.text("cpus", "2 CPUs: the mask, no quota");
        let of = of.list("listeners", &[quote("0.0.0.0:80"), quote("[::]:81")]);
        Json::parse(&of.list("workers", workers).finish()).unwrap()
    }

    #[test]
    fn a_table_is_aligned_and_fits() {
        let stopped = Object::new().number("slot", 1).text("state", "stopped");
        let status = status(&[worker(0, 500, 1000), stopped.finish()]);
        let shown = table(&status, true, None);
        assert_eq!(
            shown,
            "\
app        \"server\\u001b[31m\", serving, pid 1, for 7s
workers    1 of 2 ready, generation 1
cpus       2 CPUs: the mask, no quota
share      auto, ports by ptrace
listeners  0.0.0.0:80 [::]:81

SLOT   PID GEN STATE     AGE RESTARTS  CPU MEMORY CONN QUEUE LAST
   0  1000   1 ready      1s        2  50%    48M    3     0 exited with code 1
   1     -   - stopped     -        -    -      -    -     -
"
        );
        assert!(shown.lines().all(|line| line.len() <= 80));
        assert!(!table(&status, false, None).contains("app"));
    }

    #[test]
    fn a_share_of_a_cpu_is_that_since_the_last_look() {
        let (earlier, later) = (
            status(&[worker(0, 100, 1000)]),
            status(&[worker(0, 1100, 2000)]),
        );
        assert!(table(&later, false, None).contains(" 55% "));
        assert!(table(&later, false, Some(&earlier)).contains(" 100% "));
        // As with another process of that pid.
        assert!(table(&earlier, false, Some(&later)).contains(" 10% "));
        assert!(table(&Json::Null, true, Some(&Json::Null)).contains("SLOT"));
    }

    #[test]
    fn numbers_are_short() {
        let ages = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(age);
        assert_eq!(ages, ["0s", "119s", "2m", "2h", "2d"]);
        let sizes = [0, 4_096, 9_999 << 10, 10_000 << 10, 20 << 30].map(size);
        assert_eq!(sizes, ["0K", "4K", "9999K", "9M", "20G"]);
    }

    #[test]
    fn an_event_is_a_line() {
        let event = Object::line().text("event", "exit").number("time_ms", 5);
        let event = event.number("slot", 1).text("reason", "exited with code 1");
        let event = event.flag("partial", false).text("x", "\u{1b}").finish();
        assert_eq!(
            progress(&Json::parse(&event).unwrap()),
            "exit slot=1 reason=\"exited with code 1\" partial=no x=\"\\u001b\""
        );
    }
}
