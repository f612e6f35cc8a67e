//! One packet buffer of DPDK, read and written in place. The only file that knows what `struct rte_mbuf` looks like.

#[cfg(test)]
use std::mem::ManuallyDrop;
use std::mem::offset_of;
use std::ptr::NonNull;

use ulvs_dataplane::io::{Frame, HEADROOM, IpChecksum, NoRoom, ReceivedChecksums, TransportChecksum, Unfinished};

use super::{ffi, offloads};

/// `struct rte_mbuf`, as far as the director reads it. Written down here instead of generated, because DPDK puts fields into anonymous unions that
/// differ from release to release while the places stay; the assertions below hold it to the installed headers.
#[repr(C)]
struct Mbuf {
    buffer: *mut u8,
    _iova: u64,
    data_offset: u16,
    references: u16,
    segments: u16,
    _port: u16,
    flags: u64,
    _packet_type: u32,
    packet_length: u32,
    data_length: u16,
    vlan_tci: u16,
    hash: u32,
    _hash_filters: u32,
    _vlan_tci_outer: u16,
    buffer_length: u16,
    _pool: *mut ffi::rte_mempool,
    next: *mut Mbuf,
    send_lengths: u64,
}

const _: () = {
    const fn same(ours: usize, theirs: ffi::ulvs_mbuf_layout) {
        assert!(
            ours == theirs as usize,
            "struct rte_mbuf of the installed DPDK has another layout than src/dpdk/mbuf.rs knows (22.11 to 24.11, with \
             RTE_IOVA_IN_MBUF): build with one of these, or without the feature dpdk"
        );
    }
    same(offset_of!(Mbuf, buffer), ffi::ULVS_MBUF_BUF_ADDR);
    same(offset_of!(Mbuf, data_offset), ffi::ULVS_MBUF_DATA_OFF);
    same(offset_of!(Mbuf, references), ffi::ULVS_MBUF_REFCNT);
    same(offset_of!(Mbuf, segments), ffi::ULVS_MBUF_NB_SEGS);
    same(offset_of!(Mbuf, flags), ffi::ULVS_MBUF_OL_FLAGS);
    same(offset_of!(Mbuf, packet_length), ffi::ULVS_MBUF_PKT_LEN);
    same(offset_of!(Mbuf, data_length), ffi::ULVS_MBUF_DATA_LEN);
    same(offset_of!(Mbuf, vlan_tci), ffi::ULVS_MBUF_VLAN_TCI);
    same(offset_of!(Mbuf, buffer_length), ffi::ULVS_MBUF_BUF_LEN);
    same(offset_of!(Mbuf, _pool), ffi::ULVS_MBUF_POOL);
    same(offset_of!(Mbuf, next), ffi::ULVS_MBUF_NEXT);
    same(offset_of!(Mbuf, hash), ffi::ULVS_MBUF_HASH);
    same(offset_of!(Mbuf, send_lengths), ffi::ULVS_MBUF_TX_OFFLOAD);
    assert!(
        HEADROOM <= ffi::ULVS_HEADROOM as usize,
        "RTE_PKTMBUF_HEADROOM is smaller than the HEADROOM of the packet path"
    );
};

/// A frame in one mbuf, or in a chain of them. Owns them: dropping it gives them back to their pool, wherever that happens, so that none is ever lost.
///
/// Laid out as the pointer that DPDK's bursts take and give, so that a `Vec` of frames is such an array.
#[repr(transparent)]
pub struct DpdkFrame(NonNull<Mbuf>);

// SAFETY: an mbuf belongs to one owner at a time, and pools may be given to from any thread.
unsafe impl Send for DpdkFrame {}

impl DpdkFrame {
    /// Takes over an mbuf that DPDK gave out.
    ///
    /// # Safety
    /// `mbuf` must be valid and nobody else's, with a reference count of 1.
    pub(super) unsafe fn from_raw(mbuf: NonNull<ffi::rte_mbuf>) -> DpdkFrame {
        DpdkFrame(mbuf.cast())
    }

    /// Gives the mbuf away.
    #[cfg(test)]
    pub(super) fn into_raw(self) -> NonNull<ffi::rte_mbuf> {
        ManuallyDrop::new(self).0.cast()
    }

    #[inline(always)]
    fn mbuf(&self) -> &Mbuf {
        // SAFETY: valid for as long as the frame owns it, and only changed through `&mut self`.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn mbuf_mut(&mut self) -> &mut Mbuf {
        // SAFETY: as above; `&mut self` makes the access exclusive.
        unsafe { self.0.as_mut() }
    }

