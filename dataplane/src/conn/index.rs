//! From a key's hash to connections: buckets of one cache line.
//!
//! A bucket holds eight 16-bit tags and eight references. A miss reads one line; a hit reads one line and the connection. Buckets that overflow chain to
//! spare ones of a fixed supply, so an insertion can fail but never waits or grows.

/// A connection's place and the direction of the key that led there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference(u32);

impl Reference {
    /// How many connections can be referred to: the last number is that of none.
    pub const LIMIT: u32 = u32::MAX >> 2;
    /// To no connection.
    pub const NONE: Reference = Reference(u32::MAX);

    /// To the connection at `index`; `outbound` when the key is that of the server's packets; `whole` when its packets need both of its cache lines.
    pub const fn new(index: u32, outbound: bool, whole: bool) -> Reference {
        Reference(index << 2 | (whole as u32) << 1 | outbound as u32)
    }

    /// The connection.
    pub const fn index(self) -> u32 {
        self.0 >> 2
    }

    /// Whether packets with this key need both cache lines of the connection.
    pub const fn is_whole(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether the key was that of the server's packets.
    pub const fn is_outbound(self) -> bool {
        self.0 & 1 == 1
    }
}

const SLOTS: usize = 8;
const EMPTY: u16 = 0;
const NO_BUCKET: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u16; SLOTS],
    references: [u32; SLOTS],
    next: u32,
}

const EMPTY_BUCKET: Bucket = Bucket {
    tags: [EMPTY; SLOTS],
    references: [0; SLOTS],
    next: NO_BUCKET,
};

/// Buckets that keys hash to, and spare ones.
fn bucket_counts(keys: usize) -> (usize, usize) {
    let main = (keys / 5).max(16);
    (main, main / 4)
}

/// The buckets are all in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFull;

/// The hash index.
#[derive(Debug)]
pub struct Index {
    buckets: Box<[Bucket]>,
    /// Buckets that keys hash to; the spare ones lie behind them.
    main: u32,
    free: u32,
}

/// Tag 0 marks an empty slot, so no key has it. The bits are others than those that choose the bucket.
#[inline(always)]
const fn tag_of(hash: u64) -> u16 {
    let tag = (hash >> 48) as u16;
    if tag == EMPTY { 1 } else { tag }
}

/// Slots of a bucket: the upper two bits of each 16 stand for a slot among the first four and one among the last.
#[derive(Clone, Copy)]
struct Slots(u64);

impl Iterator for Slots {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit / 16 + bit % 2 * 4)
    }
}

impl Bucket {
    /// The slots that have the tag. All are compared by ordinary arithmetic, four tags in a word: where tags are equal the difference is 0, and only then does adding
    /// 0x7fff to its lower 15 bits leave the highest one clear. (Two thirds of what the compiler makes of eight comparisons.)
    #[inline(always)]
    fn matches(&self, tag: u16) -> Slots {
        const ONES: u64 = 0x0001_0001_0001_0001;
        const LOWER: u64 = 0x7fff_7fff_7fff_7fff;
        let wanted = u64::from(tag) * ONES;
        let zeroes = |word: u64| !(((word & LOWER) + LOWER) | word | LOWER);
        let [a, b, c, d, e, f, g, h] = self.tags.map(u64::from);
        let first = zeroes((a | b << 16 | c << 32 | d << 48) ^ wanted);
        let last = zeroes((e | f << 16 | g << 32 | h << 48) ^ wanted);
        Slots(first >> 1 | last)
    }
}

impl Index {
    /// Room for `keys` keys at about five to a bucket, and a quarter more buckets for overflow.
    pub fn new(keys: usize) -> Index {
        let (main, spare) = bucket_counts(keys);
        let mut buckets = vec![EMPTY_BUCKET; main + spare].into_boxed_slice();
        for at in main..main + spare {
            buckets[at].next = if at + 1 < main + spare {
                at as u32 + 1
            } else {
                NO_BUCKET
            };
        }
        Index {
            buckets,
            main: main as u32,
            free: main as u32,
        }
    }

    /// Bytes that an index for `keys` keys will occupy.
    pub fn memory_for(keys: usize) -> usize {
        let (main, spare) = bucket_counts(keys);
        (main + spare) * size_of::<Bucket>()
    }

