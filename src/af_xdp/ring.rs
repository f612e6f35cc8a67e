//! The rings that a socket shares with the kernel: single producer, single consumer, one side ours.
//!
//! Memory order (as in the kernel's `net/xdp/xsk_queue.h`): whoever produces writes the entries and then publishes them by
//! storing the producer index with release; whoever consumes loads that index with acquire before it reads entries, and gives
//! the slots back by storing the consumer index with release. Both indices run freely through all of u32; the slot is the index
//! modulo the (power of two) size.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Entries between the two indices.
fn used(producer: u32, consumer: u32) -> u32 {
    producer.wrapping_sub(consumer)
}

/// One ring's memory.
struct Memory<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// What to unmap, or nothing when the memory belongs to a test.
    mapping: Option<(NonNull<libc::c_void>, usize)>,
}

// SAFETY: the memory is shared with the kernel only; a `Memory` is the one user-space handle to it and is not cloned.
unsafe impl<T: Send> Send for Memory<T> {}

impl<T: Copy> Memory<T> {
    /// Maps the ring of socket `fd` that starts at page offset `page_offset`.
    fn map(fd: RawFd, page_offset: libc::off_t, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Memory<T>> {
        let length = offsets.desc as usize + size as usize * size_of::<T>();
        // SAFETY: a fresh mapping at an address that the kernel chooses touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd,
                page_offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address).ok_or_else(|| io::Error::other("mmap gave address 0"))?;
        // SAFETY: the kernel's own offsets lie within the mapping, whose length was computed from the farthest of them.
        unsafe {
            Ok(Memory {
                producer: base.byte_add(offsets.producer as usize).cast(),
                consumer: base.byte_add(offsets.consumer as usize).cast(),
                flags: base.byte_add(offsets.flags as usize).cast(),
                entries: base.byte_add(offsets.desc as usize).cast(),
                size,
                mapping: Some((base, length)),
            })
        }
    }

    fn load_producer(&self) -> u32 {
        // SAFETY: valid for as long as `self` (mapping, or the test's promise), aligned by the kernel.
        unsafe { self.producer.as_ref() }.load(Ordering::Acquire)
    }

    fn load_consumer(&self) -> u32 {
        // SAFETY: as in `load_producer`.
        unsafe { self.consumer.as_ref() }.load(Ordering::Acquire)
    }

    fn store_producer(&self, index: u32) {
        // SAFETY: as in `load_producer`.
        unsafe { self.producer.as_ref() }.store(index, Ordering::Release);
    }

    fn store_consumer(&self, index: u32) {
        // SAFETY: as in `load_producer`.
        unsafe { self.consumer.as_ref() }.store(index, Ordering::Release);
    }

    /// Whether the kernel sleeps and wants a system call before it looks at the ring. A stale answer is made good by the next
    /// loop's housekeeping, so no fence is paid for here.
    fn needs_wakeup(&self) -> bool {
        // SAFETY: as in `load_producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index is below `size`, and the ring has `size` entries.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        if let Some((base, length)) = self.mapping {
            // SAFETY: this is the mapping that `map` made, and nothing refers to it after its only owner is gone.
            unsafe { libc::munmap(base.as_ptr(), length) };
        }
    }
}

/// A ring that we fill: fill ring (`u64` addresses) and TX ring (descriptors).
pub(super) struct Producer<T> {
    memory: Memory<T>,
    /// Ours: entries up to here are written, those up to the shared index are published.
    producer: u32,
    /// The kernel's index when it was last looked at; it can only be farther by now.
    consumer: u32,
}

impl<T: Copy> Producer<T> {
    /// Maps a ring of `size` entries (a power of two).
    pub fn map(fd: RawFd, page_offset: libc::off_t, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        Ok(Self::new(Memory::map(fd, page_offset, offsets, size)?))
    }

    fn new(memory: Memory<T>) -> Self {
        let producer = memory.load_producer();
        let consumer = memory.load_consumer();
        Self {
            memory,
            producer,
            consumer,
        }
    }

    /// How many entries can be written. The kernel's index is only read when the known answer is below `wanted`.
    pub fn room(&mut self, wanted: u32) -> u32 {
        let known = self.memory.size - used(self.producer, self.consumer);
        if known >= wanted {
            return known;
        }
        self.consumer = self.memory.load_consumer();
        self.memory.size - used(self.producer, self.consumer)
    }

    /// Writes one entry, which the kernel sees after [`Producer::submit`]. The caller has checked [`Producer::room`].
    pub fn write(&mut self, entry: T) {
        debug_assert!(
            used(self.producer, self.consumer) < self.memory.size,
            "the ring is full"
        );
        // SAFETY: the slot is inside the ring and, as there is room, not one that the kernel may be reading.
        unsafe { self.memory.slot(self.producer).write(entry) };
        self.producer = self.producer.wrapping_add(1);
    }

    /// Publishes everything written so far.
    pub fn submit(&mut self) {
        self.memory.store_producer(self.producer);
    }

    /// Published entries that the kernel has not taken yet.
    pub fn pending(&mut self) -> u32 {
        self.consumer = self.memory.load_consumer();
        used(self.producer, self.consumer)
    }

