//! The binary. Its `main` is C's: Rust's own would change the disposition of
//! SIGPIPE and open closed descriptors before anything could record them.
#![no_main]

use std::ffi::{c_char, c_int};

use clinit::shell::{Inherited, arguments, run};

/// The C library's entry to the program.
///
/// # Safety
///
/// To be called by the C library alone, with its `argc` and `argv`.
// SAFETY: nothing else in the program is named main, and the signature is C's.
#[unsafe(no_mangle)]
#[expect(clippy::similar_names, reason = "these are their names")]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let inherited = Inherited::record();
    // SAFETY: the C library gives argc pointers to strings.
    let arguments = unsafe { arguments(argc, argv) };
    run(&arguments, inherited).into()
}
