//! The handlers that write: a free block is filled, then one word commits it under the bucket's lock.

use super::Native;
use super::find::{CLASS_SHIFT, LINK_SHIFT, OWNER_SHIFT, Part, TAG_SHIFT, WORDS_SHIFT, block_offset, item_words};
use super::machine::{After, BODY, ITEM, Machine, Step};
use crate::mica::{
    ABSENT, ADD_HEADER_BYTES, BUCKET_BYTES, CLASSES, FULL, GROUP_EXTRAS_SHIFT, GROUPS, HEAP, HEAP_BYTES_MAX, HEAP_HEADER_BYTES,
    INVALID, ITEM_HEADER_BYTES, ITEM_WORDS_MAX, LIST_WORDS, LISTS, OK, PRESENT, TABLE, UNIT_SHIFT, class_of, class_units,
};
use naamc::interpreter::Outcome;

fn free_list(list: u32, class: u32) -> u64 {
    64 + u64::from(list % LISTS * LIST_WORDS + class) * 8
}

/// A free list's head, one turn later, with another block on top.
fn turned(head: u64, block: u64) -> u64 {
    ((head >> 32) + 1) << 32 | u64::from(block as u32)
}

impl Machine<'_, '_> {
    /// The rest of a handler that writes, from the current step on.
    pub fn write(&mut self, native: Native) -> Result<i32, Outcome> {
        loop {
            let ended = match self.state.step {
                Step::Bucket | Step::Item | Step::Chain => self.search(native)?,
                Step::Check | Step::CheckAbsent | Step::CheckInvalid | Step::CheckPresent => self.check()?,
                Step::GrowLock | Step::GrowUsed | Step::GrowSwap | Step::GrowLink | Step::GrowUnlock => self.grow()?,
                Step::PopHead | Step::PopNext | Step::PopSwap | Step::EndRead | Step::EndTake | Step::EndUndo => self.allocate()?,
                Step::WriteItem => self.write_item(native)?,
                Step::Lock | Step::Commit | Step::Unlock => self.commit(native)?,
                Step::ReleaseHead | Step::ReleaseLink | Step::ReleaseSwap => self.release()?,
            };
            if let Some(result) = ended {
                return Ok(result);
            }
        }
    }

    /// Searches, and decides what to do about what it found.
    fn search(&mut self, native: Native) -> Result<Option<i32>, Outcome> {
        let (to, part) = if native == Native::ReadModifyWrite { (ITEM, Part::Whole) } else { (ITEM, Part::Key) };
        let found = self.find(to, part)?;
        if native == Native::ReadModifyWrite {
            self.decide_add(found);
        } else if found && native == Native::Insert {
            self.state.step = Step::CheckPresent;
        } else if self.state.slot == 0 {
            // Nothing is held while the chain grows, so that nothing more can be lost with this executor.
            self.release_block_then(After::Grow);
        } else if self.state.block == 0 {
            self.begin_allocation();
        } else {
            self.state.step = Step::Lock;
        }
        Ok(None)
    }

    /// What a `read_modify_write` does about the record that it found.
    fn decide_add(&mut self, found: bool) {
        let offset = self.body_word(0) >> 16 & 0xffff;
        let value_bytes = self.word(ITEM) >> 16 & 0xffff;
        if !found {
            self.state.step = Step::CheckAbsent;
        } else if offset + 8 > value_bytes {
            self.state.step = Step::CheckInvalid;
        } else {
            self.state.words = item_words(self.state.item) as u32;
            let field = self.field();
            self.state.before = self.word(field);
            self.set_word(field, self.state.before.wrapping_add(self.body_word(1)));
            let block = self.state.block;
            if block != 0 && (block >> WORDS_SHIFT & 0xff) as u32 != self.state.words {
                self.release_block_then(After::Allocate);
            } else if block == 0 {
                self.begin_allocation();
            } else {
                self.state.step = Step::WriteItem;
            }
        }
    }

    /// Nothing is to be written, if the bucket is still as it was.
    fn check(&mut self) -> Result<Option<i32>, Outcome> {
        let result = match self.state.step {
            Step::CheckPresent => PRESENT,
            Step::CheckInvalid => INVALID,
            _ => ABSENT,
        };
        if !self.unchanged()? {
            self.state.step = Step::Bucket;
            return Ok(None);
        }
        if self.state.block == 0 {
            return Ok(Some(result));
        }
        self.release_block_then(After::Finish(result));
        Ok(None)
    }

