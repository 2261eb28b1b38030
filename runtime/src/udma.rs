//! UDMA backends: how an executor reaches regions that its engine's loads and stores do not reach. All are asynchronous in shape.
//!
//! Regions within reach ([`Region::is_local`]) need none: engines execute operations on them inline, and that is the
//! `local` backend of host executors. For any other region the message suspends before the call; the executor reads the operation from
//! the activation ([`Operation::pending`]), issues it here, and resumes the message when its completion was polled. [`dma`] is the backend
//! of NIC executors; [`wire`] is how operations of clients look, whose backend lies above, where sessions are known.

pub mod dma;
pub mod wire;

use crate::memory::Region;
use naamc::abi::{EFAULT, Helper, STACK_BYTES, address};
use naamc::activation::Activation;
use naamc::isa::Register;
use std::os::fd::BorrowedFd;

/// Identifies an operation under way: the index of its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u32);

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Region bytes to memory.
    Read,
    /// Memory to region bytes.
    Write,
    /// Eight bytes become `desired` if they are `expected`.
    CompareSwap {
        /// Value compared with.
        expected: u64,
        /// Value stored if equal.
        desired: u64,
    },
    /// Adds to eight bytes, wrapping.
    FetchAdd {
        /// What is added.
        addend: u64,
    },
}

/// Where an operation's bytes are on the handler's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// From this byte of the activation's memory on: they lie inside.
    Activation(usize),
    /// From this byte of the bundle's read-only data on: what a write may take its bytes from. Whether they lie inside is not known here.
    ReadOnly(usize),
}

/// A UDMA operation before which a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of the region in the deployment.
    pub region: u16,
    /// Byte offset in the region.
    pub offset: u64,
    /// What happens there.
    pub action: Action,
    /// Where the bytes of a read or write, or the old value of an atomic, are.
    pub location: Location,
    /// How many bytes; 8 for atomics.
    pub length_bytes: u32,
}

impl Operation {
    /// The operation before which a suspended message stands, if its code there is this helper. `None` if the registers do not say a
    /// region and bytes that the operation can have, which checked code never does.
    #[inline(always)]
    pub fn pending(activation: &Activation, helper: Helper) -> Option<Operation> {
        let register = |register: Register| activation.registers[register.index()];
        let [r1, r2, r3, r4, r5] = Register::ARGUMENTS.map(register);
        let (action, memory, length_bytes) = match helper {
            Helper::Read => (Action::Read, r3, r4 as u32),
            Helper::Write => (Action::Write, r3, r4 as u32),
            Helper::CompareSwap => (Action::CompareSwap { expected: r3, desired: r4 }, r5, 8),
            Helper::FetchAdd => (Action::FetchAdd { addend: r3 }, r4, 8),
            _ => return None,
        };
        let region = u16::try_from(r1.checked_sub(address::REGION_START)?).ok()?;
        let location = match memory.checked_sub(address::READ_ONLY_START) {
            Some(start) if action == Action::Write => Location::ReadOnly(usize::try_from(start).ok()?),
            Some(_) => return None,
            None => {
                let start = usize::try_from(memory.checked_sub(address::STACK_START)?).ok()?;
                activation.memory.get(start..start.checked_add(length_bytes as usize)?)?;
                Location::Activation(start)
            }
        };
        Some(Operation { region, offset: r2, action, location, length_bytes })
    }

    /// The bytes in the activation or the bundle's read-only data; `None` if they do not lie inside.
    #[inline(always)]
    pub fn bytes<'a>(&self, activation: &'a Activation, read_only: &'a [u8]) -> Option<&'a [u8]> {
        let (memory, start) = match self.location {
            Location::Activation(start) => (&activation.memory[..], start),
            Location::ReadOnly(start) => (read_only, start),
        };
        memory.get(start..start.checked_add(self.length_bytes as usize)?)
    }

    /// Leaves the completion in the activation: the bytes read or the old value (little-endian), or zeros after an error, and the
    /// result: 0, `-EFAULT` or `-EINVAL`.
    pub fn complete(&self, activation: &mut Activation, result: i64, bytes: &[u8]) {
        if let Some(memory) = self.destination(activation) {
            if result == 0 && bytes.len() == memory.len() { memory.copy_from_slice(bytes) } else { memory.fill(0) }
        }
        self.settle(activation, result);
    }

