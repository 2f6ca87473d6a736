//! Which CPUs a process may run on (`sched_setaffinity(2)`).
//!
//! The C library's `cpu_set_t` ends at CPU 1023; these masks are as long as
//! the machine needs.

use nix::errno::Errno;

const WORD_BITS: usize = u64::BITS as usize;

/// A mask for 65,536 CPUs, eight times what the kernel can be built for.
const LONGEST: usize = 65_536 / WORD_BITS;

/// The CPUs that this process may run on, ascending. Empty where the kernel
/// does not tell.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let mut mask = vec![0_u64; 1024 / WORD_BITS];
    loop {
        match get(&mut mask) {
            Ok(()) => return members(&mask),
            // The mask is shorter than the kernel's.
            Err(Errno::EINVAL) if mask.len() < LONGEST => mask.resize(mask.len() * 2, 0),
            Err(_) => return Vec::new(),
        }
    }
}

fn get(mask: &mut [u64]) -> Result<(), Errno> {
    // SAFETY: the mask is writable for the length given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(mask),
            mask.as_mut_ptr(),
        )
    };
    Errno::result(result).map(drop)
}

/// Keeps the calling process on the CPUs of `mask`. Async-signal-safe.
pub(super) fn set(mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: the mask is readable for the length given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    };
    Errno::result(result).map(drop)
}

/// The mask that has this CPU alone.
pub(super) fn only(cpu: usize) -> Vec<u64> {
    let word = cpu / WORD_BITS;
    let mut mask = vec![0; word];
    mask.push(1 << (cpu % WORD_BITS));
    mask
}

fn members(mask: &[u64]) -> Vec<usize> {
    let mut members = Vec::new();
    for (index, word) in mask.iter().enumerate() {
        for bit in 0..WORD_BITS {
            if word >> bit & 1 == 1 {
                members.push(index * WORD_BITS + bit);
            }
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_the_cpu_it_was_made_for() {
        for cpu in [0, 1, 63, 64, 1023, 1024, 4097] {
            assert_eq!(members(&only(cpu)), [cpu]);
        }
        assert_eq!(members(&[0b101, 1]), [0, 2, 64]);
    }

    #[test]
    fn this_process_may_run_somewhere() {
        let allowed = allowed_cpus();
        assert!(!allowed.is_empty());
        assert!(allowed.is_sorted());
    }

    #[test]
    fn a_thread_is_kept_on_one_cpu() {
        let cpu = *allowed_cpus().last().unwrap();
        let seen = std::thread::spawn(move || {
            set(&only(cpu)).unwrap();
            allowed_cpus()
        });
        assert_eq!(seen.join().unwrap(), [cpu]);
    }

    #[test]
    fn a_mask_that_is_too_short_is_told_apart() {
        // The kernel wants room for every CPU it was built for, in words.
        assert_eq!(get(&mut []), Err(Errno::EINVAL));
    }
}