    /// Adds an extra bucket to the end of the chain.
    fn grow(&mut self) -> Result<Option<i32>, Outcome> {
        match self.state.step {
            Step::GrowLock => {
                if self.group() >= GROUPS {
                    return Ok(Some(FULL));
                }
                self.state.step = if self.lock()? { Step::GrowUsed } else { Step::Bucket };
            }
            Step::GrowUsed => {
                self.state.head = self.read_word(TABLE, self.group() * 8)?;
                self.choose_extra();
            }
            Step::GrowSwap => {
                let (used, counter) = (self.state.head, self.group() * 8);
                let old = self.compare_swap(TABLE, counter, used, used + 1)?;
                if old == used {
                    self.state.next = (used + 1) << LINK_SHIFT;
                    self.state.step = if self.state.last == self.state.bucket { Step::GrowUnlock } else { Step::GrowLink };
                } else {
                    self.state.head = old;
                    self.choose_extra();
                }
            }
            Step::GrowLink => {
                self.write_word(TABLE, self.state.last, self.state.next)?;
                self.state.step = Step::GrowUnlock;
            }
            _ => {
                let link = if self.state.last == self.state.bucket { self.state.next } else { 0 };
                self.unlock(self.state.word | link)?;
                if self.state.next == 0 {
                    return Ok(Some(FULL));
                }
                self.state.step = Step::Bucket;
            }
        }
        Ok(None)
    }

    /// Whether there is room for another extra bucket decides how growing goes on.
    fn choose_extra(&mut self) {
        let used = self.state.head;
        let last = self.length_bytes(TABLE).wrapping_sub(BUCKET_BYTES);
        let room = used < 1 << GROUP_EXTRAS_SHIFT && self.extra_bucket(used + 1) <= last;
        self.state.next = 0;
        self.state.step = if room { Step::GrowSwap } else { Step::GrowUnlock };
    }

    fn begin_allocation(&mut self) {
        self.look_for(self.own_class(), false);
    }

    /// The class that fits the record.
    fn own_class(&self) -> u32 {
        class_of(self.state.words.div_ceil(2))
    }

    /// Looks for a block of a class: in any list, or only in the tag's.
    fn look_for(&mut self, class: u32, any: bool) {
        (self.state.class, self.state.takes_any) = (class, any);
        (self.state.list, self.state.lists_left) = (u32::from(self.state.tag) % LISTS, LISTS);
        self.state.step = Step::PopHead;
    }

    /// Takes a block: from a free list of its class, else from the heap's untouched end, else from any list, of larger ones at last.
    fn allocate(&mut self) -> Result<Option<i32>, Outcome> {
        match self.state.step {
            Step::PopHead => {
                self.state.head = self.read_word(HEAP, free_list(self.state.list, self.state.class))?;
                return Ok(self.look_at_head());
            }
            Step::PopNext => {
                self.state.next = self.read_word(HEAP, block_offset(self.state.head))?;
                self.state.step = Step::PopSwap;
            }
            Step::PopSwap => {
                let head = self.state.head;
                let old =
                    self.compare_swap(HEAP, free_list(self.state.list, self.state.class), head, turned(head, self.state.next))?;
                if old == head {
                    self.take_block(head);
                } else {
                    self.state.head = old;
                    return Ok(self.look_at_head());
                }
            }
            Step::EndRead => {
                let used = self.read_word(HEAP, 0)?;
                if self.has_room(used) {
                    self.state.step = Step::EndTake;
                } else {
                    self.look_for(self.state.class, true);
                }
            }
            Step::EndTake => {
                let used = self.fetch_add(HEAP, 0, self.units())?;
                if self.has_room(used) {
                    self.take_block((HEAP_HEADER_BYTES >> UNIT_SHIFT) + used);
                } else {
                    self.state.step = Step::EndUndo;
                }
            }
            _ => {
                // Others were quicker.
                self.fetch_add(HEAP, 0, self.units().wrapping_neg())?;
                self.look_for(self.state.class, true);
            }
        }
        Ok(None)
    }

    /// Units of a block of the class.
    fn units(&self) -> u64 {
        class_units(self.state.class).into()
    }

    /// Whether the heap's untouched end has room for a block when so many units are handed out.
    fn has_room(&self, used: u64) -> bool {
        let units = self.length_bytes(HEAP).min(HEAP_BYTES_MAX) >> UNIT_SHIFT;
        used <= units && (HEAP_HEADER_BYTES >> UNIT_SHIFT) + used + self.units() <= units
    }

    /// Takes the first block of a list, or goes on to where there may be another.
    fn look_at_head(&mut self) -> Option<i32> {
        if self.state.head as u32 != 0 {
            self.state.step = Step::PopNext;
            return None;
        }
        if !self.state.takes_any {
            self.state.step = Step::EndRead;
            return None;
        }
        self.state.list = (self.state.list + 1) % LISTS;
        self.state.lists_left -= 1;
        self.state.step = Step::PopHead;
        if self.state.lists_left == 0 {
            self.look_for(self.state.class + 1, true);
        }
        (self.state.class == CLASSES).then_some(FULL)
    }

