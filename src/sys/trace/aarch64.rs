//! Calls on aarch64.
//!
//! Before a thread stops behind a call that is to be made again, the kernel
//! has already put it back to before the instruction, and its first argument
//! into x0. The number that the kernel remembers is forgotten by then, so it
//! makes nothing again by itself (`NT_ARM_SYSTEM_CALL` need not be touched):
//! the number is in x8.

use super::Site;
use super::ptrace::Registers;

/// `svc #0`.
pub(super) const INSTRUCTION: u64 = 0xd400_0001;
/// How many bytes that has.
pub(super) const INSTRUCTION_LENGTH: u64 = 4;

/// Whether the thread is right behind this call, or about to make it again.
pub(super) fn is_behind(registers: &Registers, site: &Site) -> bool {
    let [x0, x1, x2, _, _, _, _, _, x8, ..] = registers.regs;
    let [first, second, third] = site.arguments;
    let again = registers.pc == before(site) && x0 == first;
    (again || registers.pc == site.instruction_pointer)
        && x8 == site.number
        && [x1, x2] == [second, third]
}

/// The registers with which the thread makes another call at this place.
pub(super) fn calling(
    registers: &Registers,
    site: &Site,
    number: u64,
    arguments: [u64; 6],
) -> Registers {
    let mut changed = *registers;
    let values = arguments.into_iter();
    for (register, value) in changed.regs.iter_mut().zip(values) {
        *register = value;
    }
    let [_, _, _, _, _, _, _, _, x8, ..] = &mut changed.regs;
    *x8 = number;
    changed.pc = before(site);
    changed
}

/// What the call that the thread has just made returned.
pub(super) fn result(registers: &Registers) -> i64 {
    let [x0, ..] = registers.regs;
    x0.cast_signed()
}

/// The registers with which it goes on behind its own call.
pub(super) fn returning(registers: &Registers, site: &Site, result: i64) -> Registers {
    let mut changed = *registers;
    let [x0, ..] = &mut changed.regs;
    *x0 = result.cast_unsigned();
    changed.pc = site.instruction_pointer;
    changed
}

/// The registers with which it makes its own call again.
pub(super) fn repeating(registers: &Registers, site: &Site) -> Registers {
    let mut changed = *registers;
    let [x0, ..] = &mut changed.regs;
    let [first, ..] = site.arguments;
    *x0 = first;
    changed.pc = before(site);
    changed
}

fn before(site: &Site) -> u64 {
    site.instruction_pointer.wrapping_sub(INSTRUCTION_LENGTH)
}
