//! Cell: a sorted map of records.

use super::harness::{EXECUTOR, Handlers, JOURNEYS, Journey, Random, Surroundings};
use super::tree::{Shape, Tree};
use naamc::activation::Activation;
use naamc::interpreter::{Environment, Failure, Issued, Udma};
use naamc::memory::RegionMemory;
use std::collections::BTreeMap;

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const FULL: i32 = 3;
const INVALID: i32 = 4;

/// Bytes before the first tree node.
const HEADER_BYTES: usize = 4096;

/// Three records in a leaf and 17 children in an inner node: as many splits as there can be.
const SMALL: Shape = Shape { node_bytes: 512, value_bytes: 80 };
/// The handlers' own.
const DEFAULT: Shape = Shape { node_bytes: 1024, value_bytes: 64 };
/// Directories of two lines.
const LARGE: Shape = Shape { node_bytes: 2048, value_bytes: 8 };

fn load(shape: Shape) -> Handlers {
    Handlers::load("cell", &[("node_bytes", shape.node_bytes as u32), ("value_bytes", shape.value_bytes as u32)])
}

/// A region of zeros with room for so many tree nodes.
fn empty_tree(shape: Shape, nodes: usize) -> Surroundings {
    let region = RegionMemory::new(vec![0; HEADER_BYTES + (nodes * shape.node_bytes).max(2048)]);
    Surroundings { regions: vec![region], executor: EXECUTOR, operations_left: 0 }
}

/// The value with this number under a key: no two are alike in any word.
fn value(shape: Shape, key: u64, number: u64) -> Vec<u8> {
    let words = (0..shape.value_bytes as u64 / 8).map(|index| key.rotate_left(17) ^ (number << 32) ^ ((index + 1) * 0x9E37_79B9));
    words.flat_map(u64::to_le_bytes).collect()
}

fn record(key: u64, value: &[u8]) -> Vec<u8> {
    [&key.to_le_bytes()[..], value].concat()
}

/// A request for a page.
fn wanted(key: u64, count: u32) -> Vec<u8> {
    [&key.to_le_bytes()[..], &count.to_le_bytes()].concat()
}

/// A reply of `scan`.
struct Page {
    next: u64,
    more: bool,
    records: Vec<(u64, Vec<u8>)>,
}

impl Page {
    fn parse(shape: Shape, reply: &[u8]) -> Page {
        let word = |at: usize| u64::from_le_bytes(reply[at..at + 8].try_into().expect("eight bytes"));
        let (count, records) = (word(8) as u32 as usize, &reply[16..]);
        assert_eq!(records.len(), count * (8 + shape.value_bytes));
        let parse = |bytes: &[u8]| (u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")), bytes[8..].to_vec());
        Page { next: word(0), more: word(8) >> 32 == 1, records: records.chunks(8 + shape.value_bytes).map(parse).collect() }
    }
}

fn region(surroundings: &Surroundings) -> &[u8] {
    surroundings.regions[0].bytes()
}

/// Keys in clusters, at both ends of all numbers, and in between.
fn draw_key(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.below(400),
        1 => u64::MAX - random.below(100),
        _ => random.below(300) << 40 | random.below(4),
    }
}

/// One by one, requests give what a sorted map would, in trees of every shape, and the tree is whole afterwards.
#[test]
fn cell_is_a_sorted_map() {
    for (shape, requests) in [(SMALL, 6000), (DEFAULT, 3000), (LARGE, 8000)] {
        for journey in JOURNEYS {
            let cell = load(shape);
            let mut surroundings = empty_tree(shape, 4000);
            let mut random = Random(0x1234_5678_9abc_def1);
            let mut records: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let (mut hits, mut pages) = (0, 0);
            for number in 0..requests {
                let key = draw_key(&mut random);
                let mut call = |handler: &str, request: &[u8]| cell.call(handler, request, &mut surroundings, journey);
                match random.below(8) {
                    0..4 => {
                        let new = value(shape, key, number);
                        let (result, reply) = call("insert", &record(key, &new));
                        assert!(reply.is_empty());
                        assert_eq!(result, if records.contains_key(&key) { PRESENT } else { OK }, "insert {key:#x}");
                        records.entry(key).or_insert(new);
                    }
                    4..7 => {
                        let (result, reply) = call("lookup", &key.to_le_bytes());
                        match records.get(&key) {
                            Some(value) => assert_eq!((result, reply), (OK, record(key, value)), "lookup {key:#x}"),
                            None => assert_eq!((result, reply.len()), (ABSENT, 0), "lookup {key:#x}"),
                        }
                        hits += u32::from(result == OK);
                    }
                    _ => {
                        let count = random.below(130) as u32;
                        let (result, reply) = call("scan", &wanted(key, count));
                        let page = Page::parse(shape, &reply);
                        let fit = (count as usize).min(4096 / (8 + shape.value_bytes));
                        let mut expected = records.range(key..).map(|(key, value)| (*key, value.clone()));
                        assert_eq!((result, page.records), (OK, expected.by_ref().take(fit).collect()), "scan {key:#x} {count}");
                        match expected.next() {
                            Some((next, _)) => assert!(page.more && (page.next..=next).contains(&next)),
                            None => assert!(!page.more || fit > 0),
                        }
                        pages += 1;
                    }
                }
            }
            let tree = Tree::read(region(&surroundings), shape);
            assert!(tree.records == records && tree.unknown == 0 && tree.lost == 0, "{tree:?}");
            assert!(
                hits > 100 && pages > 100 && tree.levels >= if shape == SMALL { 4 } else { 2 },
                "{hits} hits in {} levels",
                tree.levels
            );
        }
    }
}

