//! MICA: one key is one register.

#[allow(dead_code, reason = "nobody adds to a register")]
#[path = "../../../testdata/handlers/mica_table.rs"]
mod table;

use crate::application::{Application, TORN};
use crate::checker::Action;
use std::ops::Range;
use table::{Census, record};

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const BUSY: i32 = 5;

/// A table, and the keys that all requests go to: 1 to this.
pub struct Mica {
    pub keys: u64,
}

/// A request for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    key: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Get,
    Put(u64),
    Insert(u64),
    Delete,
}

impl Application for Mica {
    type Request = Request;
    const NAME: &'static str = "mica";
    const CONSTANTS: &'static [(&'static str, u32)] = &[];
    /// Few buckets, so that locks are contended and chains grow.
    const REGIONS: &'static [(&'static str, u64)] = &[("heap", 1 << 20), ("table", 4096 + 8 * 64)];
    const READERS: &'static [(&'static str, Range<usize>)] = &[("get", 8..16)];

    fn draw(&self, random: &mut fastrand::Rng, is_writer: bool, number: u64, _: u64) -> Request {
        let key = random.u64(1..=self.keys);
        let what = match random.u32(..10) {
            0..6 if is_writer => What::Put(number),
            6 if is_writer => What::Insert(number),
            7 if is_writer => What::Delete,
            _ => What::Get,
        };
        Request { key, what }
    }

    fn last(&self) -> Vec<Request> {
        (1..=self.keys).map(|key| Request { key, what: What::Get }).collect()
    }

    fn handler(&self, request: Request) -> &'static str {
        match request.what {
            What::Get => "get",
            What::Put(_) => "put",
            What::Insert(_) => "insert",
            What::Delete => "delete",
        }
    }

    fn body(&self, Request { key, what }: Request) -> Vec<u8> {
        match what {
            What::Put(number) | What::Insert(number) => record(key, &value(key, number)),
            What::Get | What::Delete => record(key, &[]),
        }
    }

    fn actions(&self, Request { key, what }: Request, result: i32, reply: &[u8]) -> Vec<(u64, Action)> {
        let action = match (what, result) {
            (_, BUSY) => return Vec::new(),
            (What::Get, OK) => Action::Read(Some(number_in(key, reply))),
            (What::Get, ABSENT) => Action::Read(None),
            (What::Put(number), OK) => Action::Put(number),
            (What::Insert(number), OK) => Action::Insert(number),
            (What::Insert(_), PRESENT) => Action::InsertRefused,
            (What::Delete, OK) => Action::Delete,
            (What::Delete, ABSENT) => Action::DeleteRefused,
            other => panic!("{other:?}"),
        };
        vec![(key, action)]
    }

    fn action_if_any(&self, Request { key, what }: Request) -> Option<(u64, Action)> {
        match what {
            What::Get => None,
            What::Put(number) => Some((key, Action::Put(number))),
            What::Insert(number) => Some((key, Action::Insert(number))),
            What::Delete => Some((key, Action::Delete)),
        }
    }

    /// What the table holds was read under every key.
    fn check_regions(&self, content: &dyn Fn(&str) -> Vec<u8>) {
        Census::take(&content("heap"), &content("table")).check_whole();
    }
}

/// A value of a length and with bytes that follow from its number.
fn value(key: u64, number: u64) -> Vec<u8> {
    let filler = (0..number % 90).map(|index| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 ^ key ^ (index * 7)) as u8);
    number.to_le_bytes().into_iter().chain(filler).collect()
}

/// The number of a record, if it is one whole record of this key.
fn number_in(key: u64, reply: &[u8]) -> u64 {
    let number = reply.get(16..24).map_or(TORN, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    if reply == record(key, &value(key, number)) { number } else { TORN }
}
