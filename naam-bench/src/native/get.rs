//! `get`: the handler that only reads, and that most requests call. What survives its suspensions is four words and the key.

use super::find::{LINK_SHIFT, TAG_SHIFT, block_offset, extra_bucket, item_words, slots_with, take_key};
use super::machine::{BODY, BUCKET, KEY_REGISTER, STATE_REGISTER, Step, WORD, address, handle, word_at};
use crate::mica::{ABSENT, BUCKET_BYTES, HEAP, INVALID, ITEM_BYTES_MAX, ITEM_HEADER_BYTES, OK, SLOTS, TABLE};
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::{Failure, Issued, Outcome};
use runtime::engine::Turn;

/// Its variables, by the names that `mica.c` gives them.
struct Get<'m, 't> {
    activation: &'m mut Activation,
    turn: &'m mut Turn<'t>,
    /// The next UDMA call.
    step: Step,
    /// Whether a backend has performed it while the program was suspended.
    completed: bool,
    key_bytes: usize,
    tag: u64,
    index: u32,
    /// Offsets of the main bucket, and of the one that is being searched.
    bucket: u64,
    at: u64,
    /// The main bucket's word when the search began.
    word: u64,
}

/// Runs it until it ends or is suspended. Turn and fuel are counted as one, and booked at the end.
#[inline]
pub fn get(activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
    let completed = activation.completed != 0;
    if completed {
        activation.completed = 0;
        activation.udma_operations_left = activation.udma_operations_left.saturating_sub(1);
        activation.udma_operations += 1;
    }
    turn.open(activation);
    let get = if activation.point == POINT_START {
        match Get::begin(activation, turn) {
            Some(get) => get,
            None => return Outcome::Finished(INVALID as u64),
        }
    } else {
        Get::resume(activation, turn, completed)
    };
    let ended = get.run();
    turn.book(activation);
    match ended {
        Ok(result) => Outcome::Finished(result as u64),
        Err(Outcome::Suspended) if activation.udma_operations_left == 0 => Outcome::Failed(Failure::UdmaOperationsExhausted),
        Err(outcome) => outcome,
    }
}

impl<'m, 't> Get<'m, 't> {
    /// No reply yet, length checked, key taken, bucket found.
    #[inline(always)]
    fn begin(activation: &'m mut Activation, turn: &'m mut Turn<'t>) -> Option<Self> {
        activation.reply_bytes = 0;
        let key_bytes = usize::from(word_at(activation, BODY) as u8);
        let (tag, bucket) = take_key(activation, key_bytes, ITEM_HEADER_BYTES, table_bytes(turn))?;
        let (step, tag) = (Step::Bucket, u64::from(tag));
        Some(Get { activation, turn, step, completed: false, key_bytes, tag, index: 0, bucket, at: bucket, word: 0 })
    }

    #[inline(always)]
    fn resume(activation: &'m mut Activation, turn: &'m mut Turn<'t>, completed: bool) -> Self {
        let step = match activation.point {
            1 => Step::Item,
            2 => Step::Chain,
            3 => Step::Check,
            4 => Step::CheckAbsent,
            _ => Step::Bucket,
        };
        let [packed, bucket, at, word] = std::array::from_fn(|index| activation.registers[STATE_REGISTER + index]);
        let (key_bytes, tag, index) = (usize::from(packed as u16), packed >> 16 & 0xffff, (packed >> 32) as u32);
        Get { activation, turn, step, completed, key_bytes, tag, index, bucket, at, word }
    }

    /// From the current step on: the usual way straight through, without a look at where it stands between two steps. The error is why it
    /// stands before one.
    #[inline(always)]
    fn run(mut self) -> Result<i32, Outcome> {
        if !self.completed {
            if self.step == Step::Bucket {
                self.search_bucket()?;
            }
            if self.step == Step::Item {
                self.read_item()?;
            }
            if self.step == Step::Check
                && let Some(result) = self.check()?
            {
                return Ok(result);
            }
        }
        self.go_on()
    }

    /// Any other way.
    #[cold]
    fn go_on(mut self) -> Result<i32, Outcome> {
        loop {
            match self.step {
                Step::Item => self.read_item()?,
                Step::Chain => self.search_chain()?,
                Step::Check | Step::CheckAbsent => {
                    if let Some(result) = self.check()? {
                        return Ok(result);
                    }
                }
                _ => self.search_bucket()?,
            }
        }
    }

