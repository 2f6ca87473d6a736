//! Starts clinit, listens to what it and its workers say, and waits for facts:
//! a report, a line of the log, an exit. Nothing here waits for time to pass;
//! a fact that has not come after [`DEADLINE`] is a failure that shows the
//! whole log.

mod http;
mod port;
mod proc;
mod report;
mod terminal;
mod who;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clinit::sys::random::entropy;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2};

pub(crate) use http::{get, get_unix};
pub(crate) use port::{free_port, free_ports};
pub(crate) use proc::{
    Gone, children, descendants, kill_by, listening_port, pidfd, send, send_with_value, state,
    status_field, try_send_with_value,
};
pub(crate) use report::Report;
pub(crate) use terminal::terminal;
pub(crate) use who::{Who, ask, connect, greeted, tally};

/// How long a fact may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Large enough for whatever is said between two looks at it.
const PIPE_BYTES: i32 = 1 << 20;

/// The binary under test: cargo's, or another that it was told of when the tests
/// were built.
pub(crate) const CLINIT: &str = match option_env!("TESTED_CLINIT") {
    Some(path) => path,
    None => BUILT,
};

const BUILT: &str = env!("CARGO_BIN_EXE_clinit");

/// The fixture worker: tests/fixtures/worker.rs.
pub(crate) static WORKER: LazyLock<String> = LazyLock::new(|| {
    let target = Path::new(BUILT).parent().expect("a target directory");
    let path = target.join("examples/fixture-worker");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let is_new = |source: &str| changed(&path) >= changed(&sources.join(source));
    assert!(
        ["worker.rs", "own.rs", "dirt.rs", "state.rs"]
            .into_iter()
            .all(is_new),
        "{} is missing or stale: plain `cargo test` builds it, and so does \
         `cargo build --example fixture-worker`",
        path.display()
    );
    path.display().to_string()
});

/// Whether clinit can be made PID 1 here; says so aloud where it cannot.
pub(crate) fn can_be_pid1() -> bool {
    static CAN: LazyLock<bool> = LazyLock::new(|| {
        let probe = Command::new("unshare")
            .args(&UNSHARE[1..])
            .arg("true")
            .status();
        probe.is_ok_and(|status| status.success())
    });
    *CAN || cannot_run("RING 3", "pid1 tests need root and unshare(1)")
}

/// Not PID 1, and PID 1 where that can be had.
pub(crate) fn both() -> impl Iterator<Item = bool> {
    [false, true]
        .into_iter()
        .filter(|as_pid1| !as_pid1 || can_be_pid1())
}

/// Says which tests do not run here, past the capture of the test's output.
/// On CI, where everything has to run, this is a failure.
pub(crate) fn cannot_run(ring: &str, why: &str) -> bool {
    let _ = writeln!(std::io::stderr(), "{ring} CANNOT RUN HERE: {why}");
    let on_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!on_ci, "{ring} cannot run on CI: {why}");
    false
}

pub(crate) fn is_root() -> bool {
    uid().is_some_and(|uid| uid == "0") || cannot_run("RING 3", "tests of other users need root")
}

/// Our effective user.
fn uid() -> Option<String> {
    let ids = status_field(i32::try_from(std::process::id()).ok()?, "Uid:")?;
    ids.split_whitespace().nth(1).map(str::to_owned)
}

/// The program of this name on the PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// What makes the command after it PID 1.
pub(crate) const UNSHARE: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// A directory of a test's own, gone after it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        // A name that no other test has, and none had that was killed before
        // it could clear up: pids come again.
        let name = format!("clinit-{:016x}", entropy());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory");
        // Workers of other users report here.
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("chmod");
        Self(path)
    }

    /// The path of this name in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, contents: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, contents).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        path
    }

    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        mkfifo(path.as_str(), Mode::S_IRWXU).expect("mkfifo");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
        path
    }
}

