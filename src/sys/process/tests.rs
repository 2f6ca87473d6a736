//! Children that are really started; each ends by itself.

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::poll::{PollFd, PollFlags, poll};

use super::super::affinity::allowed_cpus;
use super::super::signals::{ChildStatuses, SignalSet};
use super::super::start::open_null;
use super::*;

/// The environment of a child that is a shell script.
fn path_only() -> Vec<CString> {
    vec![c"PATH=/usr/bin:/bin".to_owned()]
}

fn command(argv: &[&str]) -> Vec<CString> {
    let argument = |argument: &&str| CString::new(*argument).unwrap();
    argv.iter().map(argument).collect()
}

/// Asks for nothing.
const NOTHING: SpawnRequest<'static> = SpawnRequest {
    argv: &[],
    env: &[],
    own_pid: &[],
    descriptors: &[],
    stdin: Stdin::Inherit,
    group: Group::New,
    credentials: None,
    chdir: None,
    parent_death_signal: None,
    cpu: None,
    filter: None,
};

/// Asks for a command and nothing else.
fn plain<'a>(argv: &'a [CString], env: &'a [CString]) -> SpawnRequest<'a> {
    SpawnRequest {
        argv,
        env,
        ..NOTHING
    }
}

fn outcome(spawned: &Spawned) -> Report {
    loop {
        let mut fds = [PollFd::new(spawned.report.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            poll(&mut fds, 10_000_u16),
            Ok(1),
            "no report in ten seconds"
        );
        match read_report(&spawned.report) {
            // These make no call that anybody would have to answer.
            Report::Filtered(_) => {}
            report @ (Report::Pending | Report::Executed | Report::Failed(_)) => return report,
        }
    }
}

/// Starts `request`, and gives its pid and how it failed or exited.
fn run(request: &SpawnRequest<'_>, inherited: &Inherited) -> (i32, Result<RawExit, SpawnFailure>) {
    let spawned = spawn(request, inherited).unwrap();
    let report = outcome(&spawned);
    let exit = wait_for_one(spawned.pid).unwrap();
    let result = match report {
        Report::Pending | Report::Filtered(_) => panic!("no report that ends it"),
        Report::Executed => Ok(exit),
        Report::Failed(failure) => {
            assert_eq!(exit, RawExit::Code(127));
            Err(failure)
        }
    };
    (spawned.pid, result)
}

/// Starts `request` with a script for its command, whose descriptor 3 is a
/// pipe; gives its pid and what it wrote there.
fn script(text: &str, request: &SpawnRequest<'_>, inherited: &Inherited) -> (i32, String) {
    let argv = command(&["sh", "-c", text]);
    let env = path_only();
    let (mut reader, writer) = pipe().unwrap();
    let request = SpawnRequest {
        argv: &argv,
        env: &env,
        descriptors: &[writer.as_fd()],
        ..*request
    };
    let (pid, result) = run(&request, inherited);
    assert_eq!(result, Ok(RawExit::Code(0)));
    drop(writer);
    let mut written = String::new();
    reader.read_to_string(&mut written).unwrap();
    (pid, written)
}

fn failure(request: &SpawnRequest<'_>) -> SpawnFailure {
    let argv = command(&["true"]);
    let env = path_only();
    let request = SpawnRequest {
        argv: &argv,
        env: &env,
        ..*request
    };
    run(&request, &Inherited::record()).1.unwrap_err()
}

#[test]
fn the_child_finds_its_pid_and_leads_a_group() {
    let (pid, written) = script(
        "echo $LISTEN_PID $$ $(cut -d' ' -f5 /proc/$$/stat) >&3",
        &SpawnRequest {
            own_pid: &["LISTEN_PID"],
            ..NOTHING
        },
        &Inherited::record(),
    );
    assert_eq!(written, format!("{pid} {pid} {pid}\n"));
}

#[test]
fn the_child_has_the_mask_and_dispositions_that_clinit_was_started_with() {
    let mut inherited = Inherited::record();
    inherited.blocked = SignalSet::for_test(&[2, 32, 33, 34, 64]);
    inherited.child_statuses = ChildStatuses::Lost;
    // Not by way of a shell, which sets some of its own.
    let argv = command(&["cp", "/proc/self/status", "/proc/self/fd/3"]);
    let env = path_only();
    let (mut reader, writer) = pipe().unwrap();
    let request = SpawnRequest {
        descriptors: &[writer.as_fd()],
        ..plain(&argv, &env)
    };
    let (_, result) = run(&request, &inherited);
    assert_eq!(result, Ok(RawExit::Code(0)));
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let set = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    assert_eq!(set("SigBlk:"), 1 << 1 | 0b111 << 31 | 1 << 63);
    assert_eq!(set("SigIgn:") >> (libc::SIGCHLD - 1) & 1, 1);
}

#[test]
fn descriptors_are_in_place_even_where_they_overlap() {
    let (mut first, first_writer) = pipe().unwrap();
    let (mut last, last_writer) = pipe().unwrap();
    // So many that each source's number is also a target, the report's too.
    let count = usize::try_from(last_writer.as_raw_fd()).unwrap() + 3;
    let mut descriptors = vec![first_writer.as_fd(); count];
    descriptors[count - 1] = last_writer.as_fd();
    let text = format!("echo first >&3; echo last >/proc/$$/fd/{}", count + 2);
    let argv = command(&["sh", "-c", &text]);
    let env = path_only();
    let request = SpawnRequest {
        descriptors: &descriptors,
        ..plain(&argv, &env)
    };
    let (_, result) = run(&request, &Inherited::record());
    assert_eq!(result, Ok(RawExit::Code(0)));
    drop((first_writer, last_writer));
    let mut texts = [String::new(), String::new()];
    first.read_to_string(&mut texts[0]).unwrap();
    last.read_to_string(&mut texts[1]).unwrap();
    assert_eq!(texts, ["first\n", "last\n"]);
}

#[test]
fn standard_input_can_be_nothing() {
    let null = open_null().unwrap();
    let (_, written) = script(
        "readlink /proc/$$/fd/0 >&3; wc -c >&3",
        &SpawnRequest {
            stdin: Stdin::Null(null.as_fd()),
            ..NOTHING
        },
        &Inherited::record(),
    );
    assert_eq!(written, "/dev/null\n0\n");
}

#[test]
fn the_limit_of_open_descriptors_is_given_back() {
    let mut inherited = Inherited::record();
    let (_, hard) = inherited.nofile.unwrap();
    inherited.nofile = Some((77, hard));
    let (_, written) = script("ulimit -n >&3", &NOTHING, &inherited);
    assert_eq!(written, "77\n");
}

#[test]
fn the_limit_of_queued_signals_is_given_back() {
    let mut inherited = Inherited::record();
    let (_, hard) = inherited.sigpending.unwrap();
    inherited.sigpending = Some((77, hard));
    let text = "grep 'Max pending signals' /proc/$$/limits >&3";
    let (_, written) = script(text, &NOTHING, &inherited);
    assert_eq!(written.split_whitespace().nth(3), Some("77"), "{written}");
}

#[test]
fn directory_and_cpu_are_as_asked_for() {
    let cpu = *allowed_cpus().last().unwrap();
    let (_, written) = script(
        "pwd >&3; grep Cpus_allowed_list /proc/self/status >&3",
        &SpawnRequest {
            chdir: Some(c"/usr"),
            cpu: Some(cpu),
            ..NOTHING
        },
        &Inherited::record(),
    );
    assert_eq!(written, format!("/usr\nCpus_allowed_list:\t{cpu}\n"));
}

#[test]
fn each_step_that_fails_is_named() {
    let failed = failure(&SpawnRequest {
        chdir: Some(c"/nonexistent"),
        ..NOTHING
    });
    let said = "cannot enter the working directory: no such file or directory (os error 2)";
    assert_eq!(failed.to_string(), said);

    let failed = failure(&SpawnRequest {
        cpu: Some(60_000),
        ..NOTHING
    });
    assert_eq!((failed.step, failed.errno), (Step::Affinity, libc::EINVAL));
}

#[test]
fn why_a_command_cannot_be_executed_is_told() {
    let env = path_only();
    for (file, errno) in [
        ("clinit-no-such-command", libc::ENOENT),
        ("/nonexistent/command", libc::ENOENT),
        ("", libc::ENOENT),
        ("/etc", libc::EACCES),
        ("/etc/passwd/x", libc::ENOTDIR),
    ] {
        let argv = command(&[file]);
        let (_, result) = run(&plain(&argv, &env), &Inherited::record());
        let expected = SpawnFailure {
            step: Step::Exec,
            errno,
        };
        assert_eq!(result, Err(expected), "{file:?}");
    }
}

/// A directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("clinit-{name}-{}", std::process::id()));
    // An earlier process of this pid may have been killed before it cleared up.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    directory
}

