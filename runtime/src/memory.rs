//! Shared memory: sealed memfds, their mappings, and regions, which are read and written by atomic words only.
//!
//! Several processes map the same bytes and none trusts another to leave them alone, so nothing here ever makes a `&[u8]` of them: every
//! access is an atomic access to an aligned 8-byte word. What the bytes mean is left to the modules above.

use naamc::abi::{EFAULT, EINVAL};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

// Words of regions, rings and records are little-endian by definition, and so must be the machines that map them.
const _: () = assert!(cfg!(target_endian = "little"), "the runtime needs a little-endian machine");

/// Bytes of a cache line: what is prefetched at a time, and what keeps counters of two writers apart.
pub const CACHE_LINE_BYTES: usize = 64;
/// Words of a cache line.
pub const LINE_WORDS: usize = CACHE_LINE_BYTES / 8;
/// Bytes of a page: lengths of shared memory are rounded up to whole pages.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a huge page.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Bytes of one shared memory at most. Keeps every sum of an offset and a length far from overflow.
pub const MEMORY_BYTES_MAX: u64 = 1 << 46;
/// Bytes prefetched for one read at most: beyond this the hardware's own prefetcher has seen the pattern.
const PREFETCH_BYTES_MAX: u32 = 1024;
/// Regions at least this long count as cold. What is shorter mostly lies in some cache, and waiting for that costs less than a suspension.
const COLD_BYTES_MIN: u64 = 4 << 20;

/// What kind of pages hold a memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// The system's ordinary pages.
    #[default]
    Ordinary,
    /// Pages of 2 MiB, which the administrator must have reserved (`/proc/sys/vm/nr_hugepages`).
    Huge,
}

/// A sealed memfd: it can neither shrink nor grow, so that no peer can take mapped pages away.
#[derive(Debug)]
pub struct SharedMemory {
    descriptor: OwnedFd,
    length_bytes: u64,
}

impl SharedMemory {
    /// Zeroed memory of at least `length_bytes`.
    ///
    /// # Errors
    /// `InvalidInput` for 0 bytes or more than [`MEMORY_BYTES_MAX`]; else the system's.
    pub fn create(name: &str, length_bytes: u64, pages: Pages) -> io::Result<SharedMemory> {
        let memory = SharedMemory::unsealed(name, length_bytes, pages)?;
        rustix::fs::fcntl_add_seals(&memory.descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(memory)
    }

    fn unsealed(name: &str, length_bytes: u64, pages: Pages) -> io::Result<SharedMemory> {
        if length_bytes == 0 || length_bytes > MEMORY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("shared memory of {length_bytes} bytes")));
        }
        let (flags, unit) = match pages {
            Pages::Ordinary => (MemfdFlags::empty(), PAGE_BYTES),
            Pages::Huge => (MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, HUGE_PAGE_BYTES),
        };
        let descriptor = rustix::fs::memfd_create(name, flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let length_bytes = length_bytes.next_multiple_of(unit);
        rustix::fs::ftruncate(&descriptor, length_bytes)?;
        Ok(SharedMemory { descriptor, length_bytes })
    }

    /// Zeroed memory that nobody but this process can ever write: the mapping is the last one for writing, and the descriptor of the memory
    /// is for reading only. A descriptor alone would keep nobody out, since whoever holds it can open what is behind it anew, for writing.
    ///
    /// # Errors
    /// As [`SharedMemory::create`].
    pub fn create_with_one_writer(name: &str, length_bytes: u64, pages: Pages) -> io::Result<(Arc<Mapping>, SharedMemory)> {
        let memory = SharedMemory::unsealed(name, length_bytes, pages)?;
        // The order matters: this seal forbids mappings for writing from here on, and the last one forbids further seals.
        let mapping = memory.map()?;
        let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory.descriptor, seals)?;
        // Memory files begin open to everybody. This alone would not keep out a process of the same user.
        rustix::fs::fchmod(&memory.descriptor, Mode::RUSR)?;
        let path = format!("/proc/self/fd/{}", memory.descriptor.as_raw_fd());
        let descriptor = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((mapping, SharedMemory { descriptor, length_bytes: memory.length_bytes }))
    }

    /// Memory that another process made.
    ///
    /// # Errors
    /// `InvalidData` if it is not sealed against shrinking or has no sensible length: mapping it could then fault at any time.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<SharedMemory> {
        let seals = rustix::fs::fcntl_get_seals(&descriptor)?;
        let length_bytes = u64::try_from(rustix::fs::fstat(&descriptor)?.st_size).unwrap_or(0);
        if !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory that is not sealed against shrinking"));
        }
        if length_bytes == 0 || length_bytes > MEMORY_BYTES_MAX || !length_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("shared memory of {length_bytes} bytes")));
        }
        Ok(SharedMemory { descriptor, length_bytes })
    }

    /// Its length: whole pages.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The descriptor, to hand to other processes. Whoever has it can map the memory for writing, unless it has one writer.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Maps it for reading and writing.
    pub fn map(&self) -> io::Result<Arc<Mapping>> {
        Ok(Arc::new(Mapping(Pointer::map(&self.descriptor, self.length_bytes, ProtFlags::READ | ProtFlags::WRITE)?)))
    }

    /// Maps it for reading.
    pub fn map_read_only(&self) -> io::Result<Arc<ReadOnlyMapping>> {
        Ok(Arc::new(ReadOnlyMapping(Pointer::map(&self.descriptor, self.length_bytes, ProtFlags::READ)?)))
    }
}

