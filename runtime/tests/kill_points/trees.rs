//! What Cell's `insert` is killed at: trees and records that lead it through every effect that its code has.

#[path = "../../../testdata/handlers/cell_tree.rs"]
mod reader;

use crate::model::{Before, Meanwhile, Memory, Model};
use crate::scenarios::{FOREIGN, Group, Kind, Scenario, with_pokes};
use reader::Shape;
pub use reader::Tree;

/// Three records in a leaf: tree nodes are split all the time.
const SHAPE: Shape = Shape { node_bytes: 512, value_bytes: 80 };
/// Bytes of the region: room for 64 tree nodes.
pub const TREE_BYTES: usize = HEADER_BYTES + 64 * SHAPE.node_bytes;
const HEADER_BYTES: usize = 4096;
/// Words of the header.
const NODES_USED: usize = 64;
const FREE_LIST: usize = 128;

/// The key that is inserted when its place is killed.
const VICTIM: u64 = 250;
/// A key that the other place inserts meanwhile.
pub const WITNESS: u64 = 100_000;
/// A key that nobody touches.
pub const INTACT: u64 = 100;
/// Likewise, in another leaf than the victim's, where there are several.
pub const APART: u64 = 500;

const OK: i32 = 0;
const PRESENT: i32 = 2;
const BUSY: i32 = 5;

/// The message of `insert`: a record whose value follows from its key.
pub fn record(key: u64) -> Vec<u8> {
    let words = (1..=SHAPE.value_bytes as u64 / 8).map(|index| key ^ index << 56);
    std::iter::once(key).chain(words).flat_map(u64::to_le_bytes).collect()
}

/// The tree in a region that nobody who lives has locked, but for [`FOREIGN`], whose locks are opened and counted first.
pub fn read(memory: &Memory) -> (Tree, usize) {
    let mut bytes = memory[0].clone();
    let mut foreign = 0;
    for at in (HEADER_BYTES..bytes.len()).step_by(SHAPE.node_bytes) {
        if bytes[at] & 1 == 1 && bytes[at + 4..at + 6] == FOREIGN.to_le_bytes() {
            bytes[at] &= !1;
            bytes[at + 4..at + 6].fill(0);
            foreign += 1;
        }
    }
    (Tree::read(&bytes, SHAPE), foreign)
}

/// What is done to a tree, before a message or meanwhile.
#[derive(Clone, Copy)]
enum Step {
    Insert(u64),
    /// The leaf that the key belongs to is locked, for good.
    Lock(u64),
    /// A tree node lies in the free list.
    Free,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn set(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn apply(step: Step, model: &Model, memory: &mut Memory) {
    match step {
        Step::Insert(key) => assert_eq!(model.run("insert", &record(key), FOREIGN - 1, memory).result, OK),
        Step::Lock(key) => {
            let bytes = &mut memory[0];
            // From the leftmost leaf by links to the right, which are in the directory that counts.
            let mut at = HEADER_BYTES;
            loop {
                let directory = at + 64 + 64 * (word(bytes, at) >> 1 & 1) as usize;
                let (right, high) = (word(bytes, directory + 8) as u32 as usize, word(bytes, directory + 16));
                if right == 0 || key < high {
                    break;
                }
                at = HEADER_BYTES + right * SHAPE.node_bytes;
            }
            bytes[at] |= 1;
            bytes[at + 4..at + 6].copy_from_slice(&FOREIGN.to_le_bytes());
        }
        Step::Free => {
            let number = word(&memory[0], NODES_USED) + 1;
            let next = word(&memory[0], FREE_LIST) & 0xffff_ffff;
            set(&mut memory[0], HEADER_BYTES + number as usize * SHAPE.node_bytes, next);
            set(&mut memory[0], NODES_USED, number);
            set(&mut memory[0], FREE_LIST, 1 << 32 | number);
        }
    }
}

/// Cell's `insert`.
pub fn cell() -> Group {
    let constants = [("node_bytes", SHAPE.node_bytes as u32), ("value_bytes", SHAPE.value_bytes as u32)];
    let model = Model::new("cell", &["insert", "lookup", "recover"], &constants);
    let scenario = |name, setup: &[Step], meanwhile: &[Step], result: i32| {
        let mut before = vec![vec![0; TREE_BYTES]];
        setup.iter().for_each(|step| apply(*step, &model, &mut before));
        let others = |model: &Model, memory: &mut Memory| meanwhile.iter().for_each(|step| apply(*step, model, memory));
        let among: Option<(Before, Meanwhile<'_>)> = if meanwhile.is_empty() { None } else { Some((Before::Lock, &others)) };
        let mut after = before.clone();
        let run = model.run_among("insert", &record(VICTIM), FOREIGN - 2, &mut after, among);
        assert_eq!((run.result, run.pokes.is_empty()), (result, meanwhile.is_empty()), "insert, {name}");
        let poked = with_pokes(&before, &run.pokes);
        Scenario { name, request: record(VICTIM), before, pokes: run.pokes, poked, after, effects: run.effects }
    };
    // One full leaf; and several leaves under a root, of which the victim's has two records, or three.
    let (full, two, three) = ([100, 200, 300], [100, 200, 300, 400, 500, 600], [100, 200, 300, 400, 500, 600, 220]);
    let insert = |keys: &[u64]| keys.iter().map(|key| Step::Insert(*key)).collect::<Vec<_>>();
    let (full, two, three) = (insert(&full), insert(&two), insert(&three));
    let scenarios = vec![
        scenario("a leaf is split, and the root grows", &full, &[], OK),
        scenario("into a leaf", &two, &[], OK),
        scenario("a leaf is split into a free tree node", &[&three[..], &[Step::Free]].concat(), &[], OK),
        scenario("the root grows into a free tree node", &[&full[..], &[Step::Free, Step::Free]].concat(), &[], OK),
        scenario("somebody else inserts it meanwhile", &three, &[Step::Insert(VICTIM)], PRESENT),
        scenario("somebody else splits the leaf meanwhile", &three, &[Step::Insert(150)], OK),
        scenario("the leaf is locked for good", &[&two[..], &[Step::Lock(VICTIM)]].concat(), &[], BUSY),
        scenario("the leaf is locked for good meanwhile", &three, &[Step::Lock(VICTIM)], BUSY),
    ];
    Group { name: "cell", handler: "insert", scenarios, unreachable: &[], kind: Kind::Tree, model }
}
