//! The operations of `ptrace(2)` on one thread.
//!
//! They are this process's alone: only the thread that seized another may do
//! anything with it, and only while that one is stopped.

use std::mem;
use std::mem::MaybeUninit;

use nix::errno::Errno;

// The C libraries disagree on these numbers' type.
const POKEDATA: u64 = 5;
const PEEKDATA: u64 = 2;
const DETACH: u64 = 17;
const SYSCALL: u64 = 24;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;

/// Tells stops at calls from those of SIGTRAP.
const TRACESYSGOOD: u64 = 1;

/// The general registers, as a core file has them.
const NT_PRSTATUS: u64 = 1;

/// The registers that `ptrace` gives and takes.
pub(super) type Registers = libc::user_regs_struct;

/// A signal set as the kernel has it.
pub(super) const SET_SIZE: u64 = 8;

/// A request whose address and data are numbers: it touches no memory of ours.
fn request(request: u64, tid: i32, address: u64, data: u64) -> Result<(), Errno> {
    // SAFETY: as said, each caller's request reads and writes nothing here.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, tid, address, data) };
    Errno::result(result).map(drop)
}

/// Makes this thread the tracer of that one, which goes on.
pub(super) fn seize(tid: i32) -> Result<(), Errno> {
    request(SEIZE, tid, 0, TRACESYSGOOD)
}

/// Asks it to stop.
pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    request(INTERRUPT, tid, 0, 0)
}

/// Lets it go on to its next call or to a call's end, with that signal.
pub(super) fn resume(tid: i32, signal: i32) -> Result<(), Errno> {
    request(SYSCALL, tid, 0, u64::try_from(signal).unwrap_or(0))
}

/// Lets it go for good. Where its process is stopped it stops again.
pub(super) fn detach(tid: i32) -> Result<(), Errno> {
    request(DETACH, tid, 0, 0)
}

/// Writes one word of its memory.
pub(super) fn write_word(tid: i32, address: u64, word: u64) -> Result<(), Errno> {
    request(POKEDATA, tid, address, word)
}

/// Reads one word of its memory.
pub(super) fn read_word(tid: i32, address: u64) -> Result<u64, Errno> {
    let mut word = 0_u64;
    // SAFETY: the kernel's own request, unlike the C library's, writes one
    // word to `word`, which lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, PEEKDATA, tid, address, &raw mut word) };
    Errno::result(result).map(|_| word)
}

/// Its registers.
pub(super) fn registers(tid: i32) -> Result<Registers, Errno> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    let mut part = libc::iovec {
        iov_base: registers.as_mut_ptr().cast(),
        iov_len: size_of::<Registers>(),
    };
    // SAFETY: `part` is what this request reads and writes, and the registers
    // that it points to are writable for the length it says.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, GETREGSET, tid, NT_PRSTATUS, &raw mut part) };
    Errno::result(result)?;
    // A process of the other word size has fewer.
    if part.iov_len != mem::size_of::<Registers>() {
        return Err(Errno::ENOEXEC);
    }
    // SAFETY: the registers are numbers, and all zeros or the kernel's.
    Ok(unsafe { registers.assume_init() })
}

/// Sets its registers.
pub(super) fn set_registers(tid: i32, registers: &Registers) -> Result<(), Errno> {
    let part = libc::iovec {
        iov_base: std::ptr::from_ref(registers).cast_mut().cast(),
        iov_len: size_of::<Registers>(),
    };
    // SAFETY: `part` lives through the call, and the registers that it points
    // to are readable for the length it says; this request only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            SETREGSET,
            tid,
            NT_PRSTATUS,
            &raw const part,
        )
    };
    Errno::result(result).map(drop)
}

/// The signals that it blocks.
pub(super) fn signal_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0_u64;
    // SAFETY: `mask` is as large as is said, and lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, GETSIGMASK, tid, SET_SIZE, &raw mut mask) };
    Errno::result(result).map(|_| mask)
}

/// Sets the signals that it blocks; SIGKILL and SIGSTOP never are.
pub(super) fn set_signal_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    // SAFETY: `mask` is as large as is said, and lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, SETSIGMASK, tid, SET_SIZE, &raw const mask) };
    Errno::result(result).map(drop)
}