    /// Performs the operation on the region, now, and leaves its completion in the activation. `read_only` is the bundle's read-only data.
    #[inline(always)]
    pub fn perform(&self, region: &Region, activation: &mut Activation, read_only: &[u8]) {
        let mut old = 0;
        let result = match self.action {
            Action::Read => {
                let Some(memory) = self.destination(activation) else { return };
                let result = region.read(self.offset, memory);
                if result != 0 {
                    memory.fill(0);
                }
                return self.settle(activation, result);
            }
            Action::Write => match self.bytes(activation, read_only) {
                Some(source) => region.write(self.offset, source),
                None => -EFAULT,
            },
            Action::CompareSwap { expected, desired } => region.compare_swap(self.offset, expected, desired, &mut old),
            Action::FetchAdd { addend } => region.fetch_add(self.offset, addend, &mut old),
        };
        self.complete(activation, result, &old.to_le_bytes());
    }

    /// Where the bytes read or the old value go; `None` if the operation has none.
    #[inline(always)]
    fn destination<'a>(&self, activation: &'a mut Activation) -> Option<&'a mut [u8]> {
        match self.location {
            Location::Activation(start) if self.action != Action::Write => {
                activation.memory.get_mut(start..start.checked_add(self.length_bytes as usize)?)
            }
            _ => None,
        }
    }

    /// Says that the operation is completed, and what it wrote.
    #[inline(always)]
    fn settle(&self, activation: &mut Activation, result: i64) {
        if let Location::Activation(start) = self.location
            && self.action != Action::Write
        {
            activation.note_written(start + self.length_bytes as usize);
        }
        activation.completed = 1;
        activation.completion = result;
    }
}

/// What a backend says of an operation under way.
#[derive(Clone, Copy, Debug)]
pub enum Completion<'a> {
    /// Its moment has come: whoever polled performs it now, on the region as it is mapped here ([`Operation::perform`]).
    Due,
    /// Nobody can say whether it took effect, and none will be issued any more: its message ends.
    Lost,
    /// It took effect elsewhere.
    Done {
        /// 0, `-EFAULT` or `-EINVAL`.
        result: i64,
        /// The bytes read, or the old value of an atomic, little-endian.
        bytes: &'a [u8],
    },
}

/// Why an operation was not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    /// No room for its completion now: later.
    #[error("no room for another operation")]
    Full,
    /// The region is out of reach for good: the message fails.
    #[error("the region cannot be reached")]
    Unreachable,
}

/// Reaches remote regions. An executor owns one, and polls it before anything else in its turn.
///
/// Operations of one message never overlap: the next is issued after the completion of the one before, which keeps their order.
pub trait Backend: Send {
    /// Issues an operation on a region. `source` are the bytes of a write, and are not needed after the call. Its completion has a place reserved once this succeeds.
    ///
    /// # Errors
    /// [`NotIssued`].
    fn issue(&mut self, now_ns: u64, token: Token, region: &Region, operation: &Operation, source: &[u8]) -> Result<(), NotIssued>;

    /// Hands over completed operations, each once, in any order.
    fn poll(&mut self, now_ns: u64, completed: &mut dyn FnMut(Token, Completion<'_>));

    /// When polling can next find something, if anything is under way: until then an executor without other work may sleep.
    fn due_ns(&self) -> Option<u64>;

    /// Says that its executor is about to sleep. False if there is a reason not to.
    fn arm(&mut self) -> bool {
        true
    }

    /// What becomes readable when polling finds something.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Says that its executor is awake again.
    fn disarm(&mut self) {}
}

/// The backend of executors whose regions are all mapped: host executors. It has nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl Backend for Local {
    fn issue(&mut self, _: u64, _: Token, _: &Region, _: &Operation, _: &[u8]) -> Result<(), NotIssued> {
        Err(NotIssued::Unreachable)
    }

    fn poll(&mut self, _: u64, _: &mut dyn FnMut(Token, Completion<'_>)) {}

    fn due_ns(&self) -> Option<u64> {
        None
    }
}

const _: () = assert!(address::BODY_START - address::STACK_START == STACK_BYTES as u64, "the body follows the stack");
