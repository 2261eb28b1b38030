//! UDMA calls of native programs, and what of a program survives a suspension.

use naamc::abi::{Helper, STACK_BYTES, address};
use naamc::activation::Activation;
use naamc::interpreter::{Failure, Issued, Outcome};
use runtime::engine::Turn;

/// Where the message lies in the activation's memory.
pub const BODY: usize = STACK_BYTES;
/// Where the bucket lies that is being searched, in the activation's memory: next to the message, where compiled handlers have it too.
pub const BUCKET: usize = STACK_BYTES - 64;
/// Where a word lies that is read, written or swapped.
pub const WORD: usize = STACK_BYTES - 128;
/// Where a record lies that is read beside the message.
pub const ITEM: usize = STACK_BYTES - 1280;
/// Where a tree node lies that is read.
pub const NODE: usize = STACK_BYTES - 128 - 2048;
/// First of the registers that hold a [`State`] while suspended.
pub const STATE_REGISTER: usize = 6;
/// First of the registers that hold the key's words.
pub const KEY_REGISTER: usize = 24;

/// Where a program stands: before this UDMA call. The values are its suspension points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    Bucket,
    Item,
    Chain,
    Check,
    CheckAbsent,
    CheckInvalid,
    CheckPresent,
    GrowLock,
    GrowUsed,
    GrowSwap,
    GrowLink,
    GrowUnlock,
    PopHead,
    PopNext,
    PopSwap,
    EndRead,
    EndTake,
    EndUndo,
    WriteItem,
    Lock,
    Commit,
    Unlock,
    ReleaseHead,
    ReleaseLink,
    ReleaseSwap,
}

impl Step {
    /// All steps by their numbers, each with the call that it stands before.
    pub const ALL: [(Step, Helper); 25] = [
        (Step::Bucket, Helper::Read),
        (Step::Item, Helper::Read),
        (Step::Chain, Helper::Read),
        (Step::Check, Helper::Read),
        (Step::CheckAbsent, Helper::Read),
        (Step::CheckInvalid, Helper::Read),
        (Step::CheckPresent, Helper::Read),
        (Step::GrowLock, Helper::CompareSwap),
        (Step::GrowUsed, Helper::Read),
        (Step::GrowSwap, Helper::CompareSwap),
        (Step::GrowLink, Helper::Write),
        (Step::GrowUnlock, Helper::Write),
        (Step::PopHead, Helper::Read),
        (Step::PopNext, Helper::Read),
        (Step::PopSwap, Helper::CompareSwap),
        (Step::EndRead, Helper::Read),
        (Step::EndTake, Helper::FetchAdd),
        (Step::EndUndo, Helper::FetchAdd),
        (Step::WriteItem, Helper::Write),
        (Step::Lock, Helper::CompareSwap),
        (Step::Commit, Helper::Write),
        (Step::Unlock, Helper::Write),
        (Step::ReleaseHead, Helper::Read),
        (Step::ReleaseLink, Helper::Write),
        (Step::ReleaseSwap, Helper::CompareSwap),
    ];
}

/// What happens after a block was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The message ends with this result.
    Finish(i32),
    /// The chain grows.
    Grow,
    /// A block of another size is taken.
    Allocate,
}

/// A program's variables, by the names that `mica.c` gives them.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// The next UDMA call.
    pub step: Step,
    /// Bytes of the key.
    pub key_bytes: u32,
    /// Its tag.
    pub tag: u16,
    /// Offset of its main bucket.
    pub bucket: u64,
    /// Offset of the bucket that is being searched.
    pub at: u64,
    /// Next item word to look at.
    pub index: u32,
    /// The main bucket's word when the search began.
    pub word: u64,
    /// Offset of the key's item word, else of the first free one, else 0.
    pub slot: u64,
    /// The key's item word, else 0.
    pub item: u64,
    /// Offset of the chain's last bucket.
    pub last: u64,
    /// The block that was taken, as an item word, or 0.
    pub block: u64,
    /// Words of the record that is written.
    pub words: u32,
    /// Size class that is being asked for a block.
    pub class: u32,
    /// Free list that is being looked at.
    pub list: u32,
    /// Lists that are still to be looked at.
    pub lists_left: u32,
    /// Whether blocks are taken from whichever list has one.
    pub takes_any: bool,
    /// Head of a free list, or a counter, when it was read.
    pub head: u64,
    /// The word that replaces it.
    pub next: u64,
    /// The field of a `read_modify_write` as it was.
    pub before: u64,
    /// What comes after a release.
    pub after: After,
}