    /// Bytes that the index occupies.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// The bucket that a search begins with: the hash's lower half as a part of one, times the number of buckets. That number need not be a power of two then, so that
    /// the index is never larger than asked for and more of it stays in the caches (3 % of a hit with eight million connections).
    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * u64::from(self.main)) >> 32) as usize
    }

    /// Fetches the line that a search for `hash` begins with.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        crate::prefetch::prefetch(&self.buckets[self.bucket_of(hash)]);
    }

    /// The first reference whose tag fits, by the first line alone, or none: good enough to fetch the connection ahead.
    #[inline(always)]
    pub fn candidate(&self, hash: u64) -> Reference {
        let bucket = &self.buckets[self.bucket_of(hash)];
        match bucket.matches(tag_of(hash)).next() {
            Some(slot) => Reference(bucket.references[slot % SLOTS]),
            None => Reference::NONE,
        }
    }

    /// The reference for which `is_it` says yes, among those with the hash's tag.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Reference) -> bool) -> Option<Reference> {
        let tag = tag_of(hash);
        let mut bucket = &self.buckets[self.bucket_of(hash)];
        loop {
            for slot in bucket.matches(tag) {
                let reference = Reference(bucket.references[slot % SLOTS]);
                if is_it(reference) {
                    return Some(reference);
                }
            }
            if bucket.next == NO_BUCKET {
                return None;
            }
            bucket = &self.buckets[bucket.next as usize];
        }
    }

    /// Enters a reference under a hash. The key must not be there yet.
    ///
    /// # Errors
    /// `IndexFull` when the chain is full and no spare bucket is left; nothing has changed then.
    pub fn insert(&mut self, hash: u64, reference: Reference) -> Result<(), IndexFull> {
        let mut at = self.bucket_of(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.matches(EMPTY).next() {
                bucket.tags[slot] = tag_of(hash);
                bucket.references[slot] = reference.0;
                return Ok(());
            }
            if bucket.next == NO_BUCKET {
                break;
            }
            at = bucket.next as usize;
        }
        let spare = self.free;
        if spare == NO_BUCKET {
            return Err(IndexFull);
        }
        self.free = self.buckets[spare as usize].next;
        self.buckets[spare as usize] = EMPTY_BUCKET;
        self.buckets[spare as usize].tags[0] = tag_of(hash);
        self.buckets[spare as usize].references[0] = reference.0;
        self.buckets[at].next = spare;
        Ok(())
    }

    /// Takes a reference out again. Nothing happens when it is not there.
    pub fn remove(&mut self, hash: u64, reference: Reference) {
        let tag = tag_of(hash);
        let mut before = None;
        let mut at = self.bucket_of(hash);
        loop {
            let bucket = &mut self.buckets[at];
            let slot = (0..SLOTS).find(|&slot| bucket.tags[slot] == tag && bucket.references[slot] == reference.0);
            if let Some(slot) = slot {
                bucket.tags[slot] = EMPTY;
                let next = bucket.next;
                if let Some(before) = before
                    && bucket.tags == [EMPTY; SLOTS]
                {
                    self.buckets[at].next = self.free;
                    self.free = at as u32;
                    let before: usize = before;
                    self.buckets[before].next = next;
                }
                return;
            }
            if bucket.next == NO_BUCKET {
                return;
            }
            before = Some(at);
            at = bucket.next as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Few buckets and hashes that collide: chains grow and shrink, and the index always equals a map.
        #[test]
        fn equals_a_map(steps in proptest::collection::vec((any::<bool>(), 0u32..300, 0u64..4), 1..600)) {
            let mut index = Index::new(80);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (add, number, spread) in steps {
                let hash = spread << 48 | spread << 30;
                let reference = Reference::new(number, number % 3 == 0, false);
                if add {
                    if let std::collections::hash_map::Entry::Vacant(vacant) = model.entry(number)
                        && index.insert(hash, reference).is_ok()
                    {
                        vacant.insert(hash);
                    }
                } else if let Some(hash) = model.remove(&number) {
                    index.remove(hash, reference);
                    prop_assert!(index.find(hash, |r| r == reference).is_none());
                }
            }
            for (number, hash) in &model {
                let reference = Reference::new(*number, number % 3 == 0, false);
                prop_assert_eq!(index.find(*hash, |r| r == reference), Some(reference));
            }
        }
    }

    #[test]
    fn a_full_index_says_so_and_recovers() {
        let mut index = Index::new(80);
        let mut entered = 0;
        while index.insert(0, Reference::new(entered, false, false)).is_ok() {
            entered += 1;
        }
        assert_eq!(entered as usize, SLOTS * (1 + index.buckets.len() / 5));
        for number in 0..entered {
            index.remove(0, Reference::new(number, false, false));
        }
        for number in 0..entered {
            index.insert(0, Reference::new(number, false, false)).unwrap();
        }
    }
}
