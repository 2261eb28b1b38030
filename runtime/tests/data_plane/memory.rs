//! Regions are read and written by words, whole or not at all; shared memory cannot shrink under a mapping.

use naamc::abi::{EFAULT, EINVAL};
use runtime::memory::{Pages, Region, SharedMemory};
use rustix::fs::{FallocateFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Takes pages away, so that they read as zero.
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// Random reads and writes at all alignments agree with the same on a plain array, and never touch a byte beside them.
#[test]
fn copies_agree_with_plain_bytes() {
    let mut random = fastrand::Rng::with_seed(1);
    let region = Region::anonymous(200).unwrap();
    let mut model = [0u8; 200];
    for round in 0..20_000 {
        let (offset, length) = (random.usize(..220), random.usize(..120));
        let inside = offset + length <= 200;
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let expected = if inside || length == 0 { 0 } else { -EFAULT };
        if random.bool() {
            assert_eq!(region.write(offset as u64, &bytes), expected, "round {round}");
            if inside {
                model[offset..offset + length].copy_from_slice(&bytes);
            }
        } else {
            let before = bytes.clone();
            assert_eq!(region.read(offset as u64, &mut bytes), expected, "round {round}");
            assert_eq!(bytes, if inside { &model[offset..offset + length] } else { &before }, "round {round}");
        }
        let mut all = [0; 200];
        assert_eq!(region.read(0, &mut all), 0);
        assert_eq!(all, model, "round {round}");
    }
}

/// Bounds do not overflow: what begins near 2^64 is outside, and nothing is always inside.
#[test]
fn bounds_do_not_overflow() {
    let region = Region::anonymous(4096).unwrap();
    let mut bytes = [1; 16];
    for offset in [4081, 4096, u64::MAX - 15, u64::MAX - 7, u64::MAX, 1 << 63] {
        assert_eq!(region.read(offset, &mut bytes), -EFAULT, "{offset}");
        assert_eq!(region.write(offset, &bytes), -EFAULT, "{offset}");
        assert_eq!(region.read(offset, &mut []), 0, "{offset}");
    }
    assert_eq!(bytes, [1; 16]);
    assert_eq!(region.write(4080, &bytes), 0);
}

/// Atomics demand alignment first, then bounds, and leave `old` alone on an error.
#[test]
fn atomics_check_alignment_and_bounds() {
    let region = Region::anonymous(64).unwrap();
    let mut old = 99;
    for (offset, error) in [(1, -EINVAL), (63, -EINVAL), (64, -EFAULT), (u64::MAX - 7, -EFAULT), (u64::MAX, -EINVAL)] {
        assert_eq!(region.compare_swap(offset, 0, 1, &mut old), error, "{offset}");
        assert_eq!(region.fetch_add(offset, 1, &mut old), error, "{offset}");
    }
    assert_eq!(old, 99);
    assert_eq!((region.compare_swap(8, 0, u64::MAX, &mut old), old), (0, 0));
    assert_eq!((region.fetch_add(8, 2, &mut old), old), (0, u64::MAX));
    assert_eq!((region.compare_swap(8, 0, 5, &mut old), old), (0, 1));
}

/// Two threads write neighbouring bytes of the same words; neither loses any of its own.
#[test]
fn neighbours_in_a_word_survive() {
    let region = Region::anonymous(64).unwrap();
    std::thread::scope(|scope| {
        for half in 0..2u64 {
            let region = &region;
            scope.spawn(move || {
                for round in 0..20_000u32 {
                    let bytes = [round as u8; 3];
                    assert_eq!(region.write(9 + half * 3, &bytes), 0);
                    let mut read = [0; 3];
                    assert_eq!(region.read(9 + half * 3, &mut read), 0);
                    assert_eq!(read, bytes);
                }
            });
        }
    });
}

/// Memory that could be shrunk under its mapping is refused, and what we make cannot be.
#[test]
fn shared_memory_is_sealed() {
    let open = rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&open, 4096).unwrap();
    assert!(SharedMemory::from_descriptor(open).is_err());
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    assert!(SharedMemory::from_descriptor(file).is_err());
    assert!(SharedMemory::create("none", 0, Pages::Ordinary).is_err());
    assert!(SharedMemory::create("huge", u64::MAX, Pages::Ordinary).is_err());
    let memory = SharedMemory::create("sealed", 5000, Pages::Ordinary).unwrap();
    assert_eq!(memory.length_bytes(), 8192);
    assert!(rustix::fs::ftruncate(memory.descriptor(), 0).is_err());
    let other = SharedMemory::from_descriptor(memory.descriptor().try_clone_to_owned().unwrap()).unwrap();
    memory.map().unwrap().words()[3].store(7, Ordering::Relaxed);
    assert_eq!(other.map().unwrap().words()[3].load(Ordering::Relaxed), 7);
}

/// Memory with one writer: whoever gets its descriptor reads what the writer writes, and finds no way to write itself, as root neither.
#[test]
fn nobody_else_writes_what_has_one_writer() {
    let (mapping, memory) = SharedMemory::create_with_one_writer("published", 5000, Pages::Ordinary).unwrap();
    assert_eq!((memory.length_bytes(), mapping.length_bytes()), (8192, 8192));
    let handed_out = memory.descriptor().try_clone_to_owned().unwrap();
    let path = format!("/proc/self/fd/{}", handed_out.as_raw_fd());
    let reopened = [OFlags::RDWR, OFlags::WRONLY].map(|flags| rustix::fs::open(&path, flags, Mode::empty()));
    let reading = SharedMemory::from_descriptor(handed_out).unwrap();
    assert!(reading.map().is_err(), "the descriptor cannot be mapped for writing");
    let view = reading.map_read_only().unwrap();
    // Root opens files of any mode; everybody else fails here already.
    for descriptor in reopened.into_iter().flatten() {
        assert_eq!(rustix::io::pwrite(&descriptor, &[1; 8], 24), Err(Errno::PERM));
        assert_eq!(rustix::fs::fallocate(&descriptor, PUNCH, 0, 4096), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(&descriptor, SealFlags::WRITE), Err(Errno::PERM));
        assert!(rustix::fs::ftruncate(&descriptor, 0).is_err());
        assert!(SharedMemory::from_descriptor(descriptor).unwrap().map().is_err(), "nor can it be once it is opened for writing");
    }
    for value in [7, 8] {
        mapping.words()[3].store(value, Ordering::Relaxed);
        assert_eq!(view.load(3, Ordering::Relaxed), Some(value));
    }
    assert!(SharedMemory::create_with_one_writer("none", 0, Pages::Ordinary).is_err());
}
