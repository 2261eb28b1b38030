//! One death after another: a place is killed at a moment of a message, the other goes on, and what the dead one left is looked at.

use crate::cluster::{Answer, Cluster, LOOKS_MAX};
use crate::model::{Effect, Memory};
use crate::order::{Moment, Order, Side};
use crate::scenarios::{Group, Keys, Kind, Scenario, value};
use crate::table::{self, census, class_units};
use crate::trees;
use runtime::message::{Place, RuntimeError};

/// Deaths of a cluster, of which host and NIC have half each. A place is given up after six; the pauses before it is started again double
/// each time.
pub const DEATHS_OF_A_CLUSTER: usize = 8;
/// Counter that is added to at the place that lives.
const WITNESS_COUNTER: u64 = 7;

/// A death.
#[derive(Clone, Copy)]
pub struct Death {
    scenario: usize,
    moment: Moment,
    /// `None` if the message has not begun.
    effect: Option<Effect>,
    place: Place,
}

/// All deaths that a handler is to die.
pub fn deaths_of(group: &Group) -> Vec<Death> {
    let both = [Place::Host, Place::Nic];
    let death = |place, scenario, effect, moment| Death { scenario, moment, effect, place };
    let unborn = both.map(|place| death(place, 0, None, Moment { effect: 0, side: Side::After }));
    let moments = group.moments();
    let at_effects = moments.iter().flat_map(|(scenario, number, effect)| {
        let sides = [Side::Before, Side::After].map(|side| Moment { effect: *number, side });
        sides.into_iter().flat_map(move |moment| both.map(|place| death(place, *scenario, Some(*effect), moment)))
    });
    unborn.into_iter().chain(at_effects).collect()
}

impl Death {
    pub fn describe(&self, group: &Group) -> String {
        let Death { scenario, moment, effect, place } = self;
        let what = effect.map_or("before it is claimed".to_owned(), |effect| {
            let side = if moment.side == Side::Before { "before" } else { "after" };
            format!("{side} effect {} ({:?}, {})", moment.effect, effect.helper, group.model.line(group.handler, effect.point))
        });
        format!("{} {}: {place}, {}, {what}", group.name, group.handler, group.scenarios[*scenario].name)
    }
}

/// Dies some deaths of a group on one cluster.
pub fn die_all(group: &Group, keys: &Keys, deaths: &[Death]) {
    let mut cluster = Cluster::start(&group.model, group.handler);
    for death in deaths {
        die(&mut cluster, group, keys, death);
    }
    cluster.stop();
}

fn die(cluster: &mut Cluster, group: &Group, keys: &Keys, death: &Death) {
    let context = death.describe(group);
    let scenario = &group.scenarios[death.scenario];
    let other = if death.place == Place::Host { Place::Nic } else { Place::Host };
    cluster.load(&scenario.before);
    let dying = cluster.place(death.place);
    let executor = dying.executors[0].executor;
    let order = Order { executor: Some(executor), moment: death.moment, pokes: scenario.pokes.clone() };
    cluster.directory.give(group.handler, &order);
    let victim = cluster.submit(death.place, group.handler, &scenario.request);
    let mut witness = Witness { group, keys, place: other, requests: 0, has_written: false };
    let answered = (0..LOOKS_MAX).find_map(|_| {
        witness.go_on(cluster);
        cluster.take(victim)
    });
    let answer = answered.unwrap_or_else(|| panic!("{context}: no answer"));
    assert_eq!(cluster.directory.read(group.handler), None, "{context}: nobody died");
    if death.effect.is_some() {
        assert_eq!(answer.outcome, Err(RuntimeError::Uncertain), "{context}");
    } else {
        // It was nobody's yet: whoever lives runs it.
        assert!(answer.outcome.is_ok(), "{context}: {answer:?}");
    }
    witness.write(cluster);
    if group.kind != Kind::Counters {
        assert_eq!(cluster.recoveries.next(), executor, "{context}: recovered from another one");
    }
    let (handler, probe) = witness.probe();
    cluster.await_restart(&dying, handler, &probe);
    let left = cluster.save();
    match group.kind {
        Kind::Table => check_table(&left, scenario, death, keys, &witness, &context),
        Kind::Tree => check_tree(&left, scenario, death, &witness, &context),
        Kind::Counters => check_counters(&left, scenario, death, executor, &witness, &context),
    }
}

