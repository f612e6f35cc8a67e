//! The one hint to the processor that safe Rust cannot give.

/// Asks the processor to fetch the cache line that `value` starts in. A hint: it changes nothing but time.
///
/// A burst looks up 64 connections whose lines are cold; fetching them side by side instead of one after the other is what makes a hit
/// among millions of connections cheap (`hack/bench`, rows "1M" and "8M").
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching a valid reference's address reads nothing and cannot fault; SSE is part of x86_64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>((value as *const T).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
