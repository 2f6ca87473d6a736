//! Real servers in containers, each started as it would be without clinit: as
//! a user without any capability or the way to one, on a read-only root. The
//! tests in tests/matrix run the same ones outside of a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::{Container, Engine};
use crate::runner::Test;
use crate::servers::drill::workers;
use crate::servers::{self, DIRECTORY, Drill, Server, free_port};

pub(crate) const TESTS: &[Test<Engine>] = &[
    ("matrix_node", |engine| heals(engine, Server::Node, &[])),
    ("matrix_python_http_server", |engine| {
        heals(engine, Server::PythonModule, &[]);
    }),
    ("matrix_python_with_threads", |engine| {
        heals(engine, Server::PythonThreads, &[]);
    }),
    ("matrix_gunicorn", |engine| {
        heals(engine, Server::Gunicorn, &[]);
    }),
    ("matrix_uvicorn", |engine| {
        heals(engine, Server::Uvicorn, &[]);
    }),
    ("matrix_static_c", |engine| heals(engine, Server::C, &[])),
    ("matrix_static_c_that_registers_before_it_binds", |engine| {
        heals(engine, Server::CRegistersFirst, &[]);
    }),
    ("matrix_static_c_that_registers_as_netty_does", |engine| {
        heals(engine, Server::CModifies, &[]);
    }),
    ("matrix_static_go", |engine| heals(engine, Server::Go, &[])),
    ("matrix_static_go_with_mptcp", |engine| {
        heals(engine, Server::GoMptcp, &[]);
    }),
    ("matrix_nginx", |engine| heals(engine, Server::Nginx, &[])),
    ("matrix_java", |engine| heals(engine, Server::Java, &[])),
    ("matrix_static_c_under_a_current_profile", |engine| {
        heals(engine, Server::C, &["--security-opt", &current_profile()]);
    }),
    ("matrix_node_under_a_current_profile", |engine| {
        heals(
            engine,
            Server::Node,
            &["--security-opt", &current_profile()],
        );
    }),
    ("profiles_refuse_what_they_are_to", |engine| {
        profiles_refuse_what_they_are_to(engine);
    }),
    ("one_worker_where_seccomp_is_unknown", |engine| {
        runs_one(engine, &seccomp_is_unknown());
    }),
    ("one_worker_where_seccomp_has_no_listener", |engine| {
        runs_one(engine, &seccomp_has_no_listener());
    }),
    ("one_worker_where_no_worker_can_be_looked_into", |engine| {
        runs_one(engine, &no_looking());
    }),
];

/// What Kubernetes calls "restricted"; the engine's own seccomp profile is in
/// force where no option says otherwise.
const RESTRICTED: &[&str] = &[
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "1000:1000",
];

/// What takes the place of an image's root tree for servers that are not
/// static: this machine's.
const TREE: &[&str] = &["/usr", "/lib", "/lib64", "/etc"];

/// What a current engine allows a container that has no capability: ptrace and
/// `process_vm_readv`, but not `pidfd_getfd`. The engine here may be old.
fn current_profile() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let profile = root.join("tests/engine/seccomp-default.json");
    format!("seccomp={}", profile.display())
}

/// As kernels without it answer.
fn seccomp_is_unknown() -> String {
    refusal(&["seccomp"], libc::ENOSYS, "")
}

/// As gVisor answers where a listener is asked for.
fn seccomp_has_no_listener() -> String {
    let flag = r#"{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}"#;
    refusal(
        &["seccomp"],
        libc::EINVAL,
        &format!(r#", "args": [{flag}]"#),
    )
}

fn no_looking() -> String {
    let calls = ["ptrace", "process_vm_readv", "pidfd_getfd"];
    refusal(&calls, libc::EPERM, "")
}

/// A profile that refuses these calls, with these arguments, and no other.
fn refusal(calls: &[&str], errno: i32, arguments: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": {calls:?}, "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}{arguments}}}]}}"#
    )
}

