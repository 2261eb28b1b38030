//! What writers are killed at: for each handler tables and requests that lead it through every effect that its code has.

use crate::model::{Before, Effect, Memory, Model};
use crate::order::Poke;
use crate::table::{self, HEAP, HEAP_BYTES, TABLE, TABLE_BYTES, bucket_of, class_units, list_of};
use std::collections::BTreeSet;

/// An executor that no place has: what it locks stays locked.
pub const FOREIGN: u16 = 60_000;

/// A message that is killed at each of its effects, one death after another.
pub struct Scenario {
    pub name: &'static str,
    pub request: Vec<u8>,
    /// Regions before it.
    pub before: Memory,
    /// What others do before one of its effects, if anything, and regions as they are then.
    pub pokes: Vec<Poke>,
    pub poked: Memory,
    /// Regions after it, where nobody dies.
    pub after: Memory,
    pub effects: Vec<Effect>,
}

/// One handler of one deployment.
pub struct Group {
    pub name: &'static str,
    pub model: Model,
    pub handler: &'static str,
    pub scenarios: Vec<Scenario>,
    /// What the C lines of effects say that its code has, but that no message ever comes to.
    pub unreachable: &'static [&'static str],
    pub kind: Kind,
}

/// In a cache, `put` and `insert` have no use for `grow` and for giving back a block before it: a bucket without a free slot has a record
/// to forget. `naamc` cannot know that.
const UNREACHABLE_IN_A_CACHE: [&str; 6] = [
    "naam_write(&heap, block_offset(item), &next, 8)",
    "naam_compare_swap(&heap, free_list(list, class), head",
    "naam_compare_swap(&table, key->bucket, place->word",
    "naam_compare_swap(&table, counter, used, used + 1",
    "naam_write(&table, place->last, &link, 8)",
    "naam_write(&table, key->bucket, &next, 8)",
];

/// What its regions mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    Tree,
    Counters,
}

/// Keys, by what they are for. Each but those that share the victim's bucket has a bucket of its own.
pub struct Keys {
    pub victim: u64,
    sharing: Vec<u64>,
    /// Nobody writes them.
    pub intact: Vec<u64>,
    /// The other place writes it meanwhile.
    pub witness: u64,
    fillers: Vec<u64>,
    /// Its blocks are those of the victim's free list.
    spare: u64,
}

impl Keys {
    pub fn new() -> Keys {
        let victim = 1;
        let sharing = (2..).filter(|key| bucket_of(*key) == bucket_of(victim)).take(20).collect();
        let mut buckets = BTreeSet::from([bucket_of(victim)]);
        let mut alone = (2..).filter(|key| buckets.insert(bucket_of(*key)));
        let mut next = || alone.next().expect("a bucket is left");
        let intact = (0..4).map(|_| next()).collect();
        let witness = next();
        let spare = loop {
            let key = next();
            if list_of(key) == list_of(victim) {
                break key;
            }
        };
        Keys { victim, sharing, intact, witness, spare, fillers: (0..30).map(|_| next()).collect() }
    }
}

/// Bytes that follow from key and version.
pub fn value(key: u64, version: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (key.wrapping_mul(31) ^ version.wrapping_mul(131) ^ index.wrapping_mul(7)) as u8).collect()
}

/// What is done to a table, before a message or meanwhile.
#[derive(Clone, Copy)]
enum Step {
    Put(u64, usize),
    Delete(u64),
    /// A free block for a value of this length in the victim's list.
    Spare(usize),
    /// So many records in the victim's bucket, without the victim.
    Crowd(usize),
    /// The victim's bucket is locked, for good.
    Lock,
    /// Records until not a unit is left.
    FillHeap,
    /// The longest of them goes.
    FreeLong,
}

struct Tables<'a> {
    model: &'a Model,
    keys: &'a Keys,
}

