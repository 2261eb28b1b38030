//! UDMA operations on the wire: how a client that runs handlers itself reaches regions.
//!
//! An operation is a message of [`crate::message::Kind::Udma`]: its target names a deployment and, in place of a handler, one of its regions by
//! index. Its body is 32 bytes, little-endian, and what a write writes:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | action: 0 read, 1 write, 2 compare-and-swap, 3 fetch-and-add |
//! | 1 | 3 | 0 |
//! | 4 | 4 | length in bytes; 8 for atomics |
//! | 8 | 8 | offset in the region |
//! | 16 | 8 | expected value, or the addend |
//! | 24 | 8 | desired value |
//!
//! The result of the reply is 0, `-EFAULT` or `-EINVAL`; its body is what was read, or the old value of an atomic.

use super::{Action, Operation};
use naamc::abi::BODY_BYTES_MAX;

/// Bytes before the source of a write.
pub const OPERATION_BYTES: usize = 32;

/// An operation from the wire, well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireOperation {
    /// What happens.
    pub action: Action,
    /// Byte offset in the region.
    pub offset: u64,
    /// How many bytes; 8 for atomics.
    pub length_bytes: u32,
}

impl WireOperation {
    /// The same operation as a handler stands before; `None` if no message has room for it.
    pub fn of(operation: &Operation) -> Option<WireOperation> {
        let Operation { action, offset, length_bytes, .. } = *operation;
        let room = if action == Action::Write { BODY_BYTES_MAX - OPERATION_BYTES } else { BODY_BYTES_MAX };
        (length_bytes as usize <= room).then_some(WireOperation { action, offset, length_bytes })
    }

    /// Reads the body of a message. Its source, if it has one, is behind [`OPERATION_BYTES`]. `None` if it is not well-formed.
    pub fn parse(body: &[u8]) -> Option<WireOperation> {
        let (fields, source) = body.split_first_chunk::<OPERATION_BYTES>()?;
        let (words, _) = fields.as_chunks::<8>();
        let [head, offset, operand, desired] = [0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index]));
        let length_bytes = (head >> 32) as u32;
        let action = match head as u32 {
            0 => Action::Read,
            1 => Action::Write,
            2 => Action::CompareSwap { expected: operand, desired },
            3 => Action::FetchAdd { addend: operand },
            _ => return None,
        };
        let (least, most, source_bytes) = match action {
            Action::Read => (0, BODY_BYTES_MAX, 0),
            Action::Write => (0, BODY_BYTES_MAX - OPERATION_BYTES, length_bytes as usize),
            Action::CompareSwap { .. } | Action::FetchAdd { .. } => (8, 8, 0),
        };
        let legal = (least..=most).contains(&(length_bytes as usize)) && source.len() == source_bytes;
        legal.then_some(WireOperation { action, offset, length_bytes })
    }

    /// The body of a message, without the source.
    pub fn emit(&self) -> [u8; OPERATION_BYTES] {
        let (action, operand, desired) = match self.action {
            Action::Read => (0, 0, 0),
            Action::Write => (1, 0, 0),
            Action::CompareSwap { expected, desired } => (2, expected, desired),
            Action::FetchAdd { addend } => (3, addend, 0),
        };
        let words = [action | u64::from(self.length_bytes) << 32, self.offset, operand, desired];
        let mut bytes = [0; OPERATION_BYTES];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    /// Bytes of the answer's body, if the operation succeeds.
    pub fn answer_bytes(&self) -> usize {
        if self.action == Action::Write { 0 } else { self.length_bytes as usize }
    }

    /// Whether it changes anything.
    pub fn has_effect(&self) -> bool {
        self.action != Action::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_wire() {
        for action in
            [Action::Read, Action::Write, Action::CompareSwap { expected: 7, desired: u64::MAX }, Action::FetchAdd { addend: 9 }]
        {
            let operation = WireOperation { action, offset: 1 << 40, length_bytes: 8 };
            let mut body = operation.emit().to_vec();
            body.resize(body.len() + if action == Action::Write { 8 } else { 0 }, 1);
            assert_eq!(WireOperation::parse(&body), Some(operation));
            body.push(0);
            assert_eq!(WireOperation::parse(&body), None, "a byte too much");
        }
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        let read = WireOperation { action: Action::Read, offset: 0, length_bytes: BODY_BYTES_MAX as u32 };
        assert!(WireOperation::parse(&read.emit()).is_some());
        for (at, byte) in [(0, 4), (1, 1), (3, 0x80), (7, 1)] {
            let mut body = read.emit();
            body[at] = byte;
            assert_eq!(WireOperation::parse(&body), None, "byte {at} is {byte}");
        }
        let atomic = WireOperation { action: Action::FetchAdd { addend: 1 }, offset: 0, length_bytes: 4 };
        assert_eq!(WireOperation::parse(&atomic.emit()), None);
        assert_eq!(WireOperation::parse(&read.emit()[..31]), None);
    }
}
