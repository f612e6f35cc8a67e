//! The seam to a port's twin in the kernel: an interface through which the kernel sends and receives what is not balanced.

use std::os::fd::RawFd;

/// A port's twin. Each worker has its own handle; the first worker's is the one that also sends what the kernel wants out.
pub trait Twin: Send {
    /// Hands a frame, in its segments, to the kernel as if the twin had received it. What it has no room for is dropped and counted there.
    fn deliver(&mut self, head: &[u8], tail: &mut dyn Iterator<Item = &[u8]>);

    /// Writes the next frame that the kernel sends into `buffer` and returns its length; none when there is none. Must not wait.
    fn take(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// A descriptor that is readable while [`Twin::take`] has a frame, for a worker that sleeps.
    fn readable(&self) -> Option<RawFd>;
}
