//! Processes that are killed at every step of what they do: places before and after every effect of every writer, places that recover, and
//! clients under load. The cluster's processes are this program re-executed, so it has a `main` of its own.

mod clients;
mod cluster;
mod deaths;
mod killer;
mod model;
mod order;
#[path = "../own_main/mod.rs"]
mod own_main;
mod recoveries;
mod scenarios;
mod table;
mod trees;

use deaths::Death;
use runtime::node::enter;
use scenarios::{Group, Keys};
use std::collections::BTreeSet;
use std::sync::Mutex;

const TESTS: &[(&str, fn())] = &[
    ("a_place_that_dies_at_any_effect_leaves_whole_regions", a_place_that_dies_at_any_effect_leaves_whole_regions),
    (
        "a_place_that_dies_while_it_recovers_is_recovered_from_too",
        recoveries::a_place_that_dies_while_it_recovers_is_recovered_from_too,
    ),
    ("a_client_that_is_killed_leaves_nothing", clients::a_client_that_is_killed_leaves_nothing),
];

/// Clusters that die at the same time: most of the time each of them waits for a place to start.
const CLUSTERS: usize = 3;

fn main() {
    enter(&killer::programs());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, cluster] = &arguments[..]
        && argument == clients::CLIENT
    {
        return clients::put_until_killed(cluster);
    }
    own_main::run(TESTS);
}

/// Every handler with effects of MICA, as a store and as a cache, of Cell, and of the sample with counters: at the host and on the NIC, a place is
/// killed before and after each effect that the handler's code has by its manifest. Meanwhile the other place goes on, the client is told
/// that the request is uncertain, and once the place runs again nothing is locked, torn or lost but one block or tree node at most.
fn a_place_that_dies_at_any_effect_leaves_whole_regions() {
    let keys = Keys::new();
    let mut groups: Vec<Group> = ["count", "raw_count", "transfer"].map(|handler| scenarios::counters("counters", handler)).into();
    for (name, is_cache) in [("store", false), ("cache", true)] {
        let handlers = ["put", "insert", "delete", "read_modify_write"];
        groups.extend(handlers.map(|handler| scenarios::mica(name, handler, is_cache, &keys)));
    }
    groups.push(trees::cell());
    let deaths: Vec<Vec<Death>> = groups.iter().map(deaths::deaths_of).collect();
    let mut lines = BTreeSet::new();
    for (group, deaths) in groups.iter().zip(&deaths) {
        let effects = group.model.effects_of(group.handler).len() - group.unreachable.len();
        // Before and after each, at both places; and one at each place before the message begins.
        assert_eq!(deaths.len(), effects * 4 + 2, "{} {}", group.name, group.handler);
        lines.extend(deaths.iter().map(|death| death.describe(group)));
    }
    lines.iter().for_each(|line| println!("{line}"));
    let count: usize = deaths.iter().map(Vec::len).sum();
    assert_eq!(lines.len(), count, "no two deaths are the same");
    // The longest first: what is left at the end is short.
    let mut work: Vec<(&Group, &Vec<Death>)> = groups.iter().zip(&deaths).collect();
    work.sort_by_key(|(_, deaths)| deaths.len());
    let parts: Vec<(&Group, &[Death])> =
        work.iter().flat_map(|(group, deaths)| deaths.chunks(deaths::DEATHS_OF_A_CLUSTER).map(|some| (*group, some))).collect();
    let parts = Mutex::new(parts);
    let next = || parts.lock().expect("nobody panics while it holds this").pop();
    std::thread::scope(|scope| {
        for _ in 0..CLUSTERS {
            scope.spawn(|| {
                while let Some((group, some)) = next() {
                    deaths::die_all(group, &keys, some);
                }
            });
        }
    });
    println!("{count} deaths");
}