impl State {
    const EMPTY: State = State {
        step: Step::Bucket,
        key_bytes: 0,
        tag: 0,
        bucket: 0,
        at: 0,
        index: 0,
        word: 0,
        slot: 0,
        item: 0,
        last: 0,
        block: 0,
        words: 0,
        class: 0,
        list: 0,
        lists_left: 0,
        takes_any: false,
        head: 0,
        next: 0,
        before: 0,
        after: After::Grow,
    };

    /// Words of the key.
    pub fn key_words(&self) -> u64 {
        u64::from(self.key_bytes.div_ceil(8))
    }
}

/// A word of an activation's memory.
#[inline(always)]
pub fn word_at(activation: &Activation, at: usize) -> u64 {
    activation.memory[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A program that writes, at work on one message.
pub struct Machine<'m, 't> {
    /// The message.
    pub activation: &'m mut Activation,
    /// Its turn.
    pub turn: &'m mut Turn<'t>,
    /// Its variables.
    pub state: State,
}

impl<'m, 't> Machine<'m, 't> {
    /// A program that has not begun.
    #[inline]
    pub fn new(activation: &'m mut Activation, turn: &'m mut Turn<'t>) -> Self {
        Machine { activation, turn, state: State::EMPTY }
    }

    /// Takes up the variables of a suspended program.
    #[inline(always)]
    pub fn restore(&mut self) {
        let registers = &self.activation.registers;
        let at = |index: usize| registers[STATE_REGISTER + index];
        self.state.step = Step::ALL[self.activation.point as usize % Step::ALL.len()].0;
        self.state.key_bytes = at(0) as u32;
        self.state.tag = (at(0) >> 32) as u16;
        self.state.index = (at(0) >> 48) as u32;
        self.state.bucket = at(1);
        self.state.at = at(2);
        self.state.word = at(3);
        self.state.slot = at(4);
        self.state.item = at(5);
        self.state.last = at(6);
        self.state.block = at(7);
        self.state.words = at(8) as u32;
        self.state.class = u32::from((at(8) >> 32) as u8);
        self.state.list = u32::from((at(8) >> 40) as u8);
        self.state.lists_left = u32::from((at(8) >> 48) as u8);
        self.state.takes_any = at(8) >> 56 != 0;
        self.state.head = at(9);
        self.state.next = at(10);
        self.state.before = at(11);
        self.state.after = match at(12) {
            0 => After::Grow,
            1 => After::Allocate,
            result => After::Finish((result - 2) as i32),
        };
    }

    #[inline(always)]
    fn suspend(&mut self, arguments: [u64; 5]) -> Outcome {
        let state = self.state;
        self.activation.point = state.step as u32;
        let registers = &mut self.activation.registers;
        registers[1..6].copy_from_slice(&arguments);
        let after = match state.after {
            After::Grow => 0,
            After::Allocate => 1,
            After::Finish(result) => result as u64 + 2,
        };
        registers[STATE_REGISTER..STATE_REGISTER + 13].copy_from_slice(&[
            u64::from(state.key_bytes) | u64::from(state.tag) << 32 | u64::from(state.index) << 48,
            state.bucket,
            state.at,
            state.word,
            state.slot,
            state.item,
            state.last,
            state.block,
            u64::from(state.words)
                | u64::from(state.class) << 32
                | u64::from(state.list) << 40
                | u64::from(state.lists_left) << 48
                | u64::from(state.takes_any) << 56,
            state.head,
            state.next,
            state.before,
            after,
        ]);
        Outcome::Suspended
    }

    /// The key's words.
    #[inline]
    pub fn key(&self) -> &[u64] {
        &self.activation.registers[KEY_REGISTER..KEY_REGISTER + self.state.key_words() as usize]
    }

    /// A word of the activation's memory.
    #[inline]
    pub fn word(&self, at: usize) -> u64 {
        word_at(self.activation, at)
    }

    /// Sets a word of the activation's memory.
    #[inline]
    pub fn set_word(&mut self, at: usize, word: u64) {
        self.activation.note_written(at + 8);
        self.activation.memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// A word of the body.
    #[inline]
    pub fn body_word(&self, index: usize) -> u64 {
        self.word(BODY + index * 8)
    }

    /// `naam_length`.
    #[inline]
    pub fn length_bytes(&self, region: (&str, u16)) -> u64 {
        self.turn.regions().get(usize::from(region.1)).map_or(0, |region| region.length_bytes())
    }

    /// `naam_read` into the activation's memory, at the current step.
    #[inline(always)]
    pub fn read(&mut self, region: (&str, u16), offset: u64, to: usize, length: usize) -> Result<(), Outcome> {
        let arguments = [handle(region), offset, address(to), length as u64, 0];
        let issued = match self.completed() {
            Some(completion) => Issued::Done(completion),
            None => {
                self.take_fuel()?;
                self.activation.note_written(to + length);
                self.turn.read(region.1, offset, &mut self.activation.memory[to..to + length])
            }
        };
        if self.done(issued, arguments)? != 0 {
            self.activation.memory[to..to + length].fill(0);
        }
        Ok(())
    }

    /// `naam_write` from the activation's memory, at the current step.
    #[inline(always)]
    pub fn write_bytes(&mut self, region: (&str, u16), offset: u64, from: usize, length: usize) -> Result<(), Outcome> {
        let arguments = [handle(region), offset, address(from), length as u64, 0];
        let issued = match self.completed() {
            Some(completion) => Issued::Done(completion),
            None => {
                self.take_fuel()?;
                self.turn.write(region.1, offset, &self.activation.memory[from..from + length])
            }
        };
        self.done(issued, arguments).map(|_| ())
    }

    /// `naam_read` of a word.
    #[inline(always)]
    pub fn read_word(&mut self, region: (&str, u16), offset: u64) -> Result<u64, Outcome> {
        self.read(region, offset, WORD, 8)?;
        Ok(self.word(WORD))
    }

    /// `naam_write` of a word.
    #[inline(always)]
    pub fn write_word(&mut self, region: (&str, u16), offset: u64, word: u64) -> Result<(), Outcome> {
        self.set_word(WORD, word);
        self.write_bytes(region, offset, WORD, 8)
    }

    /// `naam_compare_swap`: the old value.
    pub fn compare_swap(&mut self, region: (&str, u16), offset: u64, expected: u64, desired: u64) -> Result<u64, Outcome> {
        let arguments = [handle(region), offset, expected, desired, address(WORD)];
        self.atomic(arguments, |turn, old| turn.compare_swap(region.1, offset, expected, desired, old))
    }

    /// `naam_fetch_add`: the old value.
    pub fn fetch_add(&mut self, region: (&str, u16), offset: u64, addend: u64) -> Result<u64, Outcome> {
        let arguments = [handle(region), offset, addend, address(WORD), 0];
        self.atomic(arguments, |turn, old| turn.fetch_add(region.1, offset, addend, old))
    }

    /// An atomic at the current step: the old value.
    fn atomic(&mut self, arguments: [u64; 5], execute: impl FnOnce(&mut Turn<'t>, &mut u64) -> Issued) -> Result<u64, Outcome> {
        let mut old = 0;
        let issued = match self.completed() {
            Some(completion) => {
                old = self.word(WORD);
                Issued::Done(completion)
            }
            None => {
                self.take_fuel()?;
                execute(self.turn, &mut old)
            }
        };
        let completion = self.done(issued, arguments)?;
        Ok(if completion == 0 { old } else { 0 })
    }

    /// The completion of the call at this step, if a backend performed it while the program was suspended.
    #[inline]
    fn completed(&mut self) -> Option<i64> {
        if self.activation.completed == 0 {
            return None;
        }
        self.activation.completed = 0;
        Some(self.activation.completion)
    }

    #[inline]
    fn take_fuel(&mut self) -> Result<(), Outcome> {
        if self.activation.udma_operations_left == 0 {
            return Err(Outcome::Failed(Failure::UdmaOperationsExhausted));
        }
        Ok(())
    }

    #[inline]
    fn done(&mut self, issued: Issued, arguments: [u64; 5]) -> Result<i64, Outcome> {
        match issued {
            Issued::Done(completion) => {
                self.activation.udma_operations_left = self.activation.udma_operations_left.saturating_sub(1);
                self.activation.udma_operations += 1;
                Ok(completion)
            }
            Issued::Suspend => Err(self.suspend(arguments)),
            Issued::Failed(failure) => Err(Outcome::Failed(failure)),
        }
    }
}

/// A region's handle, as registers hold it.
pub fn handle(region: (&str, u16)) -> u64 {
    address::REGION_START + u64::from(region.1)
}

/// The canonical address of a place in the activation's memory.
pub fn address(at: usize) -> u64 {
    address::STACK_START + at as u64
}