/// Mapped pages. Owns the mapping, and unmaps it when dropped.
#[derive(Debug)]
struct Pointer {
    start: NonNull<AtomicU64>,
    words: usize,
}

impl Pointer {
    fn map(descriptor: &OwnedFd, length_bytes: u64, protection: ProtFlags) -> io::Result<Pointer> {
        let bytes = usize::try_from(length_bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start = unsafe { rustix::mm::mmap(aligned_hint(bytes)?, bytes, protection, MapFlags::SHARED, descriptor, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pointer { start, words: bytes / 8 })
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, lives as long as `self`, has `words` whole words (it is sealed against shrinking),
        // and every access to it, here and in other processes, goes through atomics of this size.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

/// An address for a new mapping, free a moment ago, at which huge pages can lie; nowhere in particular for one that holds none.
fn aligned_hint(bytes: usize) -> io::Result<*mut c_void> {
    let unit = HUGE_PAGE_BYTES as usize;
    if bytes < unit {
        return Ok(std::ptr::null_mut());
    }
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
    let free = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes + unit, ProtFlags::empty(), flags)? };
    // SAFETY: it was just made, and nothing refers to it.
    unsafe { rustix::mm::munmap(free, bytes + unit)? };
    Ok(free.wrapping_byte_add(free.align_offset(unit)))
}

impl Drop for Pointer {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping with this length, and every borrow of it has ended. Failing to unmap only leaks.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}

// SAFETY: the pointer is owned, and what it points to is accessed by atomics only.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

/// Shared memory mapped for reading and writing.
#[derive(Debug)]
pub struct Mapping(Pointer);

impl Mapping {
    /// Its words.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }

    /// Its length: whole pages.
    pub fn length_bytes(&self) -> u64 {
        self.0.words as u64 * 8
    }

    /// Gathers its pages, as far as they are there, into huge ones, so that address translation seldom misses. They are huge for every
    /// process then. A system that cannot do that, or has none to spare, leaves them as they are: to the same effect, only slower.
    pub fn gather_pages(&self) {
        // SAFETY: the kernel moves the bytes of a live mapping to other pages; what is read and written through it stays the same.
        let _ = unsafe { libc::madvise(self.0.start.as_ptr().cast(), self.0.words * 8, libc::MADV_COLLAPSE) };
    }
}

/// Some words of a mapping, as many as a power of two and at least a cache line: what is read and written in circles.
#[derive(Clone, Debug)]
pub struct Circle {
    start: NonNull<AtomicU64>,
    words: usize,
    /// What of a number of bytes, counted for ever, says in which line they end.
    line_mask: usize,
    /// Keeps the words mapped.
    _mapping: Arc<Mapping>,
}

// SAFETY: the pointer points into the mapping, which is accessed by atomics only.
unsafe impl Send for Circle {}
// SAFETY: as above.
unsafe impl Sync for Circle {}

impl Circle {
    /// So many words from `start` on; `None` if the mapping has no such words or they are not as many as a circle has.
    pub fn new(mapping: Arc<Mapping>, start: usize, words: usize) -> Option<Circle> {
        let first = NonNull::from(mapping.words().get(start..start.checked_add(words)?)?).cast();
        let line_mask = words.checked_mul(8)?.checked_sub(CACHE_LINE_BYTES)?;
        words.is_power_of_two().then_some(Circle { start: first, words, line_mask, _mapping: mapping })
    }

    /// Its length.
    #[inline]
    pub fn length_bytes(&self) -> u64 {
        self.words as u64 * 8
    }

    /// The cache line's worth of words to which so many bytes, counted for ever, lead.
    #[inline(always)]
    pub fn line(&self, bytes: u64) -> &[AtomicU64; LINE_WORDS] {
        // SAFETY: `new` took `words` words, as many as a power of two, out of the mapping, which lives as long as `self`. The mask is their
        // length less a line, so what it leaves is the beginning of a line inside. Every access goes through atomics.
        unsafe { &*self.start.as_ptr().byte_add(bytes as usize & self.line_mask).cast() }
    }
}

/// Shared memory mapped for reading only.
#[derive(Debug)]
pub struct ReadOnlyMapping(Pointer);

impl ReadOnlyMapping {
    /// The word at this index, if there is one.
    #[inline]
    pub fn load(&self, index: usize, ordering: Ordering) -> Option<u64> {
        Some(self.0.words().get(index)?.load(ordering))
    }

    /// Its length: whole pages.
    pub fn length_bytes(&self) -> u64 {
        self.0.words as u64 * 8
    }
}

/// A region as an executor sees it: within reach of its engine's loads and stores, or served by a UDMA backend.
///
/// Compiled code reaches the first three fields by their offsets, hence `repr(C)`; an array of regions has a stride of 32 bytes.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Region {
    /// Its first word, 4096-aligned; null if it is not mapped here.
    pub(crate) base: *const AtomicU64,
    /// Its length in bytes: at most what is mapped.
    pub(crate) length_bytes: u64,
    /// 1 if reads of more than 8 bytes are worth a prefetch and a suspension, else 0.
    pub(crate) cold: u32,
    /// 0 if engines reach it; [`BEHIND_DMA`]; or the number by which a UDMA backend knows what is not mapped here.
    pub(crate) remote: u32,
    mapping: Option<Arc<Mapping>>,
}

/// Says of a region that it is mapped here, out of engines' reach.
const BEHIND_DMA: u32 = u32::MAX;

const _: () = assert!(size_of::<Region>() == 32);

// SAFETY: `base` points into `mapping`, which is shared memory accessed by atomics only.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// The first `length_bytes` of a mapping; `None` if it is shorter.
    pub fn local(mapping: Arc<Mapping>, length_bytes: u64) -> Option<Region> {
        if length_bytes > mapping.length_bytes() {
            return None;
        }
        let cold = u32::from(length_bytes >= COLD_BYTES_MIN);
        Some(Region { base: mapping.words().as_ptr(), length_bytes, cold, remote: 0, mapping: Some(mapping) })
    }