/// Lets whoever waits at this FIFO go on, once it does: opening one that
/// nobody reads would wait for ever.
pub(crate) fn open_gate(path: impl AsRef<Path>) {
    let path = path.as_ref();
    let start = Instant::now();
    let mut options = File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    while options.open(path).is_err() {
        assert!(
            start.elapsed() < DEADLINE,
            "nobody waits at {}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The ways to a worker's own socket; the first is what there is.
pub(crate) const ROUTES: [&str; 3] = ["", "ptrace", "replace"];

/// Clinit that gets at its workers' sockets in this way.
pub(crate) fn by_route(route: &str, options: &str) -> Setup {
    Setup::new(options).env("CLINIT_CAPTURE_ROUTE", route)
}

/// How clinit is to be started.
pub(crate) struct Setup {
    program: PathBuf,
    wrapper: Vec<OsString>,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    as_pid1: bool,
    stdin: Stdio,
    stderr: Option<Stdio>,
    pub(crate) dir: Dir,
}

impl Setup {
    /// With these options, between spaces.
    pub(crate) fn new(options: &str) -> Self {
        let words = options.split_whitespace().map(OsString::from);
        Self {
            program: CLINIT.into(),
            wrapper: Vec::new(),
            argv: words.collect(),
            env: Vec::new(),
            as_pid1: false,
            stdin: Stdio::null(),
            stderr: None,
            dir: Dir::new(),
        }
    }

    /// The path of this name in a directory of the test's own.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path(name)
    }

    /// One more argument, as it is.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.argv.push(argument.as_ref().into());
        self
    }

    /// More arguments, words between spaces.
    pub(crate) fn words(self, words: &str) -> Self {
        words.split_whitespace().fold(self, Setup::arg)
    }

    /// Runs the fixture worker with this script, words between spaces.
    pub(crate) fn worker(self, script: &str) -> Self {
        self.arg("--").arg(&*WORKER).words(script)
    }

    pub(crate) fn command<S: AsRef<OsStr>>(self, words: &[S]) -> Self {
        words.iter().fold(self.arg("--"), Setup::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A command that is to start clinit, as `env` or `nice` would.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.wrapper.extend(words.iter().map(OsString::from));
        self
    }

    /// What is to be started in clinit's place, or what clinit is called.
    pub(crate) fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    pub(crate) fn pid1(mut self, yes: bool) -> Self {
        self.as_pid1 = yes;
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Where the log goes instead of to the harness.
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    pub(crate) fn start(self) -> Clinit {
        let fifo_path = self.dir.fifo("report");
        // Open for writing as well, so that it never ends.
        let fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&fifo_path)
            .expect("the FIFO");
        let (log, stderr) = log_pipe();
        for pipe in [fifo.as_fd(), log.as_fd()] {
            // Without the privilege it stays smaller.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        }
        let stdout = File::create(self.dir.path("stdout")).expect("stdout");
        let unshare = if self.as_pid1 { UNSHARE } else { &[] };
        let mut words = unshare.iter().map(OsString::from).collect::<Vec<_>>();
        words.extend(self.wrapper);
        words.push(self.program.clone().into());
        words.extend(self.argv);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .env("REPORT", &fifo_path)
            .envs(self.env)
            .stdin(self.stdin)
            .stdout(stdout)
            .stderr(self.stderr.unwrap_or_else(|| stderr.into()));
        let child = command.spawn().expect("clinit is started");
        let pid = i32::try_from(child.id()).expect("a pid");
        Clinit {
            ended: pidfd(pid).expect("a pidfd of a child"),
            child,
            pid,
            exe: fs::canonicalize(&self.program).expect("the program"),
            as_pid1: self.as_pid1,
            log_pipe: log,
            log: Vec::new(),
            fifo,
            partial: Vec::new(),
            reports: VecDeque::new(),
            dir: self.dir,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.start().end()
    }
}

fn log_pipe() -> (File, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("O_NONBLOCK");
    (read.into(), write)
}

/// A clinit that runs.
pub(crate) struct Clinit {
    child: Child,
    /// Of the child, which may be a wrapper.
    pid: i32,
    /// What it runs.
    exe: PathBuf,
    ended: OwnedFd,
    as_pid1: bool,
    log_pipe: File,
    log: Vec<u8>,
    fifo: File,
    partial: Vec<u8>,
    reports: VecDeque<Report>,
    pub(crate) dir: Dir,
}

/// One that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// All that was written to stderr, by workers as well.
    pub(crate) log: String,
    pub(crate) stdout: String,
}

impl Ended {
    /// The exit code. No test expects clinit to die of a signal.
    pub(crate) fn code(&self) -> i32 {
        let code = self.status.code();
        code.unwrap_or_else(|| panic!("{:?}; the log:\n{}", self.status.signal(), self.log))
    }

    /// Asserts the exit code, showing the log.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "the log:\n{}", self.log);
        self
    }

    /// Asserts that the log has this in it.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.log.contains(text), "{text:?} is not in:\n{}", self.log);
        self
    }

    /// The line that says why it ended, which is the last one.
    #[track_caller]
    pub(crate) fn closing_line(&self) -> &str {
        let last = self.log.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("clinit: exiting code="),
            "the log:\n{}",
            self.log
        );
        last
    }
}