impl Tables<'_> {
    fn call(&self, handler: &str, request: &[u8], memory: &mut Memory) {
        let result = self.model.run(handler, request, FOREIGN - 1, memory).result;
        assert_eq!(result, 0, "{handler} while a table is made");
    }

    fn put(&self, key: u64, length: usize, memory: &mut Memory) {
        self.call("put", &table::record(key, &value(key, 1, length)), memory);
    }

    fn apply(&self, step: Step, memory: &mut Memory) {
        let keys = self.keys;
        let bucket = bucket_of(keys.victim);
        match step {
            Step::Put(key, length) => self.put(key, length, memory),
            Step::Delete(key) => self.call("delete", &table::record(key, &[]), memory),
            Step::Spare(length) => {
                self.put(keys.spare, length, memory);
                self.call("delete", &table::record(keys.spare, &[]), memory);
            }
            Step::Crowd(records) => keys.sharing[..records].iter().for_each(|key| self.put(*key, NEW_BYTES, memory)),
            Step::Lock => {
                memory[TABLE][bucket] |= 1;
                memory[TABLE][bucket + 4..bucket + 6].copy_from_slice(&FOREIGN.to_le_bytes());
            }
            Step::FillHeap => {
                for filler in &keys.fillers {
                    let used = u64::from_le_bytes(memory[HEAP][..8].try_into().expect("eight bytes"));
                    let left = (HEAP_BYTES as u64 - 4096) / 16 - used;
                    let Some(units) = (0..21).rev().map(class_units).find(|units| *units <= left) else { return };
                    // Longer values than the largest do not fit into the largest block either.
                    self.put(*filler, (units as usize * 16 - 16).min(1024), memory);
                }
                panic!("the heap is larger than all fillers");
            }
            Step::FreeLong => self.call("delete", &table::record(keys.fillers[0], &[]), memory),
        }
    }

    fn scenario(
        &self,
        handler: &str,
        name: &'static str,
        request: Vec<u8>,
        setup: &[Step],
        (at, meanwhile): (Before, &[Step]),
        result: i32,
    ) -> Scenario {
        let mut before = vec![vec![0; HEAP_BYTES], vec![0; TABLE_BYTES]];
        for key in self.keys.intact.iter().chain([&self.keys.witness]) {
            self.put(*key, 50, &mut before);
        }
        setup.iter().for_each(|step| self.apply(*step, &mut before));
        let others = |_: &Model, memory: &mut Memory| meanwhile.iter().for_each(|step| self.apply(*step, memory));
        let mut after = before.clone();
        let among: Option<(Before, crate::model::Meanwhile<'_>)> = if meanwhile.is_empty() { None } else { Some((at, &others)) };
        let run = self.model.run_among(handler, &request, FOREIGN - 2, &mut after, among);
        assert_eq!(run.result, result, "{handler}, {name}");
        assert_eq!(run.pokes.is_empty(), meanwhile.is_empty(), "{handler}, {name}: nobody waited for the others");
        let poked = with_pokes(&before, &run.pokes);
        Scenario { name, request, before, pokes: run.pokes, poked, after, effects: run.effects }
    }
}

/// Regions after others have changed them. Enough to read records and locks from: what the message itself has done by then changes neither.
pub fn with_pokes(before: &Memory, pokes: &[Poke]) -> Memory {
    let mut poked = before.clone();
    for Poke { region, offset, value, .. } in pokes {
        let start = *offset as usize;
        poked[*region][start..start + 8].copy_from_slice(&value.to_le_bytes());
    }
    poked
}

const OK: i32 = 0;
const ABSENT: i32 = 1;
const PRESENT: i32 = 2;
const BUSY: i32 = 5;

/// Bytes of the victim's value, as it was and as it is written.
const OLD_BYTES: usize = 32;
const NEW_BYTES: usize = 56;

/// A handler of MICA, in a store or in a cache.
pub fn mica(name: &'static str, handler: &'static str, is_cache: bool, keys: &Keys) -> Group {
    let handlers = BTreeSet::from([handler, "put", "delete", "get", "recover"]);
    let handlers: Vec<&str> = handlers.into_iter().collect();
    let model = Model::new("mica", &handlers, &[("cache", is_cache.into())]);
    let tables = Tables { model: &model, keys };
    let victim = keys.victim;
    let old = Step::Put(victim, OLD_BYTES);
    let request = match handler {
        "put" | "insert" => table::record(victim, &value(victim, 2, NEW_BYTES)),
        "delete" => table::record(victim, &[]),
        _ => table::addition(victim, 1 << 40 | 7),
    };
    let scenario = |name, setup: &[Step], meanwhile: &[Step], result| {
        tables.scenario(handler, name, request.clone(), setup, (Before::Lock, meanwhile), result)
    };
    let mut scenarios = match handler {
        "put" => vec![
            scenario("over a record, into a free block", &[old, Step::Spare(NEW_BYTES)], &[], OK),
            scenario("a new record, from the heap's end", &[], &[], OK),
        ],
        "insert" => vec![
            scenario("a new record, into a free block", &[Step::Spare(NEW_BYTES)], &[], OK),
            scenario("a new record, from the heap's end", &[], &[], OK),
            scenario("somebody else inserts it meanwhile", &[], &[old], PRESENT),
        ],
        "delete" => vec![scenario("a record", &[old], &[], OK)],
        _ => vec![
            scenario("a record, into a free block", &[old, Step::Spare(OLD_BYTES)], &[], OK),
            scenario("a record, from the heap's end", &[old], &[], OK),
            scenario("it is deleted meanwhile", &[old], &[Step::Delete(victim)], ABSENT),
            scenario("its length changes meanwhile", &[old], &[Step::Put(victim, NEW_BYTES)], OK),
        ],
    };
    let held = if handler == "insert" { &[][..] } else { &[old] };
    scenarios.push(scenario("the bucket is locked for good", &[held, &[Step::Lock]].concat(), &[], BUSY));
    if handler != "delete" {
        scenarios.push(scenario("into a longer block", &[held, &[Step::FillHeap, Step::FreeLong]].concat(), &[], OK));
        scenarios.push(scenario("the bucket is locked for good meanwhile", held, &[Step::Lock], BUSY));
    }
    if handler != "delete" {
        let meanwhile = (Before::Addition, &[Step::FillHeap, Step::FreeLong][..]);
        scenarios.push(tables.scenario(handler, "the heap's end is taken meanwhile", request.clone(), held, meanwhile, OK));
    }
    if matches!(handler, "put" | "insert") {
        scenarios.push(scenario("a record too many for the bucket", &[Step::Crowd(7)], &[], OK));
        scenarios.push(scenario("a record too many for the chain", &[Step::Crowd(if is_cache { 7 } else { 14 })], &[], OK));
        scenarios.push(scenario(
            "the last slot is taken meanwhile",
            &[Step::Crowd(6)],
            &[Step::Put(keys.sharing[6], NEW_BYTES)],
            OK,
        ));
    }
    if is_cache && handler != "delete" {
        let crowd: &[Step] = if handler == "read_modify_write" { &[old, Step::Crowd(4)] } else { &[Step::Crowd(7)] };
        scenarios.push(scenario("the heap is full", &[crowd, &[Step::FillHeap]].concat(), &[], OK));
    }
    let unreachable: &[&str] = if is_cache && matches!(handler, "put" | "insert") { &UNREACHABLE_IN_A_CACHE } else { &[] };
    Group { name, handler, scenarios, unreachable, kind: Kind::Table, model }
}

