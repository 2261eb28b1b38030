//! Executable memory, never writable and executable at once.

use super::surroundings::Exit;
use crate::engine::Turn;
use naamc::activation::Activation;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;
use std::io;
use std::ptr::NonNull;

/// What every body of compiled code is.
type Body = for<'t> unsafe extern "C" fn(*mut Turn<'t>, *mut Activation) -> Exit;

/// Pages with the code of one body.
#[derive(Debug)]
pub struct Code {
    start: NonNull<c_void>,
    mapped_bytes: usize,
}

// SAFETY: the pages are owned, and nobody writes to them any more.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// Maps the code of one body and makes it executable.
    ///
    /// # Errors
    /// The system's.
    pub fn new(bytes: &[u8]) -> io::Result<Code> {
        let mapped_bytes = bytes.len().max(1).next_multiple_of(4096);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let code = Code { start: NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?, mapped_bytes };
        // SAFETY: the mapping is new, writable and long enough.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), code.start.as_ptr().cast(), bytes.len()) };
        // SAFETY: the whole mapping is ours, and no reference into it exists.
        unsafe { rustix::mm::mprotect(code.start.as_ptr(), mapped_bytes, MprotectFlags::READ | MprotectFlags::EXEC)? };
        synchronize(code.start.as_ptr().cast(), bytes.len());
        Ok(code)
    }

    /// Runs it.
    ///
    /// # Safety
    /// The code is a body of a checked handler; turn and activation are valid, and regions and surroundings of the turn are those that the
    /// body was compiled for.
    #[inline(always)]
    pub unsafe fn enter(&self, turn: *mut Turn<'_>, activation: *mut Activation) -> Exit {
        // SAFETY: the pages begin with a function of this signature.
        let body: Body = unsafe { std::mem::transmute::<NonNull<c_void>, Body>(self.start) };
        // SAFETY: the caller's promise is what the body was lowered for.
        unsafe { body(turn, activation) }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping with this length, and nobody runs in it: running borrows it. Failing to unmap only leaks.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.mapped_bytes) };
    }
}

/// Makes instructions that were just written visible to every core's instruction fetch. x86-64 sees to that itself.
#[cfg(not(target_arch = "aarch64"))]
fn synchronize(_start: *const u8, _bytes: usize) {}

/// Makes instructions that were just written visible to every core's instruction fetch: clean data lines to the point of unification,
/// invalidate instruction lines everywhere (Arm ARM, B2.4.4), then have the kernel synchronize every thread of this process.
#[cfg(target_arch = "aarch64")]
fn synchronize(start: *const u8, bytes: usize) {
    use std::arch::asm;
    /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE` and its registration.
    const SYNC_CORE: [u64; 2] = [1 << 6, 1 << 5];
    const MEMBARRIER: u64 = 283;
    let identity: u64;
    // SAFETY: reading the cache type register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) identity, options(nomem, nostack, preserves_flags)) };
    let (data_line, instruction_line) = (4usize << (identity >> 16 & 15), 4usize << (identity & 15));
    let (first, end) = (start as usize, start as usize + bytes);
    for line in (first & !(data_line - 1)..end).step_by(data_line) {
        // SAFETY: cleaning a line of our own mapping changes no value.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in (first & !(instruction_line - 1)..end).step_by(instruction_line) {
        // SAFETY: invalidating an instruction line changes no value.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    for command in SYNC_CORE {
        // SAFETY: `membarrier` changes no memory. A kernel without it answers an error, and then a thread's next return from the kernel
        // synchronizes it.
        unsafe {
            asm!("svc #0", in("x8") MEMBARRIER, inlateout("x0") command => _, in("x1") 0u64, in("x2") 0u64, options(nostack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that code can be executed and read, and not written.
    #[test]
    fn code_is_not_writable() {
        let code = Code::new(&[0; 100]).expect("memory");
        let start = code.start.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux tells its mappings");
        let holds = |line: &&str| {
            let range = line.split(' ').next().unwrap_or_default();
            let bounds: Vec<usize> = range.split('-').filter_map(|bound| usize::from_str_radix(bound, 16).ok()).collect();
            bounds.len() == 2 && (bounds[0]..bounds[1]).contains(&start)
        };
        let line = maps.lines().find(holds).expect("it is mapped");
        assert_eq!(line.split(' ').nth(1), Some("r-xp"), "{line}");
    }
}
