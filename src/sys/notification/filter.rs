//! The filter that hands `bind` and `listen` to clinit (`seccomp(2)`).

use std::os::fd::RawFd;

use nix::errno::Errno;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// The shortest address of `bind` that concerns clinit: an IPv4 one. Netlink's
/// has 12 bytes, and a C library binds one to resolve a name.
const SHORTEST: u32 = 16;

// Where `struct seccomp_data` has what the filter looks at. Of an argument it
// is the lower half: both machines are little-endian.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const THIRD_ARGUMENT: u32 = 32;

/// Calls of another machine's table have other numbers: i386's on x86-64 pass
/// by, and x32's, whose numbers have a bit set, are none of those below.
const PROGRAM: [libc::sock_filter; 9] = [
    load(MACHINE),
    jump(libc::BPF_JEQ, NATIVE, 0, 5),
    load(NUMBER),
    jump(libc::BPF_JEQ, number(libc::SYS_listen), 4, 0),
    jump(libc::BPF_JEQ, number(libc::SYS_bind), 0, 2),
    load(THIRD_ARGUMENT),
    jump(libc::BPF_JGE, SHORTEST, 1, 0),
    answer(libc::SECCOMP_RET_ALLOW),
    answer(libc::SECCOMP_RET_USER_NOTIF),
];

const fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "they are small"
)]
const fn number(call: libc::c_long) -> u32 {
    call as u32
}

/// Skips `yes` or `no` instructions.
const fn jump(condition: u32, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | condition | libc::BPF_K, value, yes, no)
}

const fn answer(action: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits")]
const fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Puts the calling thread under the filter, and gives the descriptor that
/// its calls are answered through: close-on-exec. There is no way back, for
/// this thread and for all that it starts. Async-signal-safe.
///
/// # Errors
///
/// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`, `EBUSY` under a filter
/// that has a listener already, `EINVAL` or `ENOSYS` where the kernel has
/// none; those of `seccomp(2)`.
pub(in super::super) fn install(no_new_privs: bool) -> Result<RawFd, Errno> {
    if no_new_privs {
        // SAFETY: PR_SET_NO_NEW_PRIVS touches no memory.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) };
        Errno::result(result)?;
    }
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    match set(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        // Before Linux 5.19 there is no such flag. Signals then interrupt a
        // call that is being answered.
        Err(Errno::EINVAL) => set(flags),
        result => result,
    }
}

fn set(flags: libc::c_ulong) -> Result<RawFd, Errno> {
    #[expect(clippy::cast_possible_truncation, reason = "it is a handful")]
    let program = libc::sock_fprog {
        len: PROGRAM.len() as u16,
        filter: PROGRAM.as_ptr().cast_mut(),
    };
    // SAFETY: `program` lives through the call, and points to as many
    // instructions as it says, which the kernel only reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    let descriptor = Errno::result(result)?;
    RawFd::try_from(descriptor).map_err(|_| Errno::EBADF)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, run as the kernel runs it.
    fn verdict(machine: u32, number: u32, third: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let instruction = PROGRAM[at];
            at += 1;
            match u32::from(instruction.code) {
                0x20 => {
                    loaded = match instruction.k {
                        NUMBER => number,
                        MACHINE => machine,
                        THIRD_ARGUMENT => third,
                        other => panic!("offset {other}"),
                    }
                }
                0x15 | 0x35 => {
                    let holds = if instruction.code == 0x15 {
                        loaded == instruction.k
                    } else {
                        loaded >= instruction.k
                    };
                    at += usize::from(if holds {
                        instruction.jt
                    } else {
                        instruction.jf
                    });
                }
                0x06 => return instruction.k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    #[test]
    fn bind_and_listen_are_told_and_nothing_else_is() {
        let bind = u32::try_from(libc::SYS_bind).unwrap();
        let listen = u32::try_from(libc::SYS_listen).unwrap();
        let told = |machine, number, third| {
            verdict(machine, number, third) == libc::SECCOMP_RET_USER_NOTIF
        };
        for length in [16, 28, 110, u32::MAX] {
            assert!(told(NATIVE, bind, length));
        }
        assert!(told(NATIVE, listen, 0) && told(NATIVE, listen, 128));
        for length in [0, 12, 15] {
            assert!(!told(NATIVE, bind, length));
        }
        let x32 = 0x4000_0000;
        for number in (0..600).chain([x32 | bind, x32 | listen]) {
            if number != bind && number != listen {
                assert!(!told(NATIVE, number, 16), "{number}");
            }
            assert!(!told(0x4000_0003, number, 16), "i386: {number}");
        }
    }
}
