//! Places that are killed while they recover from a dead executor.

use crate::cluster::Cluster;
use crate::model::Memory;
use crate::order::{Moment, Order, Side};
use crate::scenarios::{Group, Keys, Kind, Scenario, mica};
use crate::table::{self, TABLE, bucket_of, census};
use crate::trees;
use runtime::message::{Place, RuntimeError};

/// Of these a place dies two on one cluster, each of which is two deaths in a row.
const DEATHS: usize = 2;

/// What is recovered from.
struct Case<'a> {
    group: &'a Group,
    keys: &'a Keys,
    scenario: &'a Scenario,
    /// The effect after which the first place dies.
    effect: u32,
    /// Effects that recovering from it has.
    effects: u32,
}

/// A place dies with locks held, and its successor before and after each effect of `recover`: the next one recovers from both.
pub fn a_place_that_dies_while_it_recovers_is_recovered_from_too() {
    let keys = Keys::new();
    let (table, tree) = (mica("store", "put", false, &keys), trees::cell());
    for group in [&table, &tree] {
        let (scenario, lock) = group.locks();
        let in_code = group.model.effects_of("recover").len() as u32;
        let (effect, effects) = match group.kind {
            // Two locks are held; to open one is an effect.
            Kind::Table => (lock, 2 * in_code),
            // In the middle of a commit: until it is recovered from, nobody can read this leaf.
            _ => (lock + 2, in_code),
        };
        let case = Case { group, keys: &keys, scenario, effect, effects };
        assert_eq!(effects, if group.kind == Kind::Table { 2 } else { 3 }, "all that recover does is died at");
        let sides = [Side::Before, Side::After];
        let moments: Vec<Moment> = (1..=case.effects).flat_map(|effect| sides.map(|side| Moment { effect, side })).collect();
        for some in moments.chunks(DEATHS) {
            let mut cluster = Cluster::start(&group.model, group.handler);
            for moment in some {
                for place in [Place::Host, Place::Nic] {
                    case.die_twice(&mut cluster, place, *moment);
                    println!(
                        "{}: {place} dies, and its successor {:?} effect {} of recover",
                        group.name, moment.side, moment.effect
                    );
                }
            }
            cluster.stop();
        }
    }
}

impl Case<'_> {
    fn die_twice(&self, cluster: &mut Cluster, place: Place, moment: Moment) {
        let other = if place == Place::Host { Place::Nic } else { Place::Host };
        let dying = cluster.place(place);
        let executor = dying.executors[0].executor;
        cluster.load(&self.memory(executor));
        let first =
            Order { executor: Some(executor), moment: Moment { effect: self.effect, side: Side::After }, pokes: Vec::new() };
        cluster.directory.give(self.group.handler, &first);
        cluster.directory.give("recover", &Order { executor: None, moment, pokes: Vec::new() });
        let victim = cluster.submit(place, self.group.handler, &self.scenario.request);
        assert_eq!(cluster.answer(victim).outcome, Err(RuntimeError::Uncertain));
        // The other place goes on: what is not locked can be read.
        let (handler, body) = match self.group.kind {
            Kind::Table => ("get", table::record(self.keys.intact[1], &[])),
            _ => ("lookup", trees::APART.to_le_bytes().into()),
        };
        let answer = cluster.call(other, handler, &body);
        assert_eq!((answer.outcome, answer.place), (Ok(0), other));
        let [first, again, second] = [(); 3].map(|()| cluster.recoveries.next());
        cluster.await_restart(&dying, handler, &body);
        assert_eq!(cluster.directory.read("recover"), None, "nobody died while it recovered");
        let now = cluster.place(place).executors[0].executor;
        assert_eq!((first, again), (executor, executor));
        assert!(second != executor && second != now, "{second} is the successor that died");
        self.check(&cluster.save());
    }

    /// Regions before, with what the executor holds beside what its message locks.
    fn memory(&self, executor: u16) -> Memory {
        let mut memory = self.scenario.before.clone();
        if self.group.kind == Kind::Table {
            let held = bucket_of(self.keys.intact[0]);
            memory[TABLE][held] |= 1;
            memory[TABLE][held + 4..held + 6].copy_from_slice(&executor.to_le_bytes());
        }
        memory
    }

    /// Nothing is locked, all records are as they were, and no more is lost than by one death.
    fn check(&self, left: &Memory) {
        if self.group.kind == Kind::Table {
            let (left, before) = (census(left), census(&self.scenario.before));
            assert_eq!((left.locked, left.records), (before.locked, before.records));
            assert!(left.lost.len() <= 1 && left.lost_extras == 0, "lost: {:?}", left.lost);
        } else {
            let ((left, _), (before, _)) = (trees::read(left), trees::read(&self.scenario.before));
            assert_eq!((left.records, left.lost), (before.records, 0));
        }
    }
}
