//! What an exec needs, ready before the fork.
//!
//! The C libraries' `execvp` will not do: musl's does not run scripts that
//! have no `#!` line, and both read the PATH of the caller, not the child's.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::io::Write;
use std::marker::PhantomData;
use std::ptr;

use nix::errno::Errno;

/// Where a command is looked for when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

const SHELL: &CStr = c"/bin/sh";

/// Room for `=`, a pid and a NUL. The digits are not padded with zeros,
/// because systemd would read a padded number as octal.
const PID_ROOM: usize = 12;

/// A file is not there, and the next in PATH may be. glibc goes on for the
/// same ones.
const MISSING: [Errno; 6] = [
    Errno::ENOENT,
    Errno::ENOTDIR,
    Errno::ENAMETOOLONG,
    Errno::ESTALE,
    Errno::ENODEV,
    Errno::ETIMEDOUT,
];

/// A command with its arguments and environment, for `execve(2)`.
pub(super) struct Image<'a> {
    /// The files to try, in the order of PATH.
    candidates: Vec<CString>,
    argv: Vec<*const c_char>,
    /// `/bin/sh`, room for the file, then the arguments after `argv[0]`.
    script_argv: Vec<*const c_char>,
    /// The environment, with nulls where the `own_pid` are to be.
    env: Vec<*const c_char>,
    /// Variables that are the process's own number: where they stand, and
    /// their name with room.
    own_pid: Vec<(usize, Vec<u8>)>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        argv: &'a [CString],
        env: &'a [CString],
        own_pid: &[&str],
    ) -> io::Result<Self> {
        let (file, arguments) = argv.split_first().ok_or(Errno::EINVAL)?;
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).collect()
        };
        let mut script_argv = vec![SHELL.as_ptr(), ptr::null()];
        script_argv.extend(pointers(arguments));
        script_argv.push(ptr::null());
        let mut full_argv = pointers(argv);
        full_argv.push(ptr::null());
        let mut full_env = Vec::with_capacity(env.len() + own_pid.len() + 1);
        let mut places = vec![None; own_pid.len()];
        for entry in env {
            let name = entry.to_bytes().split(|byte| *byte == b'=').next();
            let own = own_pid
                .iter()
                .position(|own| name == Some(own.as_bytes()))
                .and_then(|index| places.get_mut(index));
            match own {
                None => full_env.push(entry.as_ptr()),
                Some(place) if place.is_none() => {
                    *place = Some(full_env.len());
                    full_env.push(ptr::null());
                }
                Some(_) => {}
            }
        }
        let with_room = |name: &&str| [name.as_bytes(), &[0; PID_ROOM]].concat();
        let mut written = Vec::with_capacity(own_pid.len());
        for (name, place) in own_pid.iter().zip(places) {
            let place = place.unwrap_or(full_env.len());
            full_env.resize(full_env.len().max(place + 1), ptr::null());
            written.push((place, with_room(name)));
        }
        full_env.push(ptr::null());
        Ok(Self {
            candidates: candidates(file, path_of(env)),
            argv: full_argv,
            script_argv,
            env: full_env,
            own_pid: written,
            strings: PhantomData,
        })
    }

    /// Becomes the command, or says why not. Async-signal-safe.
    pub(super) fn exec(&mut self) -> Errno {
        self.write_own_pid();
        let Self {
            candidates,
            argv,
            script_argv,
            env,
            ..
        } = self;
        let mut last = Errno::ENOENT;
        let mut denied = false;
        for file in candidates {
            let errno = exec_one(file, argv, script_argv, env);
            if errno == Errno::EACCES {
                denied = true;
            } else if MISSING.contains(&errno) {
                last = errno;
            } else {
                return errno;
            }
        }
        if denied { Errno::EACCES } else { last }
    }

    fn write_own_pid(&mut self) {
        for (place, buffer) in &mut self.own_pid {
            let name = buffer.len().saturating_sub(PID_ROOM);
            let mut unwritten = buffer.get_mut(name..).unwrap_or_default();
            // It has room for the longest pid and a NUL. Formatting an integer
            // into a slice neither allocates nor fails.
            let _ = write!(unwritten, "={}", std::process::id());
            if let Some(entry) = self.env.get_mut(*place) {
                *entry = buffer.as_ptr().cast();
            }
        }
    }
}

