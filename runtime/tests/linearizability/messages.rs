//! MICA's messages as a register's operations: one key is one register.

use crate::checker::Action;

/// Keys that all messages go to, 1 to this.
pub const KEYS: u64 = 16;

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const BUSY: i32 = 5;

/// A request for a key; values are numbers that no other request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Get,
    Put(u64),
    Insert(u64),
    Delete,
}

impl Request {
    pub fn handler(self) -> &'static str {
        match self {
            Request::Get => "get",
            Request::Put(_) => "put",
            Request::Insert(_) => "insert",
            Request::Delete => "delete",
        }
    }

    pub fn body(self, key: u64) -> Vec<u8> {
        match self {
            Request::Put(number) | Request::Insert(number) => record(key, &value(key, number)),
            Request::Get | Request::Delete => record(key, &[]),
        }
    }

    /// What it did, by its answer; `None` if it did nothing and says nothing.
    ///
    /// # Panics
    /// If no handler answers like that: a record that nobody wrote, or another result.
    pub fn action(self, key: u64, result: i32, reply: &[u8]) -> Option<Action> {
        Some(match (self, result) {
            (_, BUSY) => return None,
            (Request::Get, OK) => Action::Read(Some(number_in(key, reply))),
            (Request::Get, ABSENT) => Action::Read(None),
            (Request::Put(number), OK) => Action::Put(number),
            (Request::Insert(number), OK) => Action::Insert(number),
            (Request::Insert(_), PRESENT) => Action::InsertRefused,
            (Request::Delete, OK) => Action::Delete,
            (Request::Delete, ABSENT) => Action::DeleteRefused,
            other => panic!("{other:?}"),
        })
    }

    /// What it may have done, if nobody knows.
    pub fn action_if_any(self) -> Option<Action> {
        match self {
            Request::Get => None,
            Request::Put(number) => Some(Action::Put(number)),
            Request::Insert(number) => Some(Action::Insert(number)),
            Request::Delete => Some(Action::Delete),
        }
    }
}

/// Not the number of any write: what a torn record says.
pub const TORN: u64 = u64::MAX;

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

fn record(key: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0];
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key.to_le_bytes());
    bytes.extend(value);
    bytes
}
