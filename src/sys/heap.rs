//! The heap: the C library's, asked for blocks of a few sizes only.
//!
//! glibc keeps up to seven freed blocks of each of 64 sizes, up to 1 KiB, for
//! the thread that freed them; `mallopt(3)` does not change that, and what is
//! kept is never joined with its neighbours. Clinit makes strings of every
//! length, and cuts them to it, which leaves rests of every length: after two
//! reloads of 64 workers 110 kB were kept so. Of the sizes here it is 12 kB.
//! musl keeps nothing of the kind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// The longest block that glibc keeps so.
const LONGEST: usize = 1032;

/// What glibc puts before each block.
const HEADER: usize = 8;

struct FewSizes;

#[global_allocator]
static HEAP: FewSizes = FewSizes;

/// The layout that is asked for in place of this one: no smaller, and as much
/// aligned.
fn rounded(layout: Layout) -> Layout {
    let size = rounded_size(layout.size());
    Layout::from_size_align(size, layout.align()).unwrap_or(layout)
}

/// With its header it is a power of two, or one and a half.
fn rounded_size(size: usize) -> usize {
    if size == 0 || size > LONGEST {
        return size;
    }
    let whole = (size + HEADER).next_power_of_two();
    let less = whole / 4 * 3;
    let least = if size + HEADER <= less { less } else { whole };
    least - HEADER
}

// SAFETY: what is asked for is no smaller and as much aligned, and for one
// layout always the same, so that each block is given back as it was taken.
unsafe impl GlobalAlloc for FewSizes {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is not empty, so this one is not.
        unsafe { System.alloc(rounded(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: it was taken above with this layout's rounded one.
        unsafe { System.dealloc(block, rounded(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(rounded(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (from, to) = (rounded_size(layout.size()), rounded_size(size));
        if from == to {
            return block;
        }
        if from.min(to) > LONGEST {
            // SAFETY: it was taken above with this layout's rounded one, and
            // the new size is one that the caller may ask for.
            return unsafe { System.realloc(block, rounded(layout), to) };
        }
        // glibc would cut it, and keep the rest, which can be of any size.
        let new = Layout::from_size_align(size, layout.align()).unwrap_or(layout);
        // SAFETY: the new size is not 0.
        let taken = unsafe { self.alloc(new) };
        if !taken.is_null() {
            let length = size.min(layout.size());
            // SAFETY: both blocks are that long, and they are two.
            unsafe { ptr::copy_nonoverlapping(block, taken, length) };
            // SAFETY: it is the caller's to give.
            unsafe { self.dealloc(block, layout) };
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_of_few_sizes_and_hold_what_is_asked_for() {
        let mut sizes: Vec<usize> = (1..=LONGEST).map(rounded_size).collect();
        for (size, rounded) in (1..).zip(&sizes) {
            assert!(
                size <= *rounded && *rounded <= size * 2 + 32,
                "{size}: {rounded}"
            );
        }
        sizes.dedup();
        assert!(sizes.len() <= 16, "{sizes:?}");
        assert_eq!(rounded_size(LONGEST + 1), LONGEST + 1);
        assert_eq!(rounded_size(0), 0);
    }
}
