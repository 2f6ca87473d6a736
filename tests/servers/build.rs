//! Makes the servers, each once for all tests of this process, in a directory
//! that holds their sources as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::harness::program;

const SOURCES: &[(&str, &str)] = &[
    ("server.js", include_str!("server.js")),
    ("threaded.py", include_str!("threaded.py")),
    ("wsgi.py", include_str!("wsgi.py")),
    ("asgi.py", include_str!("asgi.py")),
    ("server.c", include_str!("server.c")),
    ("server.go", include_str!("server.go")),
    ("Server.java", include_str!("Server.java")),
    ("Selecting.java", include_str!("Selecting.java")),
];

/// The first Go that listens with MPTCP: 1.24.
const MPTCP_SINCE: u32 = 24;

type Made = LazyLock<Result<String, String>>;

/// Where the sources and what is made of them are. Not the source tree, which
/// Python would leave its caches in; and each test target has its own.
pub(crate) static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = concat!("servers-", env!("CARGO_CRATE_NAME"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("a directory");
    for (name, text) in SOURCES {
        fs::write(path.join(name), text).expect("a source");
    }
    path
});

/// A program where .ci/run installs packages from `PyPI`.
fn in_venv(name: &str) -> Option<PathBuf> {
    // This is target/tmp, or target/TRIPLE/tmp.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let programs = target.map(|path| path.join("ci-venv/bin").join(name));
    programs.skip(1).take(2).find(|path| path.is_file())
}

/// The program of this name, its links followed.
pub(super) fn installed(name: &str) -> Result<String, String> {
    let path = program(name).or_else(|| {
        let path = Path::new("/usr/sbin").join(name);
        path.is_file().then_some(path)
    });
    let path = path.ok_or_else(|| format!("there is no {name}"))?;
    let path = fs::canonicalize(path).map_err(|error| format!("{name}: {error}"))?;
    Ok(path.display().to_string())
}

/// A program that a package of `PyPI` brings: what the variable names, or that
/// of .ci/run, or the first on the PATH.
pub(super) fn from_pypi(name: &str, variable: &str) -> Result<String, String> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    let found = given.or_else(|| in_venv(name)).or_else(|| program(name));
    let found = found.ok_or_else(|| format!("there is no {name}, in {variable} or on the PATH"))?;
    // A shim without a version behind it is none.
    run(Command::new(&found).arg("--version"))?;
    Ok(found.display().to_string())
}

pub(super) fn c() -> Result<String, String> {
    static MADE: Made = LazyLock::new(|| {
        let server = made("server-c");
        let options = ["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"];
        let source = DIRECTORY.join("server.c");
        run(Command::new("cc").args(options).arg(&server).arg(source))?;
        Ok(server)
    });
    MADE.clone()
}

pub(super) fn java() -> Result<String, String> {
    static MADE: Made = LazyLock::new(|| {
        let java = installed("java")?;
        let sources = ["Server.java", "Selecting.java"].map(|name| DIRECTORY.join(name));
        let mut compile = Command::new("javac");
        run(compile.arg("-d").arg(&*DIRECTORY).args(sources))?;
        Ok(java)
    });
    MADE.clone()
}

pub(super) fn go() -> Result<String, String> {
    static MADE: Made = LazyLock::new(|| {
        let given = std::env::var_os("GO").map(PathBuf::from);
        let go = given.or_else(|| program("go"));
        built_by(&go.ok_or("there is no go, in GO or on the PATH")?, "go")
    });
    MADE.clone()
}

pub(super) fn go_with_mptcp() -> Result<String, String> {
    static MADE: Made = LazyLock::new(|| {
        let given = std::env::var_os("GO_MPTCP").map(PathBuf::from);
        let go = given.or_else(|| in_venv("go")).or_else(|| program("go"));
        let go = go.ok_or("there is no go, in GO_MPTCP or on the PATH")?;
        // go version go1.27.3 linux/amd64
        let version = run(Command::new(&go).arg("version"))?;
        let minor = version.split("go1.").nth(1).and_then(|rest| {
            let digits = rest.split(|letter: char| !letter.is_ascii_digit());
            digits.into_iter().next()?.parse::<u32>().ok()
        });
        if minor.is_none_or(|minor| minor < MPTCP_SINCE) {
            return Err(format!("{} is too old: {version}", go.display()));
        }
        let enabled = fs::read_to_string("/proc/sys/net/mptcp/enabled");
        if enabled.is_ok_and(|enabled| enabled.trim() == "1") {
            built_by(&go, "go-mptcp")
        } else {
            Err("the kernel has no MPTCP (net.mptcp.enabled)".into())
        }
    });
    MADE.clone()
}

/// `server.go`, made by this toolchain and no other.
fn built_by(go: &Path, name: &str) -> Result<String, String> {
    let server = made(&format!("server-{name}"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    let mut build = Command::new(go);
    build
        .args(["build", "-o", &server, "server.go"])
        .current_dir(&*DIRECTORY)
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", cache);
    run(&mut build)?;
    Ok(server)
}

fn made(name: &str) -> String {
    DIRECTORY.join(name).display().to_string()
}

/// Runs a command that has to succeed; what it wrote to stdout.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let (status, said) = (output.status, text(&output.stderr));
        Err(format!("{command:?}: {status}\n{said}"))
    }
}