    /// Whether the kernel must be woken to look at this ring.
    pub fn needs_wakeup(&self) -> bool {
        self.memory.needs_wakeup()
    }
}

/// A ring that the kernel fills: RX ring (descriptors) and completion ring (`u64` addresses).
pub(super) struct Consumer<T> {
    memory: Memory<T>,
    /// The kernel's index when it was last looked at.
    producer: u32,
    /// Ours: entries up to here are read, those up to the shared index are given back.
    consumer: u32,
}

impl<T: Copy> Consumer<T> {
    /// Maps a ring of `size` entries (a power of two).
    pub fn map(fd: RawFd, page_offset: libc::off_t, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        Ok(Self::new(Memory::map(fd, page_offset, offsets, size)?))
    }

    fn new(memory: Memory<T>) -> Self {
        let producer = memory.load_producer();
        let consumer = memory.load_consumer();
        Self {
            memory,
            producer,
            consumer,
        }
    }

    /// How many entries can be read, asking the kernel's index when fewer than `wanted` are known.
    pub fn available(&mut self, wanted: u32) -> u32 {
        let known = used(self.producer, self.consumer);
        if known >= wanted {
            return known;
        }
        self.producer = self.memory.load_producer();
        used(self.producer, self.consumer)
    }

    /// Reads the next entry; its slot goes back to the kernel with [`Consumer::release`]. The caller has checked
    /// [`Consumer::available`].
    pub fn read(&mut self) -> T {
        debug_assert!(used(self.producer, self.consumer) > 0, "the ring is empty");
        // SAFETY: the slot is inside the ring, and the acquire load of the producer index made its contents visible.
        let entry = unsafe { self.memory.slot(self.consumer).read() };
        self.consumer = self.consumer.wrapping_add(1);
        entry
    }

    /// Gives every slot read so far back to the kernel.
    pub fn release(&mut self) {
        self.memory.store_consumer(self.consumer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    /// A ring without a kernel: both ends are ours.
    struct Shared {
        producer: AtomicU32,
        consumer: AtomicU32,
        flags: AtomicU32,
        entries: Box<[UnsafeCell<u64>]>,
    }

    fn shared(start: u32, size: usize) -> Box<Shared> {
        Box::new(Shared {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            flags: AtomicU32::new(0),
            entries: (0..size).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn memory(shared: &Shared) -> Memory<u64> {
        Memory {
            producer: NonNull::from(&shared.producer),
            consumer: NonNull::from(&shared.consumer),
            flags: NonNull::from(&shared.flags),
            entries: NonNull::new(UnsafeCell::raw_get(shared.entries.as_ptr())).unwrap(),
            size: shared.entries.len() as u32,
            mapping: None,
        }
    }

    #[test]
    fn indices_wrap_around_without_losing_entries() {
        for start in [0, 1, u32::MAX - 2, u32::MAX] {
            let shared = shared(start, 4);
            let (mut producer, mut consumer) = (Producer::new(memory(&shared)), Consumer::new(memory(&shared)));
            let mut next = 0;
            for round in 0..10u64 {
                let count = 1 + round % 4;
                assert_eq!(producer.room(4), 4);
                (0..count).for_each(|i| producer.write(next + i));
                assert_eq!(consumer.available(1), 0, "written is not yet published");
                producer.submit();
                assert_eq!(u64::from(consumer.available(count as u32)), count);
                for _ in 0..count {
                    assert_eq!(consumer.read(), next);
                    next += 1;
                }
                assert_eq!(producer.pending(), count as u32, "read is not yet given back");
                consumer.release();
                assert_eq!(producer.pending(), 0);
            }
        }
    }

    #[test]
    fn a_full_ring_has_no_room_until_something_is_given_back() {
        let shared = shared(u32::MAX - 1, 4);
        let (mut producer, mut consumer) = (Producer::new(memory(&shared)), Consumer::new(memory(&shared)));
        (0..4).for_each(|i| producer.write(i));
        producer.submit();
        assert_eq!(producer.room(1), 0);
        assert_eq!(consumer.available(1), 4);
        assert_eq!((consumer.read(), consumer.read()), (0, 1));
        assert_eq!(producer.room(1), 0);
        consumer.release();
        assert_eq!(producer.room(1), 2);
    }

    #[test]
    fn two_threads_pass_every_entry_in_order() {
        const COUNT: u64 = 50_000;
        let shared = shared(u32::MAX - 1000, 64);
        let (mut producer, mut consumer) = (Producer::new(memory(&shared)), Consumer::new(memory(&shared)));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < COUNT {
                    let room = u64::from(producer.room(8)).min(COUNT - next);
                    (0..room).for_each(|i| producer.write(next + i));
                    next += room;
                    producer.submit();
                    if room == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < COUNT {
                let available = consumer.available(1);
                for _ in 0..available {
                    assert_eq!(consumer.read(), expected);
                    expected += 1;
                }
                consumer.release();
                if available == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }

    #[test]
    fn the_wakeup_flag_is_read_from_the_ring() {
        let shared = shared(0, 4);
        let producer = Producer::new(memory(&shared));
        assert!(!producer.needs_wakeup());
        shared.flags.store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }
}