/// Pages follow one another without a gap, whatever their size, to the end of the tree.
#[test]
fn pages_make_up_the_whole_tree() {
    let cell = load(SMALL);
    let mut surroundings = empty_tree(SMALL, 400);
    for key in (0..500).rev() {
        let request = record(key * 7, &value(SMALL, key * 7, 0));
        assert_eq!(cell.call("insert", &request, &mut surroundings, Journey::Through).0, OK);
    }
    for count in [1, 7, 46, 1000] {
        let (mut key, mut keys) = (0, Vec::new());
        loop {
            let (result, reply) = cell.call("scan", &wanted(key, count), &mut surroundings, Journey::Suspended);
            let page = Page::parse(SMALL, &reply);
            assert!(result == OK && page.records.len() <= 46);
            keys.extend(page.records.iter().map(|(key, _)| *key));
            if !page.more {
                break;
            }
            key = page.next;
        }
        assert!(keys.iter().copied().eq((0..500).map(|key| key * 7)), "pages of {count}");
    }
}

/// A full tree says so, keeps all that it has, and holds on to no node.
#[test]
fn a_full_tree_refuses_and_keeps_what_it_has() {
    let cell = load(SMALL);
    let mut surroundings = empty_tree(SMALL, 60);
    let mut random = Random(77);
    let (mut records, mut full) = (BTreeMap::new(), 0);
    for number in 0..2000 {
        let key = random.below(10_000);
        let new = value(SMALL, key, number);
        match cell.call("insert", &record(key, &new), &mut surroundings, Journey::Moved).0 {
            OK => assert!(records.insert(key, new).is_none()),
            PRESENT => assert!(records.contains_key(&key)),
            FULL => full += 1,
            other => panic!("insert says {other}"),
        }
    }
    let tree = Tree::read(region(&surroundings), SMALL);
    assert!(full > 100 && tree.records == records && tree.lost == 0 && tree.nodes == 60, "{full} times full, {tree:?}");
    for (key, value) in &records {
        let (result, reply) = cell.call("lookup", &key.to_le_bytes(), &mut surroundings, Journey::Through);
        assert_eq!((result, reply), (OK, record(*key, value)));
    }
}

/// A tree deployed with sizes that no node can have stays empty; its neighbours in size are taken.
#[test]
fn impossible_shapes_are_refused() {
    for (node_bytes, value_bytes, result) in [
        (512, 80, OK),
        (512, 88, INVALID),
        (1024, 64, OK),
        (1024, 60, INVALID),
        (576, 8, INVALID),
        (2048, 496, OK),
        (1024, 232, OK),
        (1024, 240, INVALID),
    ] {
        let shape = Shape { node_bytes, value_bytes };
        let mut surroundings = empty_tree(shape, 10);
        let found = load(shape).call("insert", &record(1, &value(shape, 1, 1)), &mut surroundings, Journey::Through).0;
        assert_eq!(found, result, "{shape:?}");
    }
}

/// A lookup reads the word of the root, a tree node on each level, and the leaf's word again; it claims nothing. An insert without a split
/// takes four more operations.
#[test]
fn a_lookup_costs_an_operation_for_each_level() {
    let cell = load(SMALL);
    let mut surroundings = empty_tree(SMALL, 400);
    for key in (0..500).rev() {
        let request = record(key * 10, &value(SMALL, key * 10, 0));
        assert_eq!(cell.call("insert", &request, &mut surroundings, Journey::Through).0, OK);
    }
    let levels = Tree::read(region(&surroundings), SMALL).levels as u32;
    assert!(levels > 2);
    let mut operations = |handler: &str, request: &[u8]| {
        let mut activation = cell.start(handler, request);
        assert_eq!(cell.step(handler, &mut activation, &mut surroundings, u64::MAX), Some(OK));
        activation.udma_operations
    };
    assert_eq!(operations("lookup", &250u64.to_le_bytes()), levels + 2);
    // A tree that grew downwards has room in its leaves.
    assert_eq!(operations("insert", &record(2555, &value(SMALL, 2555, 0))), levels + 5);
    for (handler, reads) in [("lookup", true), ("scan", true), ("insert", false)] {
        let manifest = naamc::manifest::Manifest::of(&cell.proved[handler].0, &naamc::program::Environment::default());
        assert_eq!(!manifest.has_effects && !manifest.uses_executor, reads);
    }
}