    /// A new zeroed region of its own memory, which no other process sees.
    pub fn anonymous(length_bytes: u64) -> io::Result<Region> {
        let mapping = SharedMemory::create("naam-region", length_bytes, Pages::Ordinary)?.map()?;
        Region::local(mapping, length_bytes).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The first `length_bytes` of a mapping that is out of engines' reach: a UDMA backend says when an operation takes effect, which is
    /// then performed here. `None` if the mapping is shorter.
    pub fn behind_dma(mapping: Arc<Mapping>, length_bytes: u64) -> Option<Region> {
        Region::local(mapping, length_bytes).map(|region| Region { cold: 0, remote: BEHIND_DMA, ..region })
    }

    /// A region that only a UDMA backend reaches, under a number that is neither 0 nor the highest.
    pub fn remote(number: std::num::NonZeroU32, length_bytes: u64) -> Region {
        Region { base: std::ptr::null(), length_bytes, cold: 0, remote: number.get(), mapping: None }
    }

    /// Its length in bytes.
    #[inline]
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The number by which a UDMA backend knows what is not mapped here; `None` if it is.
    pub fn remote_number(&self) -> Option<u32> {
        self.base.is_null().then_some(self.remote)
    }

    /// Whether engines reach it by loads and stores.
    #[inline]
    pub fn is_local(&self) -> bool {
        self.remote == 0
    }

    /// Says whether long reads of it are worth a prefetch and a suspension. By default those of large regions are.
    pub fn set_cold(&mut self, cold: bool) {
        self.cold = u32::from(cold && self.is_local());
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        if self.base.is_null() {
            return &[];
        }
        // SAFETY: `local` took `base` from the words of `mapping`, which lives as long as `self` and has at least `length_bytes`, in
        // whole words; every access goes through atomics of this size.
        unsafe { std::slice::from_raw_parts(self.base, self.length_bytes.div_ceil(8) as usize) }
    }

    /// Whether `length` bytes at `offset` lie inside. No sum can overflow.
    #[inline]
    fn holds(&self, offset: u64, length: usize) -> bool {
        let length = length as u64;
        !self.base.is_null() && length <= self.length_bytes && offset <= self.length_bytes - length
    }

    /// Copies region bytes to `destination`, whole or not at all. Aligned 8-byte words are untorn and acquired, in no promised order.
    /// Returns 0 or `-EFAULT`; no bytes always succeeds.
    #[inline(always)]
    pub fn read(&self, offset: u64, destination: &mut [u8]) -> i64 {
        if destination.is_empty() {
            return 0;
        }
        if !self.holds(offset, destination.len()) {
            return -EFAULT;
        }
        if offset.is_multiple_of(8) {
            // SAFETY: `holds` says that all of these words lie inside, as in `words`.
            let words = unsafe {
                let first = self.base.add(offset as usize / 8);
                std::slice::from_raw_parts(first, destination.len().div_ceil(8))
            };
            load_words(words, destination);
        } else {
            self.read_unaligned(offset, destination);
        }
        0
    }

    /// The same from an offset in the middle of a word, where the bytes lie inside.
    #[cold]
    fn read_unaligned(&self, offset: u64, destination: &mut [u8]) {
        let (index, skip) = (offset as usize / 8, offset as usize % 8);
        let words = &self.words()[index..];
        let head = destination.len().min(8 - skip);
        let (head_bytes, rest) = destination.split_at_mut(head);
        let word = words[0].load(Ordering::Acquire).to_ne_bytes();
        head_bytes.copy_from_slice(&word[skip..skip + head]);
        load_words(&words[1..], rest);
    }

    /// Copies `source` to region bytes, whole or not at all. Aligned 8-byte words are untorn and released, in no promised order; bytes
    /// beside an unaligned end keep their values even against concurrent writers. Returns 0 or `-EFAULT`; no bytes always succeeds.
    #[inline]
    pub fn write(&self, offset: u64, source: &[u8]) -> i64 {
        if source.is_empty() {
            return 0;
        }
        if !self.holds(offset, source.len()) {
            return -EFAULT;
        }
        let (index, skip) = (offset as usize / 8, offset as usize % 8);
        let words = &self.words()[index..];
        if skip == 0 && source.len().is_multiple_of(8) {
            store_words(words, source, Ordering::Release);
        } else {
            write_unaligned(words, skip, source);
        }
        0
    }

    /// The word of an atomic at `offset`, or its error: `-EINVAL` if it is not aligned, `-EFAULT` if it lies outside.
    #[inline]
    fn atomic(&self, offset: u64) -> Result<&AtomicU64, i64> {
        if !offset.is_multiple_of(8) {
            return Err(-EINVAL);
        }
        if !self.holds(offset, 8) {
            return Err(-EFAULT);
        }
        self.words().get(offset as usize / 8).ok_or(-EFAULT)
    }

    /// Replaces the word at `offset` by `desired` if it is `expected`. Sequentially consistent. Puts the old value into `old`, which is
    /// left alone on an error. Returns 0, `-EFAULT` or `-EINVAL`.
    #[inline]
    pub fn compare_swap(&self, offset: u64, expected: u64, desired: u64, old: &mut u64) -> i64 {
        match self.atomic(offset) {
            Err(error) => error,
            Ok(word) => {
                let (Ok(found) | Err(found)) = word.compare_exchange(expected, desired, Ordering::SeqCst, Ordering::SeqCst);
                *old = found;
                0
            }
        }
    }

    /// Adds to the word at `offset`, wrapping; otherwise like [`Region::compare_swap`].
    #[inline]
    pub fn fetch_add(&self, offset: u64, addend: u64, old: &mut u64) -> i64 {
        match self.atomic(offset) {
            Err(error) => error,
            Ok(word) => {
                *old = word.fetch_add(addend, Ordering::SeqCst);
                0
            }
        }
    }

    /// The address of a byte; of the first one if there is no such byte. Only good for [`prefetch_lines`].
    #[inline]
    pub(crate) fn address(&self, offset: u64) -> usize {
        self.base.addr() + if offset < self.length_bytes { offset as usize } else { 0 }
    }
}

/// Asks the memory for the lines of a read that comes soon. They need not exist: nothing happens for those that do not.
#[inline]
pub(crate) fn prefetch_lines(address: usize, length_bytes: u32) {
    let mut line = address & !(CACHE_LINE_BYTES - 1);
    let end = address.wrapping_add(length_bytes.min(PREFETCH_BYTES_MAX) as usize);
    while line < end {
        prefetch_line(std::ptr::without_provenance::<u64>(line));
        line += CACHE_LINE_BYTES;
    }
}

/// What code may rely on about a region that it was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether loads and stores reach it.
    pub is_local: bool,
    /// Its length.
    pub length_bytes: u64,
    /// Whether long reads of it are worth a prefetch and a suspension.
    pub is_cold: bool,
}

