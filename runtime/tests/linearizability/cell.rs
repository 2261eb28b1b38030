//! Cell: one key is one register, which is written once, as there are neither updates nor deletes. So the hot keys give way to others
//! again and again. A scan is no snapshot: it reads each key that its page could have at some moment of its own.

#[path = "../../../testdata/handlers/cell_tree.rs"]
mod tree;

use crate::application::{Application, TORN};
use crate::checker::Action;
use std::collections::BTreeMap;
use std::ops::Range;
use tree::{Shape, Tree};

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const BUSY: i32 = 5;

/// Three records in a leaf: every other insert splits one.
const SHAPE: Shape = Shape { node_bytes: 512, value_bytes: 80 };
const RECORD_BYTES: usize = 8 + SHAPE.value_bytes;
/// Keys that are hot at a time: a set.
const HOT: u64 = 16;
/// Neighbours among them, which share leaves. Keys of other sets lie between them and the next ones.
const NEIGHBOURS: u64 = 4;
/// Sets that can be told apart.
const SETS_MAX: u64 = 1 << 16;
/// Records that a scan asks for: several leaves of them.
const SCANNED: usize = 12;

/// A tree, and the keys of a run.
pub struct Cell {
    /// Turns of each session until the next set is hot.
    turns_of_a_set: u64,
    /// All of them, ascending, each with the set that it belongs to.
    keys: Vec<(u64, u64)>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Lookup {
        key: u64,
    },
    Insert {
        key: u64,
        number: u64,
    },
    /// From a key on, while this set is hot.
    Scan {
        key: u64,
        set: u64,
    },
}

impl Cell {
    /// Keys for sessions of so many turns, of which a set is hot for so many.
    pub fn new(turns: u64, turns_of_a_set: u64) -> Cell {
        let sets = turns.div_ceil(turns_of_a_set);
        assert!(sets <= SETS_MAX, "there are no keys for {turns} turns");
        let mut keys: Vec<(u64, u64)> = (0..sets).flat_map(|set| (0..HOT).map(move |index| (key(set, index), set))).collect();
        keys.sort_unstable();
        Cell { turns_of_a_set, keys }
    }

    /// What a page says of each key that was in sets up to this one and that it could have.
    fn actions_of_page(&self, start: u64, set: u64, page: &[u8]) -> Vec<(u64, Action)> {
        let Some(Page { records, end }) = Page::parse(start, page) else { return vec![(start, Action::Read(Some(TORN)))] };
        let first = self.keys.partition_point(|(key, _)| *key < start);
        let could_have = self.keys[first..].iter().take_while(|(key, _)| end.is_none_or(|end| *key < end));
        let known = could_have.filter(|(_, of)| *of <= set).map(|(key, _)| (*key, Action::Read(None)));
        let mut actions: BTreeMap<u64, Action> = known.collect();
        actions.extend(records.into_iter().map(|(key, number)| (key, Action::Read(Some(number)))));
        actions.into_iter().collect()
    }
}