impl Clinit {
    /// Clinit's own pid, as the test sees it.
    pub(crate) fn pid(&mut self) -> i32 {
        if !self.as_pid1 {
            return self.pid;
        }
        let unshare = self.pid;
        self.wait_until("unshare runs clinit", |clinit| {
            children(unshare).into_iter().find(|&child| {
                let exe = fs::read_link(format!("/proc/{child}/exe"));
                exe.is_ok_and(|exe| exe == clinit.exe)
            })
        })
    }

    /// The pid that the test sees where the worker itself sees this one.
    pub(crate) fn seen_from_here(&mut self, inner: i32) -> i32 {
        if !self.as_pid1 {
            return inner;
        }
        let inner = inner.to_string();
        let tree = descendants(self.pid);
        let known_as = |pid: i32| status_field(pid, "NSpid:");
        let found = tree.into_iter().find(|&pid| {
            known_as(pid).is_some_and(|ids| ids.split_whitespace().last() == Some(&inner))
        });
        found.unwrap_or_else(|| self.fail(&format!("process {inner} is not there")))
    }

    /// Sends a signal to clinit.
    pub(crate) fn signal(&mut self, signal: i32) {
        let pid = self.pid();
        send(pid, signal);
    }

    /// Sends a signal to clinit, as sigqueue(3) does.
    pub(crate) fn signal_with_value(&mut self, signal: i32, value: usize) {
        let pid = self.pid();
        send_with_value(pid, signal, value);
    }

    /// What was written to stderr so far.
    pub(crate) fn log(&mut self) -> String {
        self.take_in();
        String::from_utf8_lossy(&self.log).into_owned()
    }