fn exec_one(
    file: &CStr,
    argv: &[*const c_char],
    script_argv: &mut [*const c_char],
    env: &[*const c_char],
) -> Errno {
    let errno = execve(file, argv, env);
    if errno == Errno::ENOEXEC
        && let Some(slot) = script_argv.get_mut(1)
    {
        // No program that the kernel knows and no `#!`: a script. An image
        // without a shell is told of the file, not of the shell.
        *slot = file.as_ptr();
        execve(SHELL, script_argv, env);
    }
    errno
}

fn execve(file: &CStr, argv: &[*const c_char], env: &[*const c_char]) -> Errno {
    // SAFETY: both arrays end with a null, and what they point to is borrowed
    // for as long as the `Image` lives.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    // It returned, so it failed.
    Errno::last()
}

fn path_of(env: &[CString]) -> &[u8] {
    env.iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH)
}

/// The files that a command may mean: itself if it has a slash, else one in
/// each directory of `path`. An empty directory is the working directory.
fn candidates(file: &CStr, path: &[u8]) -> Vec<CString> {
    let name = file.to_bytes();
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return vec![file.to_owned()];
    }
    path.split(|byte| *byte == b':')
        .filter_map(|directory| {
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            CString::new([directory, separator, name].concat()).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &CStr, path: &[u8]) -> Vec<String> {
        candidates(file, path)
            .into_iter()
            .map(|path| path.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_command_is_looked_for_in_path() {
        assert_eq!(found(c"ls", b"/usr/bin:/bin"), ["/usr/bin/ls", "/bin/ls"]);
        assert_eq!(found(c"ls", b":/bin:"), ["ls", "/bin/ls", "ls"]);
        assert_eq!(found(c"ls", b""), ["ls"]);
        assert_eq!(found(c"./ls", b"/bin"), ["./ls"]);
        assert!(found(c"", b"/bin").is_empty());
    }

    #[test]
    fn the_first_path_of_the_childs_environment_counts() {
        let env = [c"XPATH=/x", c"PATH=/a", c"PATH=/b"].map(CStr::to_owned);
        assert_eq!(path_of(&env), b"/a");
        assert_eq!(path_of(&[]), DEFAULT_PATH);
    }

    #[test]
    fn the_pid_is_written_in_place_of_any_other() {
        let argv = [c"x".to_owned()];
        let env = [
            c"A=b",
            c"LISTEN_PID=1",
            c"LISTEN_PIDS=2",
            c"LISTEN_PID=3",
            c"LISTEN_PID",
        ];
        let env = env.map(CStr::to_owned);
        let mut image = Image::new(&argv, &env, &["WATCHDOG_PID", "LISTEN_PID"]).unwrap();
        image.write_own_pid();
        let entries: Vec<&CStr> = image
            .env
            .iter()
            .take_while(|entry| !entry.is_null())
            // SAFETY: each entry before the null is a C string of `env` or
            // of the image.
            .map(|entry| unsafe { CStr::from_ptr(*entry) })
            .collect();
        let own = ["LISTEN_PID", "WATCHDOG_PID"];
        let [listen, watchdog] = own.map(|name| format!("{name}={}", std::process::id()));
        let expected = ["A=b", &listen, "LISTEN_PIDS=2", &watchdog];
        let entries: Vec<&str> = entries
            .into_iter()
            .map(|entry| entry.to_str().unwrap())
            .collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn there_is_room_for_the_longest_pid() {
        assert!("=".len() + i32::MAX.to_string().len() < PID_ROOM);
    }

    #[test]
    fn nothing_to_execute_is_refused() {
        assert!(Image::new(&[], &[], &[]).is_err());
    }
}