/// What is asked of the place that lives, while the other one dies.
struct Witness<'a> {
    group: &'a Group,
    keys: &'a Keys,
    place: Place,
    requests: u64,
    /// Whether its record could be written.
    has_written: bool,
}

/// Results that MICA and Cell have in common.
const FULL: i32 = 3;
const BUSY: i32 = 5;
/// Bytes of the witness's record in a table, before and after.
const WITNESS_BYTES: usize = 50;

impl Witness<'_> {
    fn call(&mut self, cluster: &mut Cluster, handler: &str, body: &[u8]) -> Answer {
        let answer = cluster.call(self.place, handler, body);
        assert_eq!(answer.place, self.place, "{handler} is served where it is sent");
        self.requests += 1;
        answer
    }

    /// Nobody dies for it, and nobody stops it.
    fn go_on(&mut self, cluster: &mut Cluster) {
        match self.group.kind {
            Kind::Table => {
                let key = self.keys.intact[self.requests as usize % self.keys.intact.len()];
                let answer = self.call(cluster, "get", &table::record(key, &[]));
                assert_eq!((answer.outcome, answer.body), (Ok(0), table::record(key, &value(key, 1, WITNESS_BYTES))));
            }
            Kind::Tree => {
                let record = trees::record(trees::INTACT);
                let answer = self.call(cluster, "lookup", &record[..8]);
                // A leaf that is being written says so until it is recovered.
                assert!(answer.outcome == Ok(BUSY) || (answer.outcome, &answer.body) == (Ok(0), &record), "{answer:?}");
            }
            Kind::Counters => {
                let answer = self.call(cluster, "count", &count(WITNESS_COUNTER, 1));
                assert_eq!(answer.outcome, Ok(0));
            }
        }
    }

    /// While nobody has recovered yet what the dead place held, or just now.
    fn write(&mut self, cluster: &mut Cluster) {
        if self.group.kind == Kind::Counters {
            return self.go_on(cluster);
        }
        let (handler, new) = match self.group.kind {
            Kind::Tree => ("insert", trees::record(trees::WITNESS)),
            _ => ("put", table::record(self.keys.witness, &value(self.keys.witness, 2, WITNESS_BYTES))),
        };
        let answer = self.call(cluster, handler, &new);
        // The heap of some tables is full, and the witness's tree node may be the one that the dead place holds.
        assert!(matches!(answer.outcome, Ok(0 | FULL | BUSY)), "{answer:?}");
        self.has_written = answer.outcome == Ok(0);
    }

    /// A request that changes nothing.
    fn probe(&self) -> (&'static str, Vec<u8>) {
        match self.group.kind {
            Kind::Table => ("get", table::record(self.keys.intact[0], &[])),
            Kind::Tree => ("lookup", trees::INTACT.to_le_bytes().into()),
            Kind::Counters => ("count", count(WITNESS_COUNTER, 0)),
        }
    }
}

/// The message of `count`.
fn count(index: u64, number: u64) -> Vec<u8> {
    [index.to_le_bytes(), number.to_le_bytes()].concat()
}