/// Writes an executable file, in a process of its own: were it open for
/// writing here, a child that another test is starting could hold it so, and
/// its exec would fail with ETXTBSY.
fn write_script(path: &Path, text: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .arg(text)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let directory = scratch("script");
    write_script(&directory.join("greet"), "exit \"$1\"\n");
    let env = [CString::new(format!("PATH=/nonexistent:{}", directory.display())).unwrap()];
    let argv = command(&["greet", "42"]);
    let (_, result) = run(&plain(&argv, &env), &Inherited::record());
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(result, Ok(RawExit::Code(42)));
}

#[test]
fn a_file_that_is_denied_is_remembered_but_a_later_one_is_run() {
    let directory = scratch("denied");
    fs::write(directory.join("true"), "").unwrap();
    let argv = command(&["true"]);
    let path = |rest| CString::new(format!("PATH={}{rest}", directory.display())).unwrap();
    let found = run(&plain(&argv, &[path(":/bin")]), &Inherited::record()).1;
    let denied = run(
        &plain(&argv, &[path(":/nonexistent")]),
        &Inherited::record(),
    )
    .1;
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(found, Ok(RawExit::Code(0)));
    assert_eq!(denied.unwrap_err().errno, libc::EACCES);
}

#[test]
fn a_user_is_taken_on_or_refused() {
    // SAFETY: geteuid has no precondition.
    let privileged = unsafe { libc::geteuid() } == 0;
    let request = SpawnRequest {
        credentials: Some(Credentials {
            uid: 65_534,
            gid: 65_533,
            groups: &[7, 8],
        }),
        ..NOTHING
    };
    if privileged {
        let (_, written) = script(
            "echo $(id -u) $(id -g) $(id -G) >&3",
            &request,
            &Inherited::record(),
        );
        assert_eq!(written, "65534 65533 65533 7 8\n");
    } else {
        let failed = failure(&request);
        assert_eq!((failed.step, failed.errno), (Step::Setgroups, libc::EPERM));
    }
}

