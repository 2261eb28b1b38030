//! Keys of MICA's table and of Cell's tree are registers: each operation takes effect on a key at one instant between its call and its answer,
//! wherever it ran and whoever died. The clusters' processes are this program re-executed, so it has a `main` of its own.
//!
//! With `--long`, or `NAAM_LAB=vm` in the environment, the runs on clusters take minutes instead of seconds.

mod application;
mod cell;
mod checker;
mod clusters;
mod exhaustive;
mod mica;
#[path = "../own_main/mod.rs"]
mod own_main;
mod sessions;
mod simulation;
mod stale;

use checker::{Operation, Refusal, check};
use runtime::node::enter;
use std::collections::BTreeMap;

const TESTS: &[(&str, fn())] = &[
    ("the_checker_agrees_with_trying_everything", exhaustive::the_checker_agrees_with_trying_everything),
    ("the_checker_knows_the_classics", exhaustive::the_checker_knows_the_classics),
    ("interleaved_handlers_of_a_table_are_linearizable", simulation::interleaved_handlers_of_a_table_are_linearizable),
    ("interleaved_handlers_of_a_tree_are_linearizable", simulation::interleaved_handlers_of_a_tree_are_linearizable),
    ("a_get_that_does_not_look_again_is_refused", simulation::a_get_that_does_not_look_again_is_refused),
    ("readers_that_compare_nothing_are_refused", simulation::readers_that_compare_nothing_are_refused),
    ("an_insert_that_takes_no_lock_is_refused", simulation::an_insert_that_takes_no_lock_is_refused),
    ("a_table_is_linearizable_at_all_places", clusters::a_table_is_linearizable_at_all_places),
    ("a_tree_is_linearizable_at_all_places", clusters::a_tree_is_linearizable_at_all_places),
    ("a_table_is_linearizable_while_places_die", clusters::a_table_is_linearizable_while_places_die),
    ("a_tree_is_linearizable_while_places_die", clusters::a_tree_is_linearizable_while_places_die),
    ("a_stale_get_on_a_cluster_is_refused", clusters::a_stale_get_on_a_cluster_is_refused),
    ("stale_lookups_and_scans_on_a_cluster_are_refused", clusters::stale_lookups_and_scans_on_a_cluster_are_refused),
];

fn main() {
    enter(&clusters::programs());
    own_main::run(TESTS);
}

/// How many times something is done that is done so many times if the run is to be long.
fn times(long: u64) -> u64 {
    let is_long = std::env::args().any(|argument| argument == "--long") || std::env::var("NAAM_LAB").is_ok_and(|lab| lab == "vm");
    if is_long { long } else { 1 }
}

/// Operations by key.
#[derive(Default)]
struct Histories(BTreeMap<u64, Vec<Operation>>);

impl Histories {
    fn add(&mut self, key: u64, operation: Operation) {
        self.0.entry(key).or_default().push(operation);
    }

    fn add_all(&mut self, other: Histories) {
        for (key, history) in other.0 {
            self.0.entry(key).or_default().extend(history);
        }
    }

    fn retain(&mut self, keeps: impl Fn(&Operation) -> bool) {
        self.0.values_mut().for_each(|history| history.retain(&keeps));
    }

    fn operations(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether every key was a register; else the first that was not, and why.
    fn check(&self) -> Result<(), (u64, Refusal)> {
        self.0.iter().try_for_each(|(key, history)| check(history).map_err(|refusal| (*key, refusal)))
    }
}
