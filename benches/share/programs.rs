//! What the contenders are made of: programs that are there, that are compiled
//! here, that are installed here.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where everything is. It goes when this does.
pub(crate) struct Programs {
    pub(crate) scratch: PathBuf,
    pub(crate) clinit: PathBuf,
    pub(crate) node: Result<PathBuf, String>,
    pub(crate) nginx: Result<PathBuf, String>,
    /// A server of one connection at a time.
    pub(crate) blocking: Result<PathBuf, String>,
    /// Times system calls.
    pub(crate) calls: Result<PathBuf, String>,
    /// What makes this clinit take no part in a worker's bind; none where it
    /// never does.
    pub(crate) without_capture: Option<&'static [&'static str]>,
}

impl Programs {
    pub(crate) fn find() -> io::Result<Self> {
        let scratch = env::temp_dir().join(format!("clinit-share-{}", std::process::id()));
        fs::create_dir(&scratch)?;
        let clinit = PathBuf::from(env!("CARGO_BIN_EXE_clinit"));
        Ok(Self {
            node: find("node"),
            nginx: find("nginx"),
            blocking: compile("blocking", &scratch),
            calls: compile("calls", &scratch),
            without_capture: without_capture(&clinit)?,
            clinit,
            scratch,
        })
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// A file in benches/share/servers.
pub(crate) fn source(name: &str) -> PathBuf {
    let servers = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/share/servers");
    Path::new(servers).join(name)
}

fn find(program: &str) -> Result<PathBuf, String> {
    let mut directories = env::var_os("PATH").unwrap_or_default();
    directories.push(":/usr/sbin");
    env::split_paths(&directories)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{program} is not installed"))
}

fn compile(name: &str, directory: &Path) -> Result<PathBuf, String> {
    let program = directory.join(name);
    let compiled = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(source(&format!("{name}.c")))
        .status()
        .map_err(|error| format!("cc: {error}"))?;
    if compiled.success() {
        Ok(program)
    } else {
        Err(format!("cc: {compiled}"))
    }
}

/// Asks the program itself, for a row of an older one would be a lie.
fn without_capture(clinit: &Path) -> io::Result<Option<&'static [&'static str]>> {
    let help = Command::new(clinit).arg("--help").output()?.stdout;
    let help = String::from_utf8_lossy(&help);
    let says = |text| help.contains(text);
    Ok(if says("--capture") {
        Some(&["--capture", "off"])
    } else if says("--share") && says("slots") {
        Some(&["--share", "off"])
    } else {
        None
    })
}

/// pm2-runtime, from npm where it is not there yet.
pub(crate) fn pm2() -> Result<PathBuf, String> {
    const PM2: &str = "pm2@7.0.4";
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pm2");
    let program = prefix.join("node_modules/pm2/bin/pm2-runtime");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("installing {PM2} into {}", prefix.display());
    let status = Command::new("timeout")
        .args([
            "120",
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ])
        .arg(&prefix)
        .arg(PM2)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("npm: {error}"))?;
    if status.success() && program.is_file() {
        Ok(program)
    } else {
        Err(format!("npm install {PM2}: {status}"))
    }
}