impl Extent {
    /// Of this region.
    pub fn of(region: &Region) -> Extent {
        Extent { is_local: region.is_local(), length_bytes: region.length_bytes, is_cold: region.cold != 0 }
    }
}

/// The regions of a deployment, in the order of the bundle's declarations. They never change.
#[derive(Clone, Debug)]
pub struct Regions {
    entries: Arc<[Region]>,
    extents: Arc<[Extent]>,
}

impl Regions {
    /// Extents of the regions.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Whether code that was compiled for those can run with these: their extents are equal.
    #[inline]
    pub fn fit(&self, others: &Regions) -> bool {
        Arc::ptr_eq(&self.extents, &others.extents) || self.extents == others.extents
    }
}

impl From<Vec<Region>> for Regions {
    fn from(regions: Vec<Region>) -> Regions {
        Regions { extents: regions.iter().map(Extent::of).collect(), entries: regions.into() }
    }
}

impl FromIterator<Region> for Regions {
    fn from_iter<I: IntoIterator<Item = Region>>(regions: I) -> Regions {
        Regions::from(regions.into_iter().collect::<Vec<_>>())
    }
}

impl Default for Regions {
    /// None.
    fn default() -> Regions {
        Regions::from(Vec::new())
    }
}

impl std::ops::Deref for Regions {
    type Target = [Region];

