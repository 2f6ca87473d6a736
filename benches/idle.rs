//! What an init costs: `cargo bench --bench idle`.
//!
//! Two tables: each init idle as PID 1 of a pid namespace, and the time that
//! it adds to the start of a program that ends at once. Every figure is
//! measured on this machine, now.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What an idle process does in this time is counted.
const WATCHED: Duration = Duration::from_secs(10);

/// What an init does in this time after its start is not idleness: clinit takes
/// a worker that shows nothing else for ready when it is 10 s old.
const STARTED: Duration = Duration::from_secs(12);

const ROUNDS: usize = 200;

struct Subject {
    name: &'static str,
    program: PathBuf,
    /// What stands before the command.
    arguments: Vec<String>,
    /// How many children it then has.
    children: usize,
}

fn main() -> io::Result<()> {
    keep_descriptors();
    let subjects = subjects()?;
    idle(&subjects);
    start_up(&subjects)
}

fn subjects() -> io::Result<Vec<Subject>> {
    let clinit = PathBuf::from(env!("CARGO_BIN_EXE_clinit"));
    let subject = |name, program: &Path, arguments: &[&str], children| Subject {
        name,
        program: program.to_owned(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        children,
    };
    // Any free port will do; this one was.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let cluster = ["-i", "2", "-l", &address, "--log-level", "error", "--"];
    Ok(vec![
        subject("clinit", &clinit, &["--"], 1),
        subject("clinit -i 2 -l", &clinit, &cluster, 2),
        // -s: not PID 1 in the second table, it would complain.
        subject("tini-static", &find("tini-static"), &["-s", "--"], 1),
        subject("tini", &find("tini"), &["-s", "--"], 1),
        subject("dumb-init", &find("dumb-init"), &["--"], 1),
        subject("catatonit", &find("catatonit"), &["--"], 1),
    ])
}

/// Where a program is, or its bare name.
fn find(program: &str) -> PathBuf {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| program.into())
}

/// Keeps what cargo handed down from the inits, whose descriptors are counted.
fn keep_descriptors() {
    const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
    // SAFETY: this closes nothing; it sets a flag that nothing here relies on.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
}

// ---- idle ----

/// An init that runs as PID 1; it ends with this value.
struct Running {
    /// unshare, which kills the namespace's PID 1 when it is killed.
    outer: Child,
    pid: u32,
}

