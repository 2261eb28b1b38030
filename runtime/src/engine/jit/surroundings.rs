//! What surrounds compiled code: the functions that it calls, the data that it reads, and how it ends.
//!
//! Compiled code gets pointers to a [`Turn`] and an activation. It calls Rust only through the turn's [`Surroundings`], so that it
//! needs no relocations. A panic in such a function, a thunk, aborts the process (`extern "C"`): nothing ever unwinds through compiled code.

use crate::engine::Turn;
use crate::memory::Region;
use naamc::abi::address::{READ_ONLY_START, REGION_START, STACK_START};
use naamc::abi::{Helper, REGIONS_MAX};
use naamc::activation::Activation;
use naamc::interpreter::{Environment, Failure, Issued, Udma};
use naamc::isa::Register;
use std::sync::Arc;

/// What compiled code returns, and thunks that can end a turn: a status and its value, in two registers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// One of [`Status`].
    pub status: u64,
    /// r0, or the number of a failure.
    pub value: u64,
}

/// How compiled code ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// Of a thunk: it goes on, and the value is the helper's result.
    Running = 0,
    /// The handler returned the value.
    Finished = 1,
    /// The message stands before the UDMA call that its activation names. The value is 0.
    Suspended = 2,
    /// It ended with the failure of this number.
    Failed = 3,
    /// The message stands before a long read whose lines should be on their way when it goes on: the value is the address of the first.
    Prefetch = 4,
}

impl Exit {
    fn failed(failure: Failure) -> Exit {
        Exit { status: Status::Failed as u64, value: failure as u64 }
    }

    fn running(value: u64) -> Exit {
        Exit { status: Status::Running as u64, value }
    }
}

/// What compiled code reaches beside its turn and its activation: read-only data, and functions. All of these take and return 64-bit
/// numbers and pointers.
#[repr(C)]
pub struct Surroundings {
    /// The bundle's read-only data.
    pub read_only: *const u8,
    /// Executes or postpones the UDMA call of this number with the arguments in the activation.
    pub udma: for<'a> extern "C" fn(&mut Turn<'a>, &mut Activation, u64) -> Exit,
    /// Reads a local region: region, offset, destination, length. Returns 0 or `-EFAULT`, then with zeros in the destination.
    pub read: extern "C" fn(&Region, u64, *mut u8, u64) -> i64,
    /// `naam_executor`.
    pub executor: for<'a> extern "C" fn(&mut Turn<'a>) -> Exit,
    /// `naam_length`.
    pub length: for<'a> extern "C" fn(&mut Turn<'a>, u64) -> u64,
    /// `naam_copy`.
    pub copy: extern "C" fn(*mut u8, *const u8, u64),
    /// `naam_fill`, with the byte in the low bits of the second argument.
    pub fill: extern "C" fn(*mut u8, u64, u64),
    /// `naam_compare`.
    pub compare: extern "C" fn(*const u8, *const u8, u64) -> i64,
    /// Owns `read_only`.
    data: Arc<[u8]>,
}

// SAFETY: the pointer points into `data`, which nobody writes to.
unsafe impl Send for Surroundings {}
// SAFETY: as above.
unsafe impl Sync for Surroundings {}

impl Surroundings {
    /// Of handlers with this read-only data.
    pub fn new(data: Arc<[u8]>) -> Surroundings {
        Surroundings { read_only: data.as_ptr(), udma, read, executor, length, copy, fill, compare, data }
    }
}

/// Bytes that a handler reads, behind a canonical address.
fn bytes<'b>(read_only: &'b [u8], activation: &'b Activation, address: u64, length: usize) -> &'b [u8] {
    if address >= READ_ONLY_START {
        let start = (address - READ_ONLY_START) as usize;
        &read_only[start..start + length]
    } else {
        &activation.memory[offset(address, length)]
    }
}

/// The place in the activation's memory behind a canonical address. No bytes may have any address.
fn offset(address: u64, length: usize) -> std::ops::Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let start = (address - STACK_START) as usize;
    start..start + length
}

/// The index behind a region's handle; one that no region has if it is none.
fn region(handle: u64) -> u16 {
    let index = handle.wrapping_sub(REGION_START);
    if index < REGIONS_MAX as u64 { index as u16 } else { u16::MAX }
}