    #[inline(always)]
    fn search_bucket(&mut self) -> Result<(), Outcome> {
        self.read(TABLE, self.bucket, BUCKET, BUCKET_BYTES as usize)?;
        self.word = word_at(self.activation, BUCKET);
        if self.word & 1 == 0 {
            (self.at, self.index) = (self.bucket, 0);
            self.look_further();
        }
        Ok(())
    }

    fn search_chain(&mut self) -> Result<(), Outcome> {
        self.read(TABLE, self.at, BUCKET, BUCKET_BYTES as usize)?;
        self.index = 0;
        self.look_further();
        Ok(())
    }

    /// Reads the record that the current item word names.
    #[inline(always)]
    fn read_item(&mut self) -> Result<(), Outcome> {
        let item = word_at(self.activation, BUCKET + 8 + (self.index as usize % SLOTS.next_power_of_two()) * 8);
        self.read(HEAP, block_offset(item), BODY, item_words(item) as usize * 8)?;
        if self.has_key() {
            self.step = Step::Check;
        } else {
            self.index += 1;
            self.look_further();
        }
        Ok(())
    }

    /// The result, unless somebody has written to the bucket since the search began: then it begins again.
    #[inline(always)]
    fn check(&mut self) -> Result<Option<i32>, Outcome> {
        self.read(TABLE, self.bucket, WORD, 8)?;
        if word_at(self.activation, WORD) != self.word {
            self.step = Step::Bucket;
            return Ok(None);
        }
        Ok(Some(if self.step == Step::Check { self.reply() } else { ABSENT }))
    }

    /// Goes on through the bucket to the next item word with the key's tag, else to the next bucket of the chain.
    #[inline(always)]
    fn look_further(&mut self) {
        let tag = self.tag;
        let matching = slots_with(self.activation, |word| word >> TAG_SHIFT == tag) & (u32::MAX << (self.index % 32));
        if matching != 0 {
            (self.step, self.index) = (Step::Item, matching.trailing_zeros());
            return;
        }
        self.step = Step::CheckAbsent;
        let link = word_at(self.activation, BUCKET) >> LINK_SHIFT;
        if link != 0 {
            self.at = extra_bucket(table_bytes(self.turn), self.bucket, link);
            self.step = Step::Chain;
        }
    }

    /// Whether the record that was read has the key.
    #[inline(always)]
    fn has_key(&self) -> bool {
        let key = &self.activation.registers[KEY_REGISTER..][..self.key_bytes.div_ceil(8)];
        let record = |index: usize| word_at(self.activation, BODY + ITEM_HEADER_BYTES + index * 8);
        self.activation.memory[BODY] as usize == self.key_bytes
            && key.iter().enumerate().all(|(index, word)| *word == record(index))
    }

    /// The record is the reply.
    #[inline(always)]
    fn reply(&mut self) -> i32 {
        let value_bytes = (word_at(self.activation, BODY) >> 16 & 0xffff) as usize;
        let reply_bytes = ITEM_HEADER_BYTES + self.key_bytes.next_multiple_of(8) + value_bytes;
        self.activation.reply_bytes = reply_bytes.min(ITEM_BYTES_MAX) as u32;
        OK
    }

    /// `naam_read` at the current step.
    #[inline(always)]
    fn read(&mut self, region: (&str, u16), offset: u64, to: usize, length: usize) -> Result<(), Outcome> {
        if std::mem::replace(&mut self.completed, false) {
            return Ok(());
        }
        match self.turn.read(region.1, offset, &mut self.activation.memory[to..to + length]) {
            Issued::Done(0) => {}
            Issued::Done(_) => self.activation.memory[to..to + length].fill(0),
            Issued::Failed(failure) => return Err(Outcome::Failed(failure)),
            Issued::Suspend => {
                self.suspend([handle(region), offset, address(to), length as u64]);
                return Err(Outcome::Suspended);
            }
        }
        self.activation.note_written(to + length);
        Ok(())
    }

    #[inline(always)]
    fn suspend(&mut self, arguments: [u64; 4]) {
        self.activation.point = self.step as u32;
        let registers = &mut self.activation.registers;
        registers[1..5].copy_from_slice(&arguments);
        let packed = self.key_bytes as u64 | self.tag << 16 | u64::from(self.index) << 32;
        registers[STATE_REGISTER..STATE_REGISTER + 4].copy_from_slice(&[packed, self.bucket, self.at, self.word]);
    }
}

fn table_bytes(turn: &Turn<'_>) -> u64 {
    turn.regions().get(usize::from(TABLE.1)).map_or(0, |region| region.length_bytes())
}
