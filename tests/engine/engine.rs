//! A Docker engine of the tests' own, and containers in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use clinit::sys::random::entropy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::until::until;

/// What one call of `docker` may take; building is the longest.
const PATIENCE: Duration = Duration::from_mins(5);

/// dockerd, with what belongs to it. Its images stay, for the next time.
pub(crate) struct Engine {
    daemon: Child,
    /// Sockets, pid files and contexts of this run. The path is short: a
    /// socket's is limited to 107 bytes.
    directory: PathBuf,
    /// One engine at a time may use the data.
    _lock: File,
}

impl Engine {
    /// # Errors
    ///
    /// Why there is no engine to be had here.
    pub(crate) fn start() -> Result<Self, String> {
        if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            return Err("dockerd needs root".to_owned());
        }
        for program in ["dockerd", "docker", "setpriv"] {
            find(program)?;
        }
        let cannot = |error: io::Error| error.to_string();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine");
        fs::create_dir_all(&kept).map_err(cannot)?;
        let lock = File::create(kept.join("lock")).map_err(cannot)?;
        lock.lock().map_err(cannot)?;
        let name = format!("clinit-engine-{:016x}", entropy());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).map_err(cannot)?;
        let log = File::create(directory.join("dockerd.log")).map_err(cannot)?;
        let errors = log.try_clone().map_err(cannot)?;

        // What `docker run --init` runs.
        let init = directory.join("docker-init");
        symlink(env!("CARGO_BIN_EXE_clinit"), &init).map_err(cannot)?;

        // Should this process be killed, its dockerd ends too.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "dockerd", "--data-root"])
            .arg(kept.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg("--host")
            .arg(socket(&directory))
            .arg("--init-path")
            .arg(init)
            // An engine that runs here already is let be.
            .args(["--containerd-namespace", "clinit-ring4"])
            .args(["--containerd-plugins-namespace", "clinit-ring4-plugins"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(cannot)?;
        let mut engine = Self {
            daemon,
            directory,
            _lock: lock,
        };
        engine.await_daemon()?;
        engine.remove_containers();
        Ok(engine)
    }

    /// dockerd leaves the mount by which it held the host's network namespace.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for target in targets.filter(|target| Path::new(target).starts_with(&self.directory)) {
            let _ = Command::new("umount").arg(target).status();
        }
    }

    fn await_daemon(&mut self) -> Result<(), String> {
        let give_up_at = Instant::now() + Duration::from_mins(1);
        loop {
            let answer = self.docker(["version"]).output();
            if answer.is_ok_and(|answer| answer.status.success()) {
                return Ok(());
            }
            let has_ended = self.daemon.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > give_up_at {
                let log =
                    fs::read_to_string(self.directory.join("dockerd.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines.len().saturating_sub(5);
                return Err(format!(
                    "dockerd does not answer: {}",
                    lines.get(end..).unwrap_or_default().join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a run that was killed has left.
    fn remove_containers(&self) {
        for container in self.succeed(["ps", "--all", "--quiet"]).lines() {
            self.succeed(["rm", "--force", container]);
        }
    }

    /// The client, told of this engine and of no configuration.
    pub(crate) fn docker<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg(PATIENCE.as_secs().to_string())
            .arg("docker")
            .args(arguments)
            .env("DOCKER_HOST", socket(&self.directory))
            .env("DOCKER_CONFIG", self.directory.join("client"))
            // Debian 12 has no BuildKit client.
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs the client, which has to succeed; what it wrote to stdout.
    pub(crate) fn succeed<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> String {
        succeed(&mut self.docker(arguments))
    }

    /// An empty directory of this run.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::create_dir(&path).expect("a directory");
        path
    }

    /// Builds an image out of a Dockerfile's text and files for its context.
    pub(crate) fn image(&self, name: &str, dockerfile: &str, files: &[(&Path, &str)]) {
        let context = self.directory(name);
        for (file, as_name) in files {
            let copied = fs::copy(file, context.join(as_name));
            copied.unwrap_or_else(|error| {
                panic!(
                    "{}: {error}: cargo build --examples makes it",
                    file.display()
                )
            });
        }
        fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
        self.succeed([
            OsStr::new("build"),
            OsStr::new("--tag"),
            OsStr::new(name),
            context.as_os_str(),
        ]);
    }

    /// `docker run --detach` with these arguments.
    pub(crate) fn run<'a>(&'a self, arguments: &[&str]) -> Container<'a> {
        let start = ["run", "--detach", "--network", "host"];
        let output = self.succeed(start.iter().chain(arguments));
        let id = output.trim().to_owned();
        Container { engine: self, id }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.daemon.id()).expect("a pid"));
        let _ = kill(pid, Signal::SIGTERM);
        let give_up_at = Instant::now() + Duration::from_secs(20);
        while self.daemon.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > give_up_at {
                let _ = self.daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.unmount();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}

/// A container that ends with its value.
pub(crate) struct Container<'a> {
    engine: &'a Engine,
    pub(crate) id: String,
}

impl Container<'_> {
    /// A field of `docker inspect`.
    pub(crate) fn inspect(&self, field: &str) -> String {
        let format = format!("{{{{{field}}}}}");
        let output = self
            .engine
            .succeed(["inspect", "--format", &format, &self.id]);
        output.trim().to_owned()
    }

    /// All that it has written to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        let output = self
            .engine
            .docker(["logs", &self.id])
            .output()
            .expect("docker logs");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        format!("{out}{err}")
    }

    /// `docker stop`, and how long it took.
    pub(crate) fn stop(&self) -> Duration {
        let start = Instant::now();
        self.engine.succeed(["stop", &self.id]);
        start.elapsed()
    }

    /// How many processes and threads are in it, for the kernel's limit.
    pub(crate) fn pids(&self) -> usize {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", self.inspect(".State.Pid")));
        let cgroups = cgroups.expect("the container runs");
        let path = |controllers: &str| {
            cgroups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                rest.strip_prefix(controllers)?.strip_prefix(':')
            })
        };
        let file = match path("pids") {
            Some(path) => format!("/sys/fs/cgroup/pids{path}/pids.current"),
            None => format!("/sys/fs/cgroup{}/pids.current", path("").expect("a cgroup")),
        };
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        text.trim().parse().expect("a number")
    }

    /// Waits until so many are in it.
    pub(crate) fn await_pids(&self, count: usize) {
        until(
            &format!("{count} pids in the container"),
            Duration::from_secs(30),
            || (self.pids() == count).then_some(()),
        );
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of the container ----\n{}----", self.log());
        }
        let removed = self.engine.docker(["rm", "--force", &self.id]).output();
        if !removed.is_ok_and(|output| output.status.success()) {
            eprintln!("cannot remove the container {}", self.id);
        }
    }
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

fn find(program: &str) -> Result<PathBuf, String> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{program} is not installed"))
}

/// Runs a command that has to succeed; what it wrote to stdout.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output: Output = command.output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    text
}
