//! Calls on x86-64.
//!
//! A thread that is stopped behind a call has its number in `orig_rax`, from
//! which the kernel may make it again; -1 there says that nothing is to be.

use super::Site;
use super::ptrace::Registers;

/// `syscall`.
pub(super) const INSTRUCTION: u64 = 0x050f;
/// How many bytes that has.
pub(super) const INSTRUCTION_LENGTH: u64 = 2;

const NO_CALL: u64 = u64::MAX;

/// Whether the thread is right behind this call.
pub(super) fn is_behind(registers: &Registers, site: &Site) -> bool {
    let made = [registers.rdi, registers.rsi, registers.rdx];
    registers.rip == site.instruction_pointer
        && registers.orig_rax == site.number
        && made == site.arguments
}

/// The registers with which the thread makes another call at this place.
pub(super) fn calling(
    registers: &Registers,
    site: &Site,
    number: u64,
    arguments: [u64; 6],
) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    Registers {
        rip: site.instruction_pointer.wrapping_sub(INSTRUCTION_LENGTH),
        orig_rax: NO_CALL,
        rax: number,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        ..*registers
    }
}

/// What the call that the thread has just made returned.
pub(super) fn result(registers: &Registers) -> i64 {
    registers.rax.cast_signed()
}

/// The registers with which it goes on behind its own call.
pub(super) fn returning(registers: &Registers, site: &Site, result: i64) -> Registers {
    Registers {
        rip: site.instruction_pointer,
        orig_rax: NO_CALL,
        rax: result.cast_unsigned(),
        ..*registers
    }
}

/// The registers with which it makes its own call again.
pub(super) fn repeating(registers: &Registers, site: &Site) -> Registers {
    Registers {
        rip: site.instruction_pointer.wrapping_sub(INSTRUCTION_LENGTH),
        orig_rax: NO_CALL,
        rax: site.number,
        ..*registers
    }
}