/// A message under way: its handler, its request, and where it stands.
type UnderWay = (&'static str, Vec<u8>, Box<Activation>);

/// Messages under way at the same time, each one operation further in turns that chance decides: what was there before is seen by every
/// scan, no value is torn, nothing is lost, and of two inserts of one key one succeeds.
#[test]
fn cell_is_correct_under_every_interleaving_that_chance_finds() {
    const MESSAGES: usize = 12;
    const STEP: u64 = 40;
    let cell = load(SMALL);
    let mut random = Random(0xfeed_5eed);
    let (mut inserted, mut refused, mut scanned, mut unknown) = (0, 0, 0, 0);
    for _ in 0..12 {
        let mut surroundings = empty_tree(SMALL, 2000);
        let residents: Vec<u64> = (0..40).map(|index| index * STEP).collect();
        let mut records: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for key in &residents {
            records.insert(*key, value(SMALL, *key, 0));
            let request = record(*key, &records[key]);
            assert_eq!(cell.call("insert", &request, &mut surroundings, Journey::Through).0, OK);
        }
        let mut under_way: Vec<Option<UnderWay>> = (0..MESSAGES).map(|_| None).collect();
        let (mut started, mut ended) = (0, 0);
        while ended < 600 {
            let slot = random.below(MESSAGES as u64) as usize;
            surroundings.executor = slot as u32 + 1;
            let Some((handler, request, activation)) = &mut under_way[slot] else {
                if started < 600 {
                    let key = random.below(40 * STEP);
                    let (handler, request) = match random.below(4) {
                        0 | 1 => ("insert", record(key, &value(SMALL, key, started))),
                        2 => ("lookup", key.to_le_bytes().to_vec()),
                        _ => ("scan", wanted(key, 46)),
                    };
                    let activation = cell.start(handler, &request);
                    under_way[slot] = Some((handler, request, activation));
                    started += 1;
                }
                continue;
            };
            let Some(result) = cell.step(handler, activation, &mut surroundings, 1) else { continue };
            let key = u64::from_le_bytes(request[..8].try_into().expect("eight bytes"));
            let reply = &activation.body()[..activation.reply_bytes as usize];
            let intact = |key: u64, bytes: &[u8]| (0..600).any(|number| bytes == value(SMALL, key, number));
            match (*handler, result) {
                ("insert", OK) => {
                    assert!(records.insert(key, request[8..].to_vec()).is_none(), "key {key} was inserted twice");
                    inserted += 1;
                }
                ("insert", PRESENT) => refused += 1,
                ("lookup", OK) => assert!(intact(key, &reply[8..]), "a torn value: {reply:?}"),
                ("lookup", ABSENT) => assert!(!residents.contains(&key)),
                ("scan", OK) => {
                    let page = Page::parse(SMALL, reply);
                    let keys: Vec<u64> = page.records.iter().map(|(key, _)| *key).collect();
                    assert!(keys.is_sorted() && page.records.iter().all(|(key, value)| intact(*key, value)), "{keys:?}");
                    let end = if page.more { page.next } else { u64::MAX };
                    let there = residents.iter().filter(|resident| (key..end).contains(resident));
                    assert!(there.clone().all(|resident| keys.contains(resident)), "{keys:?} lacks one of {there:?}");
                    scanned += keys.len();
                }
                other => panic!("{other:?}"),
            }
            under_way[slot] = None;
            ended += 1;
        }
        let tree = Tree::read(region(&surroundings), SMALL);
        assert!(tree.records == records && tree.lost == 0, "{tree:?}");
        unknown += tree.unknown;
    }
    assert!(inserted > 1000 && refused > 100 && scanned > 10_000, "{inserted} inserted, {refused} refused, {scanned} scanned");
    assert_eq!(unknown, 0, "every parent knows its children when all inserts have ended");
}

/// Surroundings in which an executor dies: before an operation, or in the middle of a write, of which then some words arrive.
struct Dying<'a> {
    surroundings: &'a mut Surroundings,
    operations_left: u64,
    tear: Option<&'a mut Random>,
}

impl Environment for Dying<'_> {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if self.operations_left > 0 {
            self.operations_left -= 1;
            self.surroundings.operations_left = 1;
            return self.surroundings.udma(operation);
        }
        if let (Udma::Write { region, offset, source }, Some(random)) = (operation, self.tear.take()) {
            for (index, word) in source.chunks(8).enumerate() {
                if random.below(2) == 0 {
                    let offset = offset + index as u64 * 8;
                    self.surroundings.regions[usize::from(region)].execute(Udma::Write { region, offset, source: word });
                }
            }
        }
        Issued::Suspend
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.surroundings.length_bytes(region)
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        self.surroundings.executor()
    }
}

