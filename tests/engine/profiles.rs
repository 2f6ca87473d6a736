//! Seccomp profiles for containers, and what they refuse.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::Engine;
use crate::matrix::{RESTRICTED, tree};

/// What a current engine allows a container that has no capability: ptrace and
/// `process_vm_readv`, but not `pidfd_getfd`. The engine here may be old.
pub(crate) fn current() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let profile = root.join("tests/engine/seccomp-default.json");
    format!("seccomp={}", profile.display())
}

/// As kernels without it answer.
pub(crate) fn seccomp_is_unknown() -> String {
    refusal(&["seccomp"], libc::ENOSYS, "")
}

/// As gVisor answers where a listener is asked for.
pub(crate) fn seccomp_has_no_listener() -> String {
    let flag = r#"{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}"#;
    refusal(
        &["seccomp"],
        libc::EINVAL,
        &format!(r#", "args": [{flag}]"#),
    )
}

/// As kernels before 5.9 answer where a descriptor is to be put into a
/// process: `SECCOMP_IOCTL_NOTIF_ADDFD`.
pub(crate) fn no_putting() -> String {
    let request = r#"{"index": 1, "value": 1075323139, "op": "SCMP_CMP_EQ"}"#;
    refusal(
        &["ioctl"],
        libc::EINVAL,
        &format!(r#", "args": [{request}]"#),
    )
}

/// Without all of these only another socket in a worker's place is left.
pub(crate) fn no_looking() -> String {
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
pub(crate) fn written(engine: &Engine, profile: &str) -> String {
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
pub(crate) fn refuse_what_they_are_to(engine: &Engine) {
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
            current(),
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
