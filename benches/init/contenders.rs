//! Who is measured.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An init, or none at all.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// None where it is not installed.
    pub(crate) program: Option<PathBuf>,
    /// What stands before the command.
    pub(crate) arguments: Vec<String>,
    /// How many children it then has. More than one, and it is a cluster, that
    /// runs for ever.
    pub(crate) children: usize,
}

impl Contender {
    fn new(name: &str, program: Option<PathBuf>, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            children: 1,
        }
    }

    /// Whether it ends when its child does.
    pub(crate) fn is_plain(&self) -> bool {
        self.children == 1
    }

    /// Adds the init, with its own arguments, to a command.
    pub(crate) fn add_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(program) = &self.program {
            command.arg(program).args(&self.arguments);
        }
        command
    }
}

/// Everybody, clinit first.
pub(crate) fn all(scratch: &Path) -> io::Result<Vec<Contender>> {
    let clinit = PathBuf::from(env!("CARGO_BIN_EXE_clinit"));
    let mut contenders = Vec::new();
    let given = std::env::args_os().skip(1).map(PathBuf::from);
    let given = given.filter(|path| path.is_file());
    let builds = std::iter::once(("clinit".to_owned(), clinit))
        .chain(given.map(|path| (path.display().to_string(), path)));
    for (number, (name, program)) in builds.enumerate() {
        // Under a name of its own, whatever the file is called.
        let copy = scratch.join(format!("{number}")).join("clinit");
        std::fs::create_dir_all(copy.parent().unwrap_or(scratch))?;
        std::fs::copy(&program, &copy)?;
        contenders.push(Contender::new(&name, Some(copy.clone()), &["--"]));
        // Any free port will do; this one was.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let cluster = ["-i", "2", "-l", &address, "--log-level", "error", "--"];
        contenders.push(Contender {
            children: 2,
            ..Contender::new(&format!("{name} -i 2 -l"), Some(copy), &cluster)
        });
    }
    // -s: not PID 1 everywhere, they would complain.
    for (name, arguments) in [
        ("tini", &["-s", "--"][..]),
        ("tini-static", &["-s", "--"]),
        ("dumb-init", &["--"]),
        ("catatonit", &["--"]),
    ] {
        contenders.push(Contender::new(name, find(name), arguments));
    }
    Ok(contenders)
}

fn find(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Keeps what cargo handed down from the inits, whose descriptors are counted.
pub(crate) fn keep_descriptors() {
    const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
    // SAFETY: this closes nothing; it sets a flag that nothing here relies on.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// Nothing in, nothing out, and out of the terminal's reach.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
}
