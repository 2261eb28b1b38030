//! The yardstick: the handlers of `handlers/mica` and the readers of `handlers/cell` again, in native Rust, at the same message boundary.
//!
//! These programs run where handlers run, on the same activations, through the same turns: each makes the region accesses that
//! its handler makes, in the same order and of the same size, suspends where the handler would, and leaves the same bytes in the regions. So the ratio
//! of two throughputs is what verified, portable code costs over code that was compiled for this machine and trusted. Both kinds can work
//! on one table at the same time. Like the default deployment of the handlers they are a store, not a cache.
//!
//! [`mod@get`] is MICA's handler that only reads. Of those that write, [`machine`] has the UDMA calls and what survives a suspension, [`find`] the
//! search that they begin with, [`mod@write`] the rest. [`tree`] has Cell's readers.

mod find;
mod get;
mod machine;
mod tree;
mod write;

pub use tree::Reader;

use crate::mica;
use machine::{Machine, Step};
use naamc::abi::Helper;
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::Outcome;
use runtime::engine::{Program, Turn};

/// The handlers of the yardstick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// The record under a key.
    Get,
    /// Puts a record.
    Put,
    /// Puts a record unless there is one.
    Insert,
    /// Adds to a field of a record.
    ReadModifyWrite,
}

impl Native {
    /// All of them, with the handlers' names.
    pub const ALL: [(&'static str, Native); 4] =
        [("get", Native::Get), ("put", Native::Put), ("insert", Native::Insert), ("read_modify_write", Native::ReadModifyWrite)];

    /// The helper at each suspension point of these programs.
    pub fn operations() -> Vec<Helper> {
        Step::ALL.into_iter().map(|(_, helper)| helper).collect()
    }
}

impl Program for Native {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        if *self == Native::Get {
            return get::get(activation, turn);
        }
        match write(*self, activation, turn) {
            Ok(result) => Outcome::Finished(result as u32 as u64),
            Err(outcome) => outcome,
        }
    }

    fn unnoted_bytes(&self) -> u32 {
        0
    }
}

#[inline(never)]
fn write(native: Native, activation: &mut Activation, turn: &mut Turn<'_>) -> Result<i32, Outcome> {
    let mut machine = Machine::new(activation, turn);
    match machine.enter(native) {
        Ok(()) => machine.write(native),
        Err(result) => Ok(result),
    }
}

impl Machine<'_, '_> {
    /// Begins, or goes on where the program was suspended. The error is the result.
    fn enter(&mut self, native: Native) -> Result<(), i32> {
        if self.activation.point == POINT_START {
            return self.begin(native);
        }
        self.restore();
        Ok(())
    }

    /// What every handler that writes does first: no reply yet, lengths checked, key taken, bucket found. The error is the result.
    fn begin(&mut self, native: Native) -> Result<(), i32> {
        self.activation.reply_bytes = 0;
        let header = self.body_word(0);
        let (key_bytes, length) = (header as u8, (header >> 16) as u16);
        let (key_start, valid) = match native {
            Native::Get | Native::Put | Native::Insert => (mica::ITEM_HEADER_BYTES, usize::from(length) <= mica::VALUE_BYTES_MAX),
            Native::ReadModifyWrite => (mica::ADD_HEADER_BYTES, length.is_multiple_of(8)),
        };
        if !valid || !self.take_key(usize::from(key_bytes), key_start) {
            return Err(mica::INVALID);
        }
        if matches!(native, Native::Put | Native::Insert) {
            self.zero_key_padding();
            self.state.words = (1 + self.state.key_words() + u64::from(length).div_ceil(8)) as u32;
        }
        self.state.step = Step::Bucket;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