impl Running {
    fn start(subject: &Subject) -> Result<Self, String> {
        let cannot = |error: io::Error| error.to_string();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        if fs::metadata("/proc/self").map_err(cannot)?.uid() != 0 {
            unshare.args(["--user", "--map-root-user"]);
        }
        let command = unshare.arg(&subject.program).args(&subject.arguments);
        let command = command.args(["sleep", "infinity"]);
        let outer = quiet(command)
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut running = Self { outer, pid: 0 };
        let give_up_at = Instant::now() + Duration::from_secs(10);
        loop {
            if let [pid] = children(running.outer.id())[..] {
                let sleeps = |pid: &u32| comm(*pid) == "sleep";
                if children(pid).iter().filter(|pid| sleeps(pid)).count() == subject.children {
                    running.pid = pid;
                    return Ok(running);
                }
            }
            if let Some(status) = running.outer.try_wait().map_err(cannot)? {
                return Err(format!("did not run: {status}"));
            }
            if Instant::now() > give_up_at {
                return Err("has no such children after 10 s".to_owned());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often it has gone to sleep, which is how often it was woken.
    fn switches(&self) -> Option<u64> {
        status_field(self.pid, "voluntary_ctxt_switches")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

fn idle(subjects: &[Subject]) {
    println!("idle as PID 1\n");
    println!("| init | bytes | VmRSS kB (anonymous) | descriptors | wake-ups in {WATCHED:?} |");
    println!("|---|---|---|---|---|");
    let running: Vec<_> = subjects.iter().map(Running::start).collect();
    thread::sleep(STARTED);
    let before: Vec<_> = running.iter().flatten().map(Running::switches).collect();
    thread::sleep(WATCHED);
    let after: Vec<_> = running.iter().flatten().map(Running::switches).collect();
    let mut woken = before.iter().zip(&after).map(|pair| match pair {
        (Some(before), Some(after)) => (after - before).to_string(),
        (None, _) | (_, None) => "?".to_owned(),
    });
    for (subject, running) in subjects.iter().zip(&running) {
        match running {
            Ok(running) => println!(
                "| {} | {} | {} ({}) | {} | {} |",
                subject.name,
                fs::metadata(&subject.program).map_or(0, |file| file.len()),
                shown(status_field(running.pid, "VmRSS")),
                shown(status_field(running.pid, "RssAnon")),
                fs::read_dir(format!("/proc/{}/fd", running.pid)).map_or(0, Iterator::count),
                woken.next().unwrap_or_default(),
            ),
            Err(reason) if subject.program.is_absolute() => {
                println!("| {} | {reason} | | | |", subject.name);
            }
            Err(_) => println!("| {} | is not installed | | | |", subject.name),
        }
    }
}

fn shown(figure: Option<u64>) -> String {
    figure.map_or_else(|| "?".to_owned(), |figure| figure.to_string())
}

/// The number after that name in /proc/PID/status.
fn status_field(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

// ---- start-up ----

fn start_up(subjects: &[Subject]) -> io::Result<()> {
    let directory = std::env::temp_dir().join(format!("clinit-bench-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let mut programs = vec![PathBuf::from("/bin/true")];
    match static_true(&directory) {
        Ok(program) => programs.insert(0, program),
        Err(error) => println!("\nno static `true`: cc: {error}"),
    }
    for program in &programs {
        start_up_over(subjects, program)?;
    }
    fs::remove_dir_all(&directory)
}

/// The smallest C program, without a dynamic loader's time in it.
fn static_true(directory: &Path) -> io::Result<PathBuf> {
    let source = directory.join("true.c");
    let program = directory.join("true");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    let compiled = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(&source)
        .status()?;
    if compiled.success() {
        Ok(program)
    } else {
        Err(io::Error::other(compiled.to_string()))
    }
}

fn start_up_over(subjects: &[Subject], program: &Path) -> io::Result<()> {
    // A cluster restarts what ends: it has no such time.
    let mut commands = vec![(program.display().to_string(), Command::new(program))];
    let inits = subjects
        .iter()
        .filter(|subject| subject.children == 1 && subject.program.is_absolute());
    commands.extend(inits.map(|subject| {
        let mut command = Command::new(&subject.program);
        command.args(&subject.arguments).arg(program);
        (subject.name.to_owned(), command)
    }));

    // In turns, so that whatever else the machine does strikes all alike.
    let mut times = vec![Vec::with_capacity(ROUNDS); commands.len()];
    for _ in 0..ROUNDS {
        for ((name, command), times) in commands.iter_mut().zip(&mut times) {
            let start = Instant::now();
            let status = quiet(command).status()?;
            times.push(start.elapsed());
            if !status.success() {
                return Err(io::Error::other(format!("{name}: {status}")));
            }
        }
    }

    println!(
        "\nstart and end of {}, {ROUNDS} runs in turns\n",
        program.display()
    );
    println!("| by | least µs | median µs | median over the bare program's |");
    println!("|---|---|---|---|");
    let mut bare = None;
    for ((name, _), mut times) in commands.into_iter().zip(times) {
        times.sort();
        let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
        let (least, median) = (micros(times.first()), micros(times.get(ROUNDS / 2)));
        let bare = *bare.get_or_insert(median);
        println!(
            "| {name} | {least:.0} | {median:.0} | {:.2}× |",
            median / bare
        );
    }
    Ok(())
}

/// Nothing in, nothing out, and out of the terminal's reach.
fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
}