impl Application for Cell {
    type Request = Request;
    const NAME: &'static str = "cell";
    const CONSTANTS: &'static [(&'static str, u32)] =
        &[("node_bytes", SHAPE.node_bytes as u32), ("value_bytes", SHAPE.value_bytes as u32)];
    const REGIONS: &'static [(&'static str, u64)] = &[("tree", 16 << 20)];
    const READERS: &'static [(&'static str, Range<usize>)] = &[("lookup", 0..8), ("scan", 0..12)];

    fn draw(&self, random: &mut fastrand::Rng, is_writer: bool, number: u64, turn: u64) -> Request {
        let set = turn / self.turns_of_a_set;
        let hot = key(set, random.u64(..HOT));
        let earlier = key(random.u64(..=set), random.u64(..HOT));
        match random.u32(..10) {
            0..6 if is_writer => Request::Insert { key: hot, number },
            6 if is_writer => Request::Insert { key: earlier, number },
            0..5 => Request::Lookup { key: hot },
            5 | 6 => Request::Lookup { key: earlier },
            // It begins with the key itself or some keys before it.
            _ => Request::Scan { key: hot - random.u64(..NEIGHBOURS).min(hot), set },
        }
    }

    fn last(&self) -> Vec<Request> {
        self.keys.iter().map(|(key, _)| Request::Lookup { key: *key }).collect()
    }

    fn handler(&self, request: Request) -> &'static str {
        match request {
            Request::Lookup { .. } => "lookup",
            Request::Insert { .. } => "insert",
            Request::Scan { .. } => "scan",
        }
    }

    fn body(&self, request: Request) -> Vec<u8> {
        match request {
            Request::Lookup { key } => key.to_le_bytes().to_vec(),
            Request::Insert { key, number } => record(key, number),
            Request::Scan { key, .. } => [&key.to_le_bytes()[..], &(SCANNED as u32).to_le_bytes()].concat(),
        }
    }

    fn actions(&self, request: Request, result: i32, reply: &[u8]) -> Vec<(u64, Action)> {
        match (request, result) {
            (_, BUSY) => Vec::new(),
            (Request::Lookup { key }, OK) => {
                vec![(key, Action::Read(Some(number_in(reply).filter(|(of, _)| *of == key).map_or(TORN, |(_, number)| number))))]
            }
            (Request::Lookup { key }, ABSENT) => vec![(key, Action::Read(None))],
            (Request::Insert { key, number }, OK) => vec![(key, Action::Insert(number))],
            (Request::Insert { key, .. }, PRESENT) => vec![(key, Action::InsertRefused)],
            (Request::Scan { key, set }, OK) => self.actions_of_page(key, set, reply),
            other => panic!("{other:?}"),
        }
    }

    fn action_if_any(&self, request: Request) -> Option<(u64, Action)> {
        match request {
            Request::Insert { key, number } => Some((key, Action::Insert(number))),
            Request::Lookup { .. } | Request::Scan { .. } => None,
        }
    }

    fn check_regions(&self, content: &dyn Fn(&str) -> Vec<u8>) {
        let Tree { records, nodes, lost, .. } = Tree::read(&content("tree"), SHAPE);
        assert!(
            records.keys().all(|key| self.keys.binary_search_by_key(key, |(key, _)| *key).is_ok()),
            "a key that nobody inserted"
        );
        assert!(records.len() * 4 > self.keys.len() * 3 && nodes * 2 > records.len(), "hardly a tree node was split");
        assert_eq!(lost, 0, "a tree node is lost");
    }
}

/// A key of a set: sets that follow one another are far apart, as numbers are whose bits are in the opposite order.
fn key(set: u64, index: u64) -> u64 {
    let place = set.reverse_bits() >> (u64::BITS - SETS_MAX.ilog2());
    (index / NEIGHBOURS * SETS_MAX + place) * NEIGHBOURS + index % NEIGHBOURS
}

/// A record whose value follows from key and number.
fn record(key: u64, number: u64) -> Vec<u8> {
    let filler =
        (1..SHAPE.value_bytes as u64 / 8).map(|index| (key ^ number << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index << 56);
    [key, number].into_iter().chain(filler).flat_map(u64::to_le_bytes).collect()
}

/// The key and the number of a record, if it is a whole one.
fn number_in(bytes: &[u8]) -> Option<(u64, u64)> {
    let (key, number) = (word(bytes, 0)?, word(bytes, 8)?);
    (bytes == record(key, number)).then_some((key, number))
}

/// What a scan found.
struct Page {
    /// Keys and numbers.
    records: Vec<(u64, u64)>,
    /// The first key that could not be in it, if it does not go to the tree's end.
    end: Option<u64>,
}

impl Page {
    /// `None` if it is none: not sorted, or with a key that is not to be in it, or fewer records than were asked for though there are
    /// more, or a torn one.
    fn parse(start: u64, page: &[u8]) -> Option<Page> {
        let (next, sizes) = (word(page, 0)?, word(page, 8)?);
        let (count, has_more) = ((sizes & 0xffff_ffff) as usize, sizes >> 32 != 0);
        let records: Vec<(u64, u64)> = page[16..].chunks(RECORD_BYTES).map(number_in).collect::<Option<_>>()?;
        let end = has_more.then_some(next);
        let is_in = |key: u64| key >= start && end.is_none_or(|end| key < end);
        let is_sorted = records.is_sorted_by(|(before, _), (after, _)| before < after);
        let is_full = count == records.len() && if has_more { count == SCANNED } else { count <= SCANNED };
        (is_sorted && is_full && records.iter().all(|(key, _)| is_in(*key))).then_some(Page { records, end })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