#[test]
fn a_child_outside_of_a_terminal_may_ask_for_the_foreground() {
    let null = open_null().unwrap();
    let (_, written) = script(
        "echo ran >&3",
        &SpawnRequest {
            group: Group::NewForeground,
            stdin: Stdin::Null(null.as_fd()),
            parent_death_signal: Some(40),
            ..NOTHING
        },
        &Inherited::record(),
    );
    assert_eq!(written, "ran\n");
}

/// What a child under the filter finds of descriptors and of itself.
fn seen_with(filter: Option<Filter>) -> String {
    let request = SpawnRequest { filter, ..NOTHING };
    let text = "readlink /proc/$$/fd/* >&3; \
        grep -E 'NoNewPrivs|Seccomp:' /proc/$$/status >&3";
    script(text, &request, &Inherited::record()).1
}

#[test]
fn a_child_under_the_filter_has_no_descriptor_by_that() {
    // The channel is closed too, or there would be no report of its exec.
    let with = seen_with(Some(Filter { no_new_privs: true }));
    assert!(
        with.contains("pipe:") && !with.contains("seccomp"),
        "{with}"
    );
    assert!(with.contains("NoNewPrivs:\t1\nSeccomp:\t2\n"), "{with}");
}

#[test]
fn a_filter_without_no_new_privs_takes_a_capability() {
    let filter = Some(Filter {
        no_new_privs: false,
    });
    // SAFETY: geteuid has no precondition.
    if unsafe { libc::geteuid() } == 0 {
        let with = seen_with(filter);
        assert!(with.contains("NoNewPrivs:\t0\nSeccomp:\t2\n"), "{with}");
    } else {
        let failed = failure(&SpawnRequest { filter, ..NOTHING });
        assert_eq!((failed.step, failed.errno), (Step::Filter, libc::EACCES));
    }
}

#[test]
fn a_failure_comes_after_the_listener() {
    let failed = failure(&SpawnRequest {
        filter: Some(Filter { no_new_privs: true }),
        chdir: Some(c"/nonexistent"),
        ..NOTHING
    });
    assert_eq!((failed.step, failed.errno), (Step::Chdir, libc::ENOENT));
}

#[test]
fn a_listener_that_could_not_be_taken_is_told() {
    let (report, answer) = report_channel().unwrap();
    assert!(matches!(read_report(&report), Report::Pending));
    nix::unistd::write(&answer, &FILTERED).unwrap();
    let Report::Failed(failed) = read_report(&report) else {
        panic!("it was none");
    };
    assert_eq!((failed.step, failed.errno), (Step::Listener, libc::EMFILE));
}

#[test]
fn a_record_keeps_its_step_and_number() {
    for step in Step::ALL {
        let failure = SpawnFailure { step, errno: 4095 };
        assert_eq!(SpawnFailure::from_record(failure.record()), Some(failure));
    }
    assert_eq!(SpawnFailure::from_record([255, 0, 0, 0, 0]), None);
}