    #[inline]
    fn deref(&self) -> &[Region] {
        &self.entries
    }
}

/// Copies bytes out of shared words, each word untorn and acquired.
///
/// # Panics
/// If the words are fewer than the bytes need.
#[inline(always)]
pub(crate) fn load_words(words: &[AtomicU64], destination: &mut [u8]) {
    let words = &words[..destination.len().div_ceil(8)];
    let (whole, tail) = destination.as_chunks_mut::<8>();
    let (word_lines, word_rest) = words[..whole.len()].as_chunks::<LINE_WORDS>();
    let (lines, rest) = whole.as_chunks_mut::<LINE_WORDS>();
    for (bytes, words) in lines.iter_mut().zip(word_lines) {
        for index in 0..LINE_WORDS {
            bytes[index] = words[index].load(Ordering::Acquire).to_ne_bytes();
        }
    }
    for (bytes, word) in rest.iter_mut().zip(word_rest) {
        *bytes = word.load(Ordering::Acquire).to_ne_bytes();
    }
    if !tail.is_empty() {
        let word = words[words.len() - 1].load(Ordering::Acquire).to_ne_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }
}

/// Copies bytes into shared words, each word untorn and in this order. What is left of the last word becomes zero.
///
/// # Panics
/// If the words are fewer than the bytes need.
#[inline(always)]
pub(crate) fn store_words(words: &[AtomicU64], source: &[u8], order: Ordering) {
    let words = &words[..source.len().div_ceil(8)];
    let (whole, tail) = source.as_chunks::<8>();
    let (lines, rest) = whole.as_chunks::<LINE_WORDS>();
    let (word_lines, word_rest) = words[..whole.len()].as_chunks::<LINE_WORDS>();
    for (bytes, words) in lines.iter().zip(word_lines) {
        for index in 0..LINE_WORDS {
            words[index].store(u64::from_ne_bytes(bytes[index]), order);
        }
    }
    for (bytes, word) in rest.iter().zip(word_rest) {
        word.store(u64::from_ne_bytes(*bytes), order);
    }
    if !tail.is_empty() {
        let mut padded = [0; 8];
        padded[..tail.len()].copy_from_slice(tail);
        words[words.len() - 1].store(u64::from_ne_bytes(padded), order);
    }
}

/// Writes bytes that begin `skip` bytes behind the first word's begin; both ends may lie in the middle of a word.
#[inline(never)]
fn write_unaligned(words: &[AtomicU64], skip: usize, source: &[u8]) {
    let head = if skip == 0 { 0 } else { source.len().min(8 - skip) };
    let (head_bytes, rest) = source.split_at(head);
    if head > 0 {
        merge(&words[0], skip, head_bytes);
    }
    let words = &words[usize::from(head > 0)..];
    let (whole, tail) = rest.split_at(rest.len() & !7);
    store_words(words, whole, Ordering::Release);
    if !tail.is_empty() {
        merge(&words[whole.len() / 8], 0, tail);
    }
}

/// Puts some bytes of a word in place and leaves the others as they are, even against concurrent writers of those.
fn merge(word: &AtomicU64, skip: usize, bytes: &[u8]) {
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |old| {
        let mut merged = old.to_ne_bytes();
        merged[skip..skip + bytes.len()].copy_from_slice(bytes);
        Some(u64::from_ne_bytes(merged))
    });
}

/// Hints that the line at an address will be read.
#[inline]
pub fn prefetch_line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program can see, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch has no effect that a program can see, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{address}]", address = in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