/// An executor that dies before any operation of an insert, or in the middle of any of its writes, leaves a tree that `recover` makes whole:
/// everything is there, at most one tree node is lost, and what it had split is made known by the next who comes by.
#[test]
fn recover_makes_a_tree_whole_after_a_death_at_every_step() {
    let mut random = Random(0x0dd_ba11);
    let (mut deaths, mut locked, mut lost, mut unknown, mut levels) = (0, 0, 0, 0, 0);
    for shape in [SMALL, DEFAULT] {
        let cell = load(shape);
        // From the empty tree on, so that leaves, inner nodes and the root are split, and the tree grows.
        let mut whole = empty_tree(shape, 300);
        for number in 0..if shape == SMALL { 90 } else { 45 } {
            let key = number * 37 % 101 * 10;
            let request = record(key, &value(shape, key, number));
            let before = Tree::read(region(&whole), shape);
            for operations in 0.. {
                let mut ended = false;
                for tear in [false, true, true] {
                    let mut surroundings = Surroundings {
                        regions: vec![RegionMemory::new(region(&whole).to_vec())],
                        executor: EXECUTOR,
                        operations_left: 0,
                    };
                    let mut victim = cell.start("insert", &request);
                    let mut dying =
                        Dying { surroundings: &mut surroundings, operations_left: operations, tear: tear.then_some(&mut random) };
                    ended = cell.run("insert", &mut victim, &mut dying).is_some();
                    locked += u32::from(holds_lock(&surroundings, shape));
                    readers_go_on(&cell, &mut surroundings, &before, shape);
                    surroundings.executor = EXECUTOR + 1;
                    recover(&cell, &mut surroundings, EXECUTOR + 2);
                    let held = holds_lock(&surroundings, shape);
                    recover(&cell, &mut surroundings, EXECUTOR);
                    assert!(!held || !holds_lock(&surroundings, shape));
                    let tree = Tree::read(region(&surroundings), shape);
                    let mut records = before.records.clone();
                    if tree.records != records {
                        records.insert(key, value(shape, key, number));
                    }
                    assert!(tree.records == records && tree.lost <= 1, "after {operations} operations: {tree:?}");
                    lost += tree.lost;
                    unknown += tree.unknown;
                    // Everything goes on, and nothing more is lost. What was split is near the key, or reaches far.
                    let near = key.saturating_sub(60)..key + 60;
                    for key in near.step_by(5).chain((5..1010).step_by(70)) {
                        let request = record(key, &value(shape, key, 7));
                        let result = cell.call("insert", &request, &mut surroundings, Journey::Through).0;
                        assert!(result == OK || result == PRESENT);
                    }
                    let after = Tree::read(region(&surroundings), shape);
                    assert!(after.lost == tree.lost && after.unknown == 0, "after {operations} operations: {after:?}");
                    deaths += 1;
                }
                if ended {
                    break;
                }
            }
            assert_eq!(cell.call("insert", &request, &mut whole, Journey::Through).0, OK);
        }
        levels = levels.max(Tree::read(region(&whole), shape).levels);
    }
    assert!(
        deaths > 3000 && locked > 1000 && lost > 100 && unknown > 100 && levels >= 3,
        "{deaths} {locked} {lost} {unknown} {levels}"
    );
}

/// Whether some tree node is locked.
fn holds_lock(surroundings: &Surroundings, shape: Shape) -> bool {
    let used = u64::from_le_bytes(region(surroundings)[64..72].try_into().expect("eight bytes")) as usize + 1;
    let nodes = region(surroundings)[HEADER_BYTES..].chunks(shape.node_bytes).take(used);
    nodes.into_iter().any(|node| node[0] & 1 == 1 && node[4] != 0)
}

fn recover(cell: &Handlers, surroundings: &mut Surroundings, dead: u32) {
    let mut message = [dead.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    while message[4] == 0 {
        message = cell.call("recover", &message, surroundings, Journey::Moved).1;
    }
}

/// Before `recover`, readers find everything that was there, or say that they cannot: only in a tree node whose lines were being written.
fn readers_go_on(cell: &Handlers, surroundings: &mut Surroundings, before: &Tree, shape: Shape) {
    const BUSY: i32 = 5;
    for (key, value) in before.records.iter().step_by(9) {
        let (result, reply) = cell.call("lookup", &key.to_le_bytes(), surroundings, Journey::Through);
        assert!(result == BUSY && holds_lock(surroundings, shape) || (result, reply) == (OK, record(*key, value)));
    }
}