/// A handler of the sample with counters: two of them add, one moves an amount under a lock that nothing recovers.
pub fn counters(name: &'static str, handler: &'static str) -> Group {
    let model = Model::new("counter", &["count", handler], &[]);
    let mut before = vec![vec![0; 4096]];
    for (index, balance) in [(1, 100u64), (2, 50)] {
        before[0][index * 8..index * 8 + 8].copy_from_slice(&balance.to_le_bytes());
    }
    let request = match handler {
        // From counter 1 to counter 2.
        "transfer" => [1u32.to_le_bytes(), 2u32.to_le_bytes(), 30u32.to_le_bytes(), [0; 4]].concat(),
        "raw_count" => [8u64.to_le_bytes(), 30u64.to_le_bytes()].concat(),
        _ => [1u64.to_le_bytes(), 30u64.to_le_bytes()].concat(),
    };
    let mut after = before.clone();
    let run = model.run(handler, &request, FOREIGN, &mut after);
    assert_eq!(run.result, 0, "{handler}");
    let poked = before.clone();
    let scenario = Scenario { name: "alone", request, before, pokes: Vec::new(), poked, after, effects: run.effects };
    Group { name, handler, scenarios: vec![scenario], unreachable: &[], kind: Kind::Counters, model }
}

impl Group {
    /// A scenario in which the message takes a lock and commits under it at once, and the number of the effect with which it takes it.
    pub fn locks(&self) -> (&Scenario, u32) {
        // The C lines of both handlers say so.
        let is_lock = |effect: &Effect| self.model.source(self.handler, effect.point).text.contains("word + 1) |");
        let scenario = self.scenarios.iter().find(|scenario| scenario.effects.iter().filter(|effect| is_lock(effect)).count() == 1);
        let scenario = scenario.expect("a writer takes a lock");
        let index = scenario.effects.iter().position(is_lock).expect("it has one");
        (scenario, index as u32 + 1)
    }

    /// Which effects of which scenario are moments to die: each that the code has once, and all of the first scenario. Effects count
    /// from 1.
    pub fn moments(&self) -> Vec<(usize, u32, Effect)> {
        let mut seen = BTreeSet::new();
        let mut moments = Vec::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            for (effect, number) in scenario.effects.iter().zip(1..) {
                if seen.insert(effect.point) {
                    moments.push((index, number, *effect));
                }
            }
        }
        let missing: Vec<String> = self
            .model
            .effects_of(self.handler)
            .iter()
            .filter(|effect| !seen.contains(&effect.point))
            .map(|effect| self.model.source(self.handler, effect.point).text.trim().to_owned())
            .collect();
        let is_expected = missing.len() == self.unreachable.len()
            && self.unreachable.iter().all(|beginning| missing.iter().any(|line| line.contains(beginning)));
        assert!(is_expected, "{} {}: no scenario reaches {missing:#?}", self.name, self.handler);
        moments
    }
}