    /// The first line of the log that has this in it.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        self.wait_for_nth_log(text, 1)
    }

    /// The `nth` line, from 1, of the log that has this in it.
    #[track_caller]
    pub(crate) fn wait_for_nth_log(&mut self, text: &str, nth: usize) -> String {
        self.wait_until(&format!("{text:?} in the log, {nth} times"), |clinit| {
            let log = clinit.log();
            // The last one may be half a line.
            let end = log.rfind('\n').unwrap_or(0);
            let mut lines = log[..end].lines().filter(|line| line.contains(text));
            lines.nth(nth - 1).map(str::to_owned)
        })
    }

    /// The next report of this word. Reports of other words are kept.
    #[track_caller]
    pub(crate) fn report(&mut self, word: &str) -> Report {
        self.wait_until(&format!("a report of {word:?}"), |clinit| {
            clinit.take_in();
            if let Some(error) = clinit.reports.iter().find(|report| report.word == "error") {
                let reason = error.fields.join(" ");
                clinit.fail(&format!("the fixture failed: {reason}"));
            }
            let position = clinit
                .reports
                .iter()
                .position(|report| report.word == word)?;
            clinit.reports.remove(position)
        })
    }

    /// As many reports of this word, ordered by slot.
    #[track_caller]
    pub(crate) fn reports(&mut self, word: &str, count: usize) -> Vec<Report> {
        let mut reports: Vec<_> = (0..count).map(|_| self.report(word)).collect();
        reports.sort_by(|a, b| a.slot.cmp(&b.slot));
        reports
    }

    /// The reports that have come so far.
    pub(crate) fn reports_so_far(&mut self) -> Vec<Report> {
        self.take_in();
        self.reports.drain(..).collect()
    }

    /// The port of the first TCP listener that clinit holds.
    #[track_caller]
    pub(crate) fn port(&mut self) -> u16 {
        let pid = self.pid();
        self.wait_until("a listener", |_| listening_port(pid))
    }

    /// Waits until a process is gone, or a zombie.
    #[track_caller]
    pub(crate) fn wait_gone(&mut self, pid: i32) {
        if let Some(fd) = pidfd(pid) {
            let gone = readable(&[fd.as_fd()], DEADLINE);
            if !gone {
                self.fail(&format!("process {pid} still runs"));
            }
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        readable(&[self.ended.as_fd()], Duration::ZERO)
    }

    /// Waits until clinit has ended.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        self.wait_until("clinit ends", |clinit| {
            clinit.take_in();
            clinit.has_ended().then_some(())
        });
        let status = self.child.wait().expect("its status");
        // What it wrote before its end is in the pipe by now.
        let log = self.log();
        let stdout = fs::read(self.dir.path("stdout")).expect("stdout");
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        Ended {
            status,
            log,
            stdout,
        }
    }

    /// Sends a signal and waits for the end.
    #[track_caller]
    pub(crate) fn end_by(mut self, signal: i32) -> Ended {
        self.signal(signal);
        self.end()
    }

    /// Waits until this yields something. It looks again whenever clinit or a
    /// worker says something or clinit ends, and every few milliseconds, for
    /// facts that nobody tells.
    #[track_caller]
    pub(crate) fn wait_until<T>(
        &mut self,
        what: &str,
        mut fact: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = fact(self) {
                return found;
            }
            if start.elapsed() > DEADLINE {
                self.fail(&format!("waited in vain for: {what}"));
            }
            let tick = Duration::from_millis(5);
            readable(&[self.fifo.as_fd(), self.log_pipe.as_fd()], tick);
        }
    }

    #[track_caller]
    pub(crate) fn fail(&mut self, reason: &str) -> ! {
        let pid = self.pid;
        let tree: Vec<String> = descendants(pid)
            .into_iter()
            .chain([pid])
            .map(|pid| format!("{pid} {:?}", state(pid)))
            .collect();
        let reports: Vec<_> = self.reports.iter().map(ToString::to_string).collect();
        let log = self.log();
        panic!("{reason}\nprocesses: {tree:?}\nreports: {reports:#?}\nthe log:\n{log}");
    }

    /// Reads all that was said.
    fn take_in(&mut self) {
        drain(&mut self.log_pipe, &mut self.log);
        drain(&mut self.fifo, &mut self.partial);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.reports
                .push_back(Report::parse(&String::from_utf8_lossy(&line)));
        }
    }
}

impl Drop for Clinit {
    /// Leaves nothing that was started here behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Held by descriptors, so that no other process can be meant.
        let tree: Vec<_> = descendants(self.pid)
            .into_iter()
            .filter_map(pidfd)
            .collect();
        let _ = self.child.kill();
        for process in &tree {
            proc::kill_by(process);
        }
        let _ = self.child.wait();
    }
}

fn drain(from: &mut File, to: &mut Vec<u8>) {
    let mut part = [0; 16_384];
    loop {
        match from.read(&mut part) {
            Ok(0) => return,
            Ok(length) => to.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Whether any of these becomes readable in this time.
pub(crate) fn readable(files: &[BorrowedFd<'_>], within: Duration) -> bool {
    let mut entries: Vec<_> = files
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    let timeout = PollTimeout::try_from(within).expect("a short time");
    let found = poll(&mut entries, timeout).unwrap_or(0) > 0;
    // The end of the log's pipe is readable for ever.
    let hung = |entry: &PollFd<'_>| entry.revents().is_some_and(|e| e == PollFlags::POLLHUP);
    if found && entries.iter().any(hung) {
        std::thread::sleep(within.min(Duration::from_millis(1)));
    }
    found
}
