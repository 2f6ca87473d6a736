//! Real servers in containers, each started as it would be without clinit: as
//! a user without any capability or the way to one, on a read-only root. The
//! tests in tests/matrix run the same ones outside of a container.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::{Container, Engine};
use crate::runner::Test;
use crate::servers::drill::workers;
use crate::servers::{self, DIRECTORY, Drill, Server, build, free_port};

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
    ("one_worker_where_seccomp_is_unknown", |engine| {
        runs_one(engine, "unknown", &refusal(&["seccomp"], ENOSYS, ""));
    }),
    ("one_worker_where_seccomp_has_no_listener", |engine| {
        // As gVisor answers it.
        let has_flag =
            r#", "args": [{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]"#;
        runs_one(
            engine,
            "no-listener",
            &refusal(&["seccomp"], EINVAL, has_flag),
        );
    }),
    ("one_worker_where_no_worker_can_be_looked_into", |engine| {
        let calls = ["ptrace", "process_vm_readv", "pidfd_getfd"];
        runs_one(engine, "no-look", &refusal(&calls, EPERM, ""));
    }),
];

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

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

/// A profile that refuses these calls, with these arguments, and no other.
fn refusal(calls: &[&str], errno: u32, arguments: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": {calls:?}, "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}{arguments}}}]}}"#
    )
}

/// Starts clinit with so many instances of a server in a container.
fn start<'a>(
    engine: &'a Engine,
    server: Server,
    instances: usize,
    options: &[&str],
) -> Option<(Container<'a>, Drill)> {
    let port = free_port();
    let writable = "/tmp";
    let mut command = server.command(port, writable)?;
    let name = format!("matrix-{port}");
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
        let tree = TREE.iter().map(Path::new);
        let own = [DIRECTORY.as_path(), build::VENV.as_path()];
        let places = tree.chain(own).filter(|path| path.is_dir());
        for place in places {
            let place = place.display();
            mounts.push(format!("--volume={place}:{place}:ro"));
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
fn runs_one(engine: &Engine, name: &str, profile: &str) {
    let file = engine
        .directory(&format!("profile-{name}"))
        .join("seccomp.json");
    fs::write(&file, profile).expect("a profile");
    let profile = format!("seccomp={}", file.display());
    let options = ["--security-opt", &profile];
    let Some((container, drill)) = start(engine, Server::C, 4, &options) else {
        return;
    };
    drill.first_answer().unwrap_or_else(|why| panic!("{why}"));
    let there = workers(drill.init);
    container.stop();
    let log = container.log();
    assert_eq!(there.len(), 1, "{there:?}");
    let says = |line: &&str| line.contains("--share off") && line.contains("-l");
    let warnings = log.lines().filter(says).count();
    assert_eq!(warnings, 1, "lines that say what can be done");
    // No other has tried, in vain.
    assert!(!log.contains("server: bind: "), "a second one has tried");
    assert_eq!(container.inspect(".State.ExitCode"), "0");
}