    /// Where the first byte is, for prefetching.
    #[inline(always)]
    pub(super) fn first_byte(&self) -> &u8 {
        let mbuf = self.mbuf();
        // SAFETY: the data offset lies within the buffer.
        unsafe { &*mbuf.buffer.add(usize::from(mbuf.data_offset)) }
    }

    /// Whether the driver took the VLAN tag out of the frame although it was not asked to.
    #[inline(always)]
    pub(super) fn lost_its_tag(&self) -> bool {
        self.mbuf().flags & ffi::ULVS_RX_VLAN_STRIPPED != 0
    }

    /// Puts the VLAN tag back behind the Ethernet addresses, where it was on the wire.
    #[cold]
    pub(super) fn restore_tag(&mut self) {
        const ADDRESSES: usize = 12;
        const TAG: usize = 4;
        let tci = self.mbuf().vlan_tci;
        self.mbuf_mut().flags &= !ffi::ULVS_RX_VLAN_STRIPPED;
        if self.head().len() < ADDRESSES || self.push_front(TAG).is_err() {
            return;
        }
        let head = self.head_mut();
        head.copy_within(TAG..TAG + ADDRESSES, 0);
        head[ADDRESSES..ADDRESSES + 2].copy_from_slice(&[0x81, 0x00]);
        head[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&tci.to_be_bytes());
    }

    /// Takes back what a driver says without having been asked.
    #[inline(always)]
    pub(super) fn forget_marks(&mut self, marks: u64) {
        if self.mbuf().flags & marks != 0 {
            self.mbuf_mut().flags &= !marks;
        }
    }

    /// Whether the port is to compute a transport checksum.
    #[inline(always)]
    pub(super) fn leaves_checksum(&self) -> bool {
        self.mbuf().flags & ffi::ULVS_TX_L4_MASK != 0
    }

    /// Makes it look as if a driver had found this out.
    #[cfg(test)]
    pub(super) fn pretend_marked(&mut self, marks: u64, hash: u32) {
        self.mbuf_mut().flags |= marks;
        self.mbuf_mut().hash = hash;
    }

    /// What is left to the port: marks, and bytes of the link-layer header and the IP header.
    #[cfg(test)]
    pub(super) fn left_to_port(&self) -> (u64, usize, usize) {
        let marks = ffi::ULVS_TX_L4_MASK | ffi::ULVS_TX_IS_IPV4 | ffi::ULVS_TX_IS_IPV6;
        let lengths = self.mbuf().send_lengths as usize;
        let (link, ip) = (
            lengths & !(usize::MAX << ffi::ULVS_L2_LEN_BITS),
            lengths >> ffi::ULVS_L2_LEN_BITS,
        );
        (self.mbuf().flags & marks, link, ip)
    }

    /// Makes it look as if a driver had taken a tag out.
    #[cfg(test)]
    pub(super) fn pretend_stripped(&mut self, tci: u16) {
        self.mbuf_mut().flags |= ffi::ULVS_RX_VLAN_STRIPPED;
        self.mbuf_mut().vlan_tci = tci;
    }

    /// How many mbufs it is made of.
    #[cfg(test)]
    pub(super) fn segments(&self) -> u16 {
        self.mbuf().segments
    }

    /// Hangs `last`, a frame of one segment, behind this one.
    #[cfg(test)]
    pub(super) fn append(&mut self, last: DpdkFrame) {
        let length = last.mbuf().packet_length;
        let mut end = self.0;
        // SAFETY: the frame owns the whole chain.
        unsafe {
            while let Some(next) = NonNull::new(end.as_ref().next) {
                end = next;
            }
            end.as_mut().next = last.into_raw().as_ptr().cast();
        }
        let mbuf = self.mbuf_mut();
        mbuf.segments += 1;
        mbuf.packet_length += length;
    }
}

impl Drop for DpdkFrame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the frame owns the mbuf and all that hang behind it, and is gone after this.
        unsafe { ffi::rte_pktmbuf_free(self.0.as_ptr().cast()) }
    }
}

/// The bytes of one segment.
///
/// # Safety
/// The caller must own the mbuf for `'a`.
#[inline(always)]
unsafe fn bytes<'a>(mbuf: &Mbuf) -> &'a [u8] {
    // SAFETY: DPDK keeps offset and length within the buffer, and so does everything in this file; the caller owns it.
    unsafe {
        let start = mbuf.buffer.add(usize::from(mbuf.data_offset));
        std::slice::from_raw_parts(start, usize::from(mbuf.data_length))
    }
}

