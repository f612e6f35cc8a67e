//! Large tables on huge pages.
//!
//! A hit among millions of connections touches lines all over the table; with 4 KiB pages each of them costs a walk through the page tables too (`hack/bench`
//! against `hack/bench --small-pages` shows how much). Where the kernel gives transparent huge pages on request, which is Debian's default ("madvise"), asking is
//! all that is needed: no reservation, and ordinary pages where there are none.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a huge page on x86_64 and, with 4 KiB pages, on aarch64.
const HUGE_PAGE: usize = 2 << 20;
/// Allocations from here on are worth it; smaller ones would waste most of a page.
const LARGE: usize = 2 * HUGE_PAGE;

/// The system's allocator, except that large allocations start at a huge page and the kernel is asked to back them by such.
pub struct HugePages;

/// The layout that is really asked of the system: the same for allocation and release.
fn actual(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE {
        return None;
    }
    layout.align_to(HUGE_PAGE).ok()
}

// SAFETY: every call is handed to `System` with a layout that depends on the caller's layout alone, so a block is released with the layout it was allocated
// with; the larger alignment satisfies the one that was asked for.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(large) = actual(layout) else {
            // SAFETY: the caller's promise about `layout` is passed on.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: as above; the size is not 0.
        let block = unsafe { System.alloc(large) };
        if !block.is_null() {
            // SAFETY: the block is ours and begins at a page. Advice changes no contents; a refusal means ordinary pages.
            unsafe { libc::madvise(block.cast(), large.size(), libc::MADV_HUGEPAGE) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; `actual` gives the layout of the allocation.
        unsafe { System.dealloc(block, actual(layout).unwrap_or(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if actual(layout).is_none() {
            // SAFETY: the caller's promise is passed on.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as above.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has `layout.size()` bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_start_at_a_huge_page_and_small_ones_are_the_systems() {
        for size in [64, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 64).expect("a valid layout");
            // SAFETY: the layout's size is not 0, and the block is released with the same layout.
            unsafe {
                let block = HugePages.alloc_zeroed(layout);
                assert!(!block.is_null());
                assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
                assert_eq!(size >= LARGE, actual(layout).is_some());
                if size >= LARGE {
                    assert_eq!(block as usize % HUGE_PAGE, 0);
                }
                HugePages.dealloc(block, layout);
            }
        }
    }
}
