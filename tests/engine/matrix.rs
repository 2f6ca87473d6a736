//! Real servers in containers, each started as it would be without clinit: as
//! a user without any capability or the way to one, on a read-only root. The
//! tests in tests/matrix run the same ones outside of a container.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::{Container, Engine};
use crate::profiles;
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
    ("matrix_java_that_selects_before_it_binds", |engine| {
        heals(engine, Server::JavaRegistersFirst, &[]);
    }),
    ("matrix_static_c_under_a_current_profile", |engine| {
        heals_by("ptrace", engine, Server::C, &profiles::current());
    }),
    ("matrix_node_under_a_current_profile", |engine| {
        heals_by("ptrace", engine, Server::Node, &profiles::current());
    }),
    (
        "matrix_static_c_as_another_user_than_root_clinit",
        |engine| {
            let options = ["--env=CLINIT_USER=65534", "--env=CLINIT_VERBOSE=1"];
            heals_by_default(engine, Server::C, &options);
        },
    ),
    (
        "matrix_static_c_as_another_user_under_a_current_profile",
        |engine| {
            let options = [
                "--env=CLINIT_USER=65534",
                "--env=CLINIT_VERBOSE=1",
                "--security-opt",
                &profiles::current(),
            ];
            heals_by_default(engine, Server::C, &options);
        },
    ),
    (
        "profiles_refuse_what_they_are_to",
        profiles::refuse_what_they_are_to,
    ),
    ("one_worker_where_seccomp_is_unknown", |engine| {
        runs_one(engine, &profiles::seccomp_is_unknown());
    }),
    ("one_worker_where_seccomp_has_no_listener", |engine| {
        runs_one(engine, &profiles::seccomp_has_no_listener());
    }),
    ("one_worker_where_nothing_can_be_put_into_it", |engine| {
        runs_one(engine, &profiles::no_putting());
    }),
    ("matrix_static_c_where_sockets_are_replaced", |engine| {
        let profile = profiles::written(engine, &profiles::no_looking());
        heals_by("replace", engine, Server::C, &profile);
    }),
    ("matrix_node_where_sockets_are_replaced", |engine| {
        let profile = profiles::written(engine, &profiles::no_looking());
        heals_by("replace", engine, Server::Node, &profile);
    }),
];

/// What Kubernetes calls "restricted"; the engine's own seccomp profile is in
/// force where no option says otherwise.
pub(crate) const RESTRICTED: &[&str] = &[
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

/// The options that mount this machine's tree.
pub(crate) fn tree() -> Vec<String> {
    let places = TREE.iter().map(Path::new).filter(|place| place.is_dir());
    places.map(mount).collect()
}

fn mount(place: &Path) -> String {
    let place = place.display();
    format!("--volume={place}:{place}:ro")
}

/// Starts clinit with so many instances of a server in a restricted container.
fn start<'a>(
    engine: &'a Engine,
    server: Server,
    instances: usize,
    options: &[&str],
) -> Option<(Container<'a>, Drill)> {
    start_with(engine, server, instances, &[RESTRICTED, options].concat())
}

/// The same in a container with these options alone.
pub(crate) fn start_with<'a>(
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
    let container = engine.run(&[options, &mounts, &clinit, &command].concat());
    let drill = Drill {
        server,
        port,
        init: container.inspect(".State.Pid").parse().expect("a pid"),
        slots: instances,
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
        | Server::Java
        | Server::JavaRegistersFirst => false,
    }
}

fn heals(engine: &Engine, server: Server, options: &[&str]) {
    let _ = heals_and_says(engine, server, options);
}

/// The same under a profile, which leaves this way to a worker's socket.
fn heals_by(way: &str, engine: &Engine, server: Server, profile: &str) {
    let options = ["--security-opt", profile, "--env=CLINIT_VERBOSE=1"];
    if let Some(log) = heals_and_says(engine, server, &options) {
        let said = format!("shared, by {way}");
        assert!(log.contains(&said), "{said:?} is not in the log");
    }
}

/// Clinit as root with the engine's own capabilities, none of which lets it
/// look into another user's workers.
fn heals_by_default(engine: &Engine, server: Server, options: &[&str]) {
    if let Some(started) = start_with(engine, server, 4, options) {
        let log = drilled(&started);
        assert!(log.contains("shared, by replace"), "{log}");
    }
}

/// Returns the log.
fn heals_and_says(engine: &Engine, server: Server, options: &[&str]) -> Option<String> {
    let started = start(engine, server, servers::copies(), options)?;
    Some(drilled(&started))
}

/// Kills workers and ends clinit; returns its log.
fn drilled((container, drill): &(Container<'_>, Drill)) -> String {
    drill.run().unwrap_or_else(|why| panic!("{why}"));
    container.stop();
    assert_eq!(container.inspect(".State.ExitCode"), "0");
    container.log()
}

/// Where ports cannot be shared, one worker serves, whatever was asked for, and
/// one line says what can be done.
fn runs_one(engine: &Engine, profile: &str) {
    let profile = profiles::written(engine, profile);
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
