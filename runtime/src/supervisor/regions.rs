//! The memory of regions: sealed memfds that the supervisor owns and that outlive every place.

use super::error::{Code, ControlError};
use super::records::{REGION_BYTES_MAX, RegionRecord};
use crate::memory::{HUGE_PAGE_BYTES, PAGE_BYTES, Pages, Region, SharedMemory};
use naamc::quantity::{counted, grouped, show_bytes};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A region's memory. Clones share it.
#[derive(Clone, Debug)]
pub struct RegionMemory {
    memory: Arc<SharedMemory>,
    region: Region,
}

/// The length that a region of at least `length_bytes` gets: whole pages.
pub fn rounded(length_bytes: u64, huge_pages: bool) -> Result<u64, ControlError> {
    if length_bytes == 0 || length_bytes > REGION_BYTES_MAX {
        return Err(ControlError::new(
            Code::BadRequest,
            format!(
                "a region has 1 to {} bytes ({}), not {}",
                grouped(REGION_BYTES_MAX),
                show_bytes(REGION_BYTES_MAX),
                grouped(length_bytes)
            ),
        ));
    }
    Ok(length_bytes.next_multiple_of(if huge_pages { HUGE_PAGE_BYTES } else { PAGE_BYTES }))
}

impl RegionMemory {
    /// Memory of zeros, all of it there from the start: a region never runs out of memory while it is used. Blocks for as long as the
    /// kernel takes to clear it.
    pub fn create(record: &RegionRecord, available_bytes: u64) -> Result<RegionMemory, ControlError> {
        let length_bytes = record.length_bytes;
        let no_memory = |available: String| {
            Err(ControlError::new(Code::Exhausted, format!("no memory for a region of {}: {available}", show_bytes(length_bytes))))
        };
        if !record.huge_pages && length_bytes > available_bytes {
            return no_memory(format!("this machine has {} available", counted(available_bytes, "byte")))
                .map_err(|error| error.hint("create a smaller region, or remove one"));
        }
        let failed = |error: std::io::Error| ControlError::io(format!("creating region {:?}", record.name), &error);
        let pages = if record.huge_pages { Pages::Huge } else { Pages::Ordinary };
        let memory = SharedMemory::create(&format!("naam-region-{}", record.name), length_bytes, pages).map_err(failed)?;
        match rustix::fs::fallocate(memory.descriptor(), FallocateFlags::empty(), 0, length_bytes) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::NOMEM) if record.huge_pages => {
                let pages = length_bytes / HUGE_PAGE_BYTES;
                return no_memory("too few huge pages are free".to_owned()).map_err(|error| {
                    error.hint(format!(
                        "reserve them: `echo {pages} | sudo tee /proc/sys/vm/nr_hugepages`, or leave out --huge-pages"
                    ))
                });
            }
            Err(Errno::NOSPC | Errno::NOMEM) => return no_memory("the kernel has none left".to_owned()),
            Err(errno) => return Err(failed(errno.into())),
        }
        let mapping = memory.map().map_err(failed)?;
        mapping.gather_pages();
        let region = Region::local(mapping, length_bytes)
            .ok_or_else(|| ControlError::new(Code::System, "a region shorter than it was made"))?;
        Ok(RegionMemory { memory: Arc::new(memory), region })
    }

    /// Its length.
    pub fn length_bytes(&self) -> u64 {
        self.region.length_bytes()
    }

    /// The descriptor that places map.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.descriptor()
    }

    /// Copies bytes out, each aligned word of 8 untorn, in no promised order among themselves.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ControlError> {
        self.inside(self.region.read(offset, bytes))
    }

    /// Copies bytes in, each aligned word of 8 untorn, in no promised order among themselves.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ControlError> {
        self.inside(self.region.write(offset, bytes))
    }

    fn inside(&self, result: i64) -> Result<(), ControlError> {
        match result {
            0 => Ok(()),
            _ => Err(ControlError::new(Code::BadRequest, format!("outside of a region of {} bytes", self.length_bytes()))),
        }
    }
}

/// Bytes that this machine can give without swapping, by the kernel's estimate.
pub fn available_bytes() -> Result<u64, ControlError> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| ControlError::io("reading /proc/meminfo", &error))?;
    parse_available(&text).ok_or_else(|| ControlError::new(Code::System, "/proc/meminfo does not say how much memory is available"))
}

fn parse_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length_bytes: u64) -> RegionRecord {
        RegionRecord { name: "r".into(), id: 1, generation: 1, length_bytes, huge_pages: false }
    }

    #[test]
    fn lengths_are_whole_pages_inside_the_limit() {
        assert_eq!(rounded(1, false).unwrap(), 4096);
        assert_eq!(rounded(4097, false).unwrap(), 8192);
        assert_eq!(rounded(4097, true).unwrap(), 2 << 20);
        assert_eq!(rounded(REGION_BYTES_MAX, true).unwrap(), REGION_BYTES_MAX);
        for length_bytes in [0, REGION_BYTES_MAX + 1, u64::MAX] {
            assert_eq!(rounded(length_bytes, true).unwrap_err().code, Code::BadRequest);
        }
    }

    #[test]
    fn memory_begins_as_zeros_and_keeps_its_length() {
        let memory = RegionMemory::create(&record(8192), u64::MAX).unwrap();
        let mut bytes = [1; 16];
        memory.read(8176, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 16]);
        memory.write(100, b"written").unwrap();
        memory.read(98, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0written\0\0\0\0\0\0\0");
        assert_eq!(memory.read(8177, &mut bytes).unwrap_err().code, Code::BadRequest);
        assert_eq!(memory.write(8191, b"xy").unwrap_err().code, Code::BadRequest);
        assert!(rustix::fs::ftruncate(memory.descriptor(), 4096).is_err());
    }

    #[test]
    fn more_than_the_machine_has_is_refused() {
        assert_eq!(RegionMemory::create(&record(8192), 8191).unwrap_err().code, Code::Exhausted);
        assert_eq!(parse_available("MemTotal: 9 kB\nMemAvailable:       12 kB\n"), Some(12288));
        assert!(available_bytes().unwrap() > 0);
    }
}