/// No lock of the dead executor, every record old or new, and no more lost than one block or one extra bucket.
fn check_table(left: &Memory, scenario: &Scenario, death: &Death, keys: &Keys, witness: &Witness<'_>, context: &str) {
    let left = census(left);
    let before = census(state_before(scenario, death));
    let after = census(&scenario.after);
    // What somebody who lives holds, nobody takes.
    assert_eq!(left.locked, before.locked, "{context}");
    let mut records = left.records;
    let written = records.remove(&keys.witness).expect("the witness's record is there");
    let version = if witness.has_written { 2 } else { 1 };
    assert_eq!(written, value(keys.witness, version, WITNESS_BYTES), "{context}: the witness's record");
    let states = allowed(scenario, death, &before.records, &after.records);
    for key in before.records.keys().chain(after.records.keys()).chain(records.keys()).filter(|key| **key != keys.witness) {
        let found = records.get(key);
        assert!(states.iter().any(|state| state.get(key) == found), "{context}: key {key} has {found:?}");
    }
    let is_block = |units: u64| (0..21).any(|class| class_units(class) == units);
    match (&left.lost[..], left.lost_extras) {
        ([], 0) => {}
        ([], 1) if death.effect.is_some() => {}
        ([units], 0) if death.effect.is_some() && is_block(*units) => {}
        lost => panic!("{context}: lost units and extra buckets: {lost:?}"),
    }
}

/// A whole tree without the dead executor's locks, every record where it was or is to be, and no more lost than one tree node.
fn check_tree(left: &Memory, scenario: &Scenario, death: &Death, witness: &Witness<'_>, context: &str) {
    let ((mut left, foreign), (before, foreign_before), (after, _)) =
        (trees::read(left), trees::read(state_before(scenario, death)), trees::read(&scenario.after));
    assert_eq!(foreign, foreign_before, "{context}: locks of somebody who lives");
    let written = left.records.remove(&trees::WITNESS).map(|value| [&trees::WITNESS.to_le_bytes()[..], &value].concat());
    assert_eq!(written, witness.has_written.then(|| trees::record(trees::WITNESS)), "{context}: the witness's record");
    let states = allowed(scenario, death, &before.records, &after.records);
    for key in before.records.keys().chain(after.records.keys()).chain(left.records.keys()) {
        let found = left.records.get(key);
        assert!(states.iter().any(|state| state.get(key) == found), "{context}: key {key} has {found:?}");
    }
    assert!(left.lost <= usize::from(death.effect.is_some()), "{context}: {} tree nodes are lost", left.lost);
}

/// Regions when the message died, but for its own effects.
fn state_before<'a>(scenario: &'a Scenario, death: &Death) -> &'a Memory {
    let others_were_there = scenario.pokes.first().is_some_and(|poke| poke.effect <= death.moment.effect);
    if others_were_there { &scenario.poked } else { &scenario.before }
}

/// What was acknowledged is there, and of what is uncertain a part or all of it.
fn check_counters(left: &Memory, scenario: &Scenario, death: &Death, executor: u16, witness: &Witness<'_>, context: &str) {
    let words = |memory: &Memory| -> Vec<u64> {
        memory[0].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect()
    };
    let (left, before, after) = (words(left), words(&scenario.before), words(&scenario.after));
    let states = allowed(scenario, death, &before, &after);
    for (index, word) in left.iter().enumerate() {
        match index as u64 {
            WITNESS_COUNTER => assert_eq!(*word, witness.requests, "{context}: what was acknowledged"),
            // The sample has no handler that recovers: its lock stays with the dead.
            0 => assert!([0, u64::from(executor)].contains(word), "{context}: the lock is {word}'s"),
            _ => assert!(states.iter().any(|state| state[index] == *word), "{context}: counter {index} is {word}"),
        }
    }
}

/// The states that a death may leave: the new one if the message is done, the old one if it has done nothing, else any mixture of both.
fn allowed<'a, T>(scenario: &Scenario, death: &Death, before: &'a T, after: &'a T) -> Vec<&'a T> {
    let last = scenario.effects.len() as u32;
    match death.moment {
        Moment { effect: 0, .. } => vec![after],
        Moment { effect: 1, side: Side::Before } => vec![before],
        Moment { effect, side: Side::After } if effect == last => vec![after],
        _ => vec![before, after],
    }
}