impl Frame for DpdkFrame {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        // SAFETY: borrowed for as long as `self`, which owns the mbuf.
        unsafe { bytes(self.mbuf()) }
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        let mbuf = self.mbuf_mut();
        // SAFETY: as in `bytes`; `&mut self` makes the access exclusive.
        unsafe {
            let start = mbuf.buffer.add(usize::from(mbuf.data_offset));
            std::slice::from_raw_parts_mut(start, usize::from(mbuf.data_length))
        }
    }

    #[inline(always)]
    fn total_length(&self) -> usize {
        self.mbuf().packet_length as usize
    }

    #[inline]
    fn push_front(&mut self, count: usize) -> Result<(), NoRoom> {
        let mbuf = self.mbuf_mut();
        if count > usize::from(mbuf.data_offset) || usize::from(mbuf.data_length) + count > usize::from(u16::MAX) {
            return Err(NoRoom);
        }
        mbuf.data_offset -= count as u16;
        mbuf.data_length += count as u16;
        mbuf.packet_length += count as u32;
        Ok(())
    }

    #[inline]
    fn pull_front(&mut self, count: usize) {
        let mbuf = self.mbuf_mut();
        debug_assert!(count <= usize::from(mbuf.data_length));
        let count = count.min(usize::from(mbuf.data_length)) as u16;
        mbuf.data_offset += count;
        mbuf.data_length -= count;
        mbuf.packet_length -= u32::from(count);
    }

    fn set_length(&mut self, length: usize) -> Result<(), NoRoom> {
        let mbuf = self.mbuf_mut();
        if length > usize::from(mbuf.buffer_length - mbuf.data_offset) {
            return Err(NoRoom);
        }
        mbuf.data_length = length as u16;
        mbuf.packet_length = length as u32;
        mbuf.segments = 1;
        if let Some(rest) = NonNull::new(std::mem::replace(&mut mbuf.next, std::ptr::null_mut())) {
            drop(DpdkFrame(rest));
        }
        Ok(())
    }

    fn tail(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = self.mbuf().next;
        std::iter::from_fn(move || {
            let segment = NonNull::new(next)?;
            // SAFETY: the frame owns its whole chain and is borrowed.
            let segment = unsafe { segment.as_ref() };
            next = segment.next;
            // SAFETY: as above.
            Some(unsafe { bytes(segment) })
        })
    }

    #[inline(always)]
    fn checksums(&self) -> ReceivedChecksums {
        let flags = self.mbuf().flags;
        ReceivedChecksums {
            ip: match flags & ffi::ULVS_RX_IP_MASK {
                ffi::ULVS_RX_IP_GOOD => IpChecksum::Good,
                ffi::ULVS_RX_IP_BAD => IpChecksum::Bad,
                _ => IpChecksum::Unknown,
            },
            // What is wrong is left to the receiver to find, as without a card that looks.
            transport: match flags & ffi::ULVS_RX_L4_MASK {
                ffi::ULVS_RX_L4_GOOD => TransportChecksum::Complete,
                ffi::ULVS_RX_L4_NONE => TransportChecksum::Partial,
                _ => TransportChecksum::Unknown,
            },
        }
    }

    #[inline]
    fn rss_hash(&self) -> Option<u32> {
        let mbuf = self.mbuf();
        (mbuf.flags & ffi::ULVS_RX_HAS_HASH != 0).then_some(mbuf.hash)
    }

    #[inline]
    fn can_leave_checksum(&self) -> bool {
        offloads::ports_finish_checksums()
    }

    fn leave_checksum(&mut self, unfinished: Unfinished) -> bool {
        let Unfinished {
            link,
            ip,
            is_v4,
            is_tcp,
        } = unfinished;
        let fits = link >> ffi::ULVS_L2_LEN_BITS == 0 && ip >> ffi::ULVS_L3_LEN_BITS == 0;
        if !offloads::ports_finish_checksums() || !fits {
            return false;
        }
        let family = if is_v4 {
            ffi::ULVS_TX_IS_IPV4
        } else {
            ffi::ULVS_TX_IS_IPV6
        };
        let transport = if is_tcp { ffi::ULVS_TX_TCP } else { ffi::ULVS_TX_UDP };
        let mbuf = self.mbuf_mut();
        mbuf.flags |= family | transport;
        // The further lengths are for tunnels and segmentation by the card.
        mbuf.send_lengths = (link | ip << ffi::ULVS_L2_LEN_BITS) as u64;
        true
    }
}