/// The option that puts a profile in force.
fn written(engine: &Engine, profile: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("profile-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let file = engine.directory(&name).join("seccomp.json");
    fs::write(&file, profile).expect("a profile");
    format!("seccomp={}", file.display())
}

/// What a container is told that makes these calls. Each has arguments for
/// which the kernel's own answer is not the profile's.
const ATTEMPTS: &str = r#"
import ctypes, sys
call = ctypes.CDLL(None, use_errno=True).syscall
for words in sys.argv[1:]:
    ctypes.set_errno(0)
    call(*(ctypes.c_long(int(word)) for word in words.split(",")))
    print(ctypes.get_errno())
"#;

/// A profile with a mistake would let a test pass, or fail, for nothing.
fn profiles_refuse_what_they_are_to(engine: &Engine) {
    const NONE: i64 = -1;
    let nobody = i64::from(i32::MAX);
    let ptrace = (vec![libc::SYS_ptrace, 16, nobody], libc::ESRCH);
    let process_vm_readv = (vec![libc::SYS_process_vm_readv, nobody, 0, 0, 0, 0, 0], 0);
    let pidfd_getfd = (vec![libc::SYS_pidfd_getfd, NONE, 0, 0], libc::EBADF);
    // SECCOMP_SET_MODE_FILTER with a listener, of a filter that is not there.
    let seccomp = (vec![libc::SYS_seccomp, 1, 8, 0], libc::EFAULT);
    let without_listener = (vec![libc::SYS_seccomp, 1, 0, 0], libc::EFAULT);
    let unshare = (vec![libc::SYS_unshare, 0], 0);
    let clone3 = (vec![libc::SYS_clone3, 0, 0], libc::EINVAL);
    let refused = |(call, _): &(Vec<i64>, i32), errno| (call.clone(), errno);
    let cases = [
        (
            current_profile(),
            vec![
                ptrace.clone(),
                process_vm_readv.clone(),
                seccomp.clone(),
                refused(&pidfd_getfd, libc::EPERM),
                refused(&unshare, libc::EPERM),
                refused(&clone3, libc::ENOSYS),
            ],
        ),
        (
            written(engine, &seccomp_is_unknown()),
            vec![
                refused(&seccomp, libc::ENOSYS),
                refused(&without_listener, libc::ENOSYS),
                ptrace.clone(),
                pidfd_getfd.clone(),
            ],
        ),
        (
            written(engine, &seccomp_has_no_listener()),
            vec![refused(&seccomp, libc::EINVAL), without_listener, unshare],
        ),
        (
            written(engine, &no_looking()),
            vec![
                seccomp,
                refused(&ptrace, libc::EPERM),
                refused(&process_vm_readv, libc::EPERM),
                refused(&pidfd_getfd, libc::EPERM),
            ],
        ),
    ];
    let dockerfile = "FROM scratch\nENTRYPOINT [\"/usr/bin/python3\"]\n";
    engine.image("attempts", dockerfile, &[]);
    let mounts = tree();
    for (profile, calls) in cases {
        let own = ["run", "--rm", "--network", "none", "--security-opt"];
        let words: Vec<String> = own
            .iter()
            .map(|word| (*word).to_owned())
            .chain([profile.clone()])
            .chain(RESTRICTED.iter().map(|word| (*word).to_owned()))
            .chain(mounts.iter().cloned())
            .chain(["attempts", "-c", ATTEMPTS].map(str::to_owned))
            .chain(calls.iter().map(|(call, _)| {
                let numbers: Vec<String> = call.iter().map(ToString::to_string).collect();
                numbers.join(",")
            }))
            .collect();
        let output = engine.succeed(&words);
        let found: Vec<&str> = output.lines().collect();
        let expected: Vec<String> = calls.iter().map(|(_, errno)| errno.to_string()).collect();
        assert_eq!(found, expected, "{profile}: {calls:?}");
    }
}

/// The options that mount it.
fn tree() -> Vec<String> {
    let places = TREE.iter().map(Path::new).filter(|place| place.is_dir());
    places.map(mount).collect()
}

fn mount(place: &Path) -> String {
    let place = place.display();
    format!("--volume={place}:{place}:ro")
}

/// Starts clinit with so many instances of a server in a container.
fn start<'a>(
    engine: &'a Engine,
    server: Server,
    instances: usize,
    options: &[&str],
) -> Option<(Container<'a>, Drill)> {
    // The same names in every run: images are kept.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let port = free_port();
    let writable = "/tmp";
    let mut command = server.command(port, writable)?;
    let name = format!("matrix-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let clinit = PathBuf::from(env!("CARGO_BIN_EXE_clinit"));
    let mut mounts: Vec<String> = Vec::new();
    if is_static(server) {
        let program = command.first_mut().expect("a program");
        let binary = std::mem::replace(program, "/server".to_owned());
        let dockerfile = "FROM scratch\nCOPY clinit server /\nENTRYPOINT [\"/clinit\"]\n";
        let files = [(clinit.as_path(), "clinit"), (Path::new(&binary), "server")];
        engine.image(&name, dockerfile, &files);
    } else {
        let dockerfile = "FROM scratch\nCOPY clinit /\nENTRYPOINT [\"/clinit\"]\n";
        engine.image(&name, dockerfile, &[(&clinit, "clinit")]);
        mounts.extend(tree());
        mounts.push(mount(&DIRECTORY));
        let program = Path::new(command.first().expect("a program"));
        if !TREE.iter().any(|place| program.starts_with(place)) {
            // PLACE/bin/PROGRAM, such as a virtual environment's.
            let place = program.ancestors().nth(2).expect("an absolute path");
            mounts.push(mount(place));
        }
        // nginx and gunicorn write there, with and without clinit.
        mounts.push(format!("--tmpfs={writable}"));
        mounts.push(format!("--env=HOME={writable}"));
    }
    let instances_word = instances.to_string();
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let clinit = [name.as_str(), "-i", &instances_word, "--"];
    let container = engine.run(&[RESTRICTED, options, &mounts, &clinit, &command].concat());
    let drill = Drill {
        server,
        port,
        init: container.inspect(".State.Pid").parse().expect("a pid"),
        copies: instances,
        holds_port: instances > 1,
    };
    Some((container, drill))
}

fn is_static(server: Server) -> bool {
    match server {
        Server::C | Server::CRegistersFirst | Server::CModifies | Server::Go | Server::GoMptcp => {
            true
        }
        Server::Node
        | Server::PythonModule
        | Server::PythonThreads
        | Server::Gunicorn
        | Server::Uvicorn
        | Server::Nginx
        | Server::Java => false,
    }
}

fn heals(engine: &Engine, server: Server, options: &[&str]) {
    let Some((container, drill)) = start(engine, server, servers::copies(), options) else {
        return;
    };
    drill.run().unwrap_or_else(|why| panic!("{why}"));
    container.stop();
    assert_eq!(container.inspect(".State.ExitCode"), "0");
}

/// Where ports cannot be shared, one worker serves, whatever was asked for, and
/// one line says what can be done.
fn runs_one(engine: &Engine, profile: &str) {
    let profile = written(engine, profile);
    let options = ["--security-opt", &profile];
    let Some((container, drill)) = start(engine, Server::C, 4, &options) else {
        return;
    };
    drill.first_answer().unwrap_or_else(|why| panic!("{why}"));
    let there = workers(drill.init);
    container.stop();
    let log = container.log();
    let says = |line: &&str| line.contains("--share off") && line.contains("-l");
    let warnings = log.lines().filter(says).count();
    assert_eq!(warnings, 1, "lines that say what can be done");
    // No other is there, nor has one been, in vain.
    assert_eq!(there.len(), 1, "{there:?}");
    assert!(!log.contains("server: bind: "), "a second one has tried");
    assert_eq!(container.inspect(".State.ExitCode"), "0");
}