extern "C" fn udma(turn: &mut Turn<'_>, activation: &mut Activation, number: u64) -> Exit {
    turn.book(activation);
    if activation.udma_operations_left == 0 {
        return Exit::failed(Failure::UdmaOperationsExhausted);
    }
    let issued = issue(turn, activation, number as i32);
    let Issued::Done(result) = issued else {
        return match issued {
            Issued::Failed(failure) => Exit::failed(failure),
            _ => Exit { status: Status::Suspended as u64, value: 0 },
        };
    };
    activation.udma_operations_left -= 1;
    activation.udma_operations = activation.udma_operations.saturating_add(1);
    turn.booked = turn.operations_left;
    Exit::running(result as u64)
}

fn issue(turn: &mut Turn<'_>, activation: &mut Activation, number: i32) -> Issued {
    let register = |register: Register| activation.registers[register.index()];
    let [r1, r2, r3, r4, r5] = Register::ARGUMENTS.map(register);
    let region = region(r1);
    let mut old = 0;
    let (issued, word) = match Helper::from_number(number) {
        Some(Helper::Read) => {
            let destination = &mut activation.memory[offset(r3, r4 as u32 as usize)];
            let issued = turn.udma(Udma::Read { region, offset: r2, destination });
            if matches!(issued, Issued::Done(result) if result != 0) {
                destination.fill(0);
            }
            activation.note_written(offset(r3, r4 as u32 as usize).end);
            return issued;
        }
        Some(Helper::Write) => {
            // SAFETY: whoever entered this code put there what is borrowed as long as the code runs, and nobody writes to it.
            let read_only = unsafe { &(*turn.surroundings).data };
            let source = bytes(read_only, activation, r3, r4 as u32 as usize);
            return turn.udma(Udma::Write { region, offset: r2, source });
        }
        Some(Helper::CompareSwap) => {
            (turn.udma(Udma::CompareSwap { region, offset: r2, expected: r3, desired: r4, old: &mut old }), r5)
        }
        Some(Helper::FetchAdd) => (turn.udma(Udma::FetchAdd { region, offset: r2, addend: r3, old: &mut old }), r4),
        _ => return Issued::Failed(Failure::EngineFault),
    };
    if let Issued::Done(result) = issued {
        let old: u64 = if result == 0 { old } else { 0 };
        activation.memory[offset(word, 8)].copy_from_slice(&old.to_le_bytes());
    }
    issued
}

extern "C" fn read(region: &Region, offset: u64, destination: *mut u8, length: u64) -> i64 {
    if length == 0 {
        // No bytes may have any address, null too, and there is nothing to read.
        return 0;
    }
    // SAFETY: the verifier proved that `length` bytes of the activation's memory lie at `destination`, and nothing else refers to
    // them while compiled code waits for this call.
    let destination = unsafe { std::slice::from_raw_parts_mut(destination, length as usize) };
    let result = region.read(offset, destination);
    if result != 0 {
        destination.fill(0);
    }
    result
}

extern "C" fn executor(turn: &mut Turn<'_>) -> Exit {
    match turn.executor() {
        Ok(number) => Exit::running(u64::from(number)),
        Err(failure) => Exit::failed(failure),
    }
}

extern "C" fn length(turn: &mut Turn<'_>, handle: u64) -> u64 {
    turn.length_bytes(region(handle))
}

extern "C" fn copy(to: *mut u8, from: *const u8, length: u64) {
    // SAFETY: the verifier proved both ranges: `to` lies in the activation's memory, `from` there or in the read-only data. They may overlap.
    unsafe { std::ptr::copy(from, to, length as usize) }
}

extern "C" fn fill(to: *mut u8, byte: u64, length: u64) {
    // SAFETY: the verifier proved that the range lies in the activation's memory.
    unsafe { std::ptr::write_bytes(to, byte as u8, length as usize) }
}

extern "C" fn compare(left: *const u8, right: *const u8, length: u64) -> i64 {
    if length == 0 {
        // No bytes may have any address: they are equal.
        return 0;
    }
    // SAFETY: the verifier proved that both ranges lie in the activation's memory or the read-only data, and nothing writes to them while
    // compiled code waits for this call.
    let (left, right) =
        unsafe { (std::slice::from_raw_parts(left, length as usize), std::slice::from_raw_parts(right, length as usize)) };
    left.cmp(right) as i64
}