    fn take_block(&mut self, block: u64) {
        self.state.block = u64::from(self.state.tag) << TAG_SHIFT
            | u64::from(self.state.words) << WORDS_SHIFT
            | u64::from(self.state.class) << CLASS_SHIFT
            | u64::from(block as u32);
        self.state.step = Step::WriteItem;
    }

    /// Fills the block: with the message, or with the record that was found and changed.
    fn write_item(&mut self, native: Native) -> Result<Option<i32>, Outcome> {
        let to = block_offset(self.state.block);
        let length = self.state.words as usize * 8;
        if native == Native::ReadModifyWrite {
            self.write_bytes(HEAP, to, ITEM, length)?;
        } else {
            self.write_bytes(HEAP, to, BODY, length)?;
        }
        self.state.step = Step::Lock;
        Ok(None)
    }

    /// Where the field of a `read_modify_write` lies in the activation's memory.
    fn field(&self) -> usize {
        let offset = self.body_word(0) >> 16 & 0xffff;
        let field = (self.state.key_words() + offset / 8).min(ITEM_WORDS_MAX - 2);
        ITEM + ITEM_HEADER_BYTES + field as usize * 8
    }

    /// Replaces the item word, under the bucket's lock.
    fn commit(&mut self, native: Native) -> Result<Option<i32>, Outcome> {
        match self.state.step {
            Step::Lock => {
                self.state.step = if self.lock()? { Step::Commit } else { Step::Bucket };
            }
            Step::Commit => {
                self.write_word(TABLE, self.state.slot, self.state.block)?;
                self.state.step = Step::Unlock;
            }
            _ => {
                self.unlock(self.state.word)?;
                if native == Native::ReadModifyWrite {
                    self.activation.reply_bytes = ADD_HEADER_BYTES as u32;
                    let header = self.body_word(0);
                    self.set_word(BODY, header & 0xffff_ffff);
                    self.set_word(BODY + 8, self.state.before);
                }
                if self.state.item == 0 {
                    return Ok(Some(OK));
                }
                self.state.block = self.state.item;
                self.release_block_then(After::Finish(OK));
            }
        }
        Ok(None)
    }

    /// Locks the bucket if nobody has written to it since the search.
    fn lock(&mut self) -> Result<bool, Outcome> {
        self.turn.claim().map_err(Outcome::Failed)?;
        let word = self.state.word;
        let locked = (word + 1) | u64::from(self.turn.executor as u16) << OWNER_SHIFT;
        Ok(self.compare_swap(TABLE, self.state.bucket, word, locked)? == word)
    }

    /// Makes the version even again, the next one.
    fn unlock(&mut self, word: u64) -> Result<(), Outcome> {
        let next = word & !0xffff_ffff | u64::from((word as u32).wrapping_add(2));
        self.write_word(TABLE, self.state.bucket, next)
    }

    /// Gives back the block that this message holds, then goes on. Only one that wants its chain to grow may hold none.
    fn release_block_then(&mut self, after: After) {
        self.state.after = after;
        self.state.list = (self.state.block >> TAG_SHIFT) as u32 % LISTS;
        self.state.step = if self.state.block == 0 { Step::GrowLock } else { Step::ReleaseHead };
    }

    /// Gives a block back to a free list of its class.
    fn release(&mut self) -> Result<Option<i32>, Outcome> {
        let block = self.state.block;
        let list = free_list(self.state.list, (block >> CLASS_SHIFT & 0xff) as u32);
        match self.state.step {
            Step::ReleaseHead => {
                self.state.head = self.read_word(HEAP, list)?;
                self.state.step = Step::ReleaseLink;
            }
            Step::ReleaseLink => {
                self.write_word(HEAP, block_offset(block), u64::from(self.state.head as u32))?;
                self.state.step = Step::ReleaseSwap;
            }
            _ => {
                let head = self.state.head;
                let old = self.compare_swap(HEAP, list, head, turned(head, block))?;
                if old != head {
                    (self.state.head, self.state.step) = (old, Step::ReleaseLink);
                    return Ok(None);
                }
                self.state.block = 0;
                match self.state.after {
                    After::Finish(result) => return Ok(Some(result)),
                    After::Grow => self.state.step = Step::GrowLock,
                    After::Allocate => self.begin_allocation(),
                }
            }
        }
        Ok(None)
    }
}
