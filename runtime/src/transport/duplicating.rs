//! A link that misbehaves where a network may: it delivers some messages again, later, and so behind others. For tests of ownership.
//!
//! What is sent through it is untouched. Wrapped around an executor's end it duplicates requests, around a client's end replies.

use super::{Broken, Link, WaitFor};
use crate::message::HeaderWords;
use naamc::abi::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// Copies that wait to be delivered at most.
const COPIES_MAX: usize = 64;

/// A link that delivers messages more than once.
#[derive(Debug)]
pub struct Duplicating<L> {
    link: L,
    /// Of 256 messages, how many are delivered again.
    share: u8,
    random: u64,
    copies: VecDeque<(HeaderWords, Vec<u8>)>,
    /// Whether the message that `next` returned is the first of `copies`.
    repeated: bool,
    /// Whether `next` has returned a message that was not taken yet: it must return the same again.
    shown: bool,
    /// Copies delivered so far.
    duplicates: u64,
}

impl<L: Link> Duplicating<L> {
    /// Delivers `share` of 256 messages again, and copies of copies likewise. The same seed makes the same choices.
    pub fn new(link: L, share: u8, seed: u64) -> Duplicating<L> {
        Duplicating { link, share, random: seed, copies: VecDeque::new(), repeated: false, shown: false, duplicates: 0 }
    }

    /// Copies delivered so far.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self) -> bool {
        (self.random() & 0xff) < u64::from(self.share)
    }
}

impl<L: Link> Link for Duplicating<L> {
    fn next(&mut self) -> Result<Option<HeaderWords>, Broken> {
        if !self.shown {
            let is_real = self.link.next()?.is_some();
            // A copy is delivered when nothing else is there, or by chance before what is.
            self.repeated = !self.copies.is_empty() && (!is_real || self.random() & 3 == 0);
            self.shown = self.repeated || is_real;
        }
        match self.copies.front() {
            Some((header, _)) if self.repeated => Ok(Some(*header)),
            _ => self.link.next(),
        }
    }

    fn copy(&mut self, offset: usize, destination: &mut [u8]) {
        match self.copies.front() {
            Some((_, bytes)) if self.repeated => {
                let source = bytes.get(offset..).unwrap_or(&[]);
                let there = source.len().min(destination.len());
                destination[..there].copy_from_slice(&source[..there]);
                destination[there..].fill(0);
            }
            _ => self.link.copy(offset, destination),
        }
    }

    fn advance(&mut self) {
        self.shown = false;
        let again = self.chance() && self.copies.len() < COPIES_MAX;
        if self.repeated {
            self.repeated = false;
            self.duplicates += 1;
            if let Some(copy) = self.copies.pop_front()
                && again
            {
                self.copies.push_back(copy);
            }
            return;
        }
        if again && let Ok(Some(header)) = self.link.next() {
            let length = (header.length_field() as usize).clamp(HEADER_BYTES, MESSAGE_BYTES_MAX);
            let mut bytes = vec![0; length - HEADER_BYTES];
            self.link.copy(0, &mut bytes);
            self.copies.push_back((header, bytes));
        }
        self.link.advance();
    }

    fn room_bytes(&mut self, wanted: usize) -> Result<usize, Broken> {
        self.link.room_bytes(wanted)
    }

    fn capacity_bytes(&self) -> usize {
        self.link.capacity_bytes()
    }

    fn send(&mut self, header: &HeaderWords, body: &[u8], continuation: &[u8]) {
        self.link.send(header, body, continuation);
    }

    fn flush(&mut self) {
        self.link.flush();
    }

    fn arm(&mut self, wait_for: WaitFor) -> Result<bool, Broken> {
        Ok(self.copies.is_empty() && self.link.arm(wait_for)?)
    }

    fn disarm(&mut self) -> Result<(), Broken> {
        self.link.disarm()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.link.descriptor()
    }
}
