//! Which place each flow is meant for, and the flow table that follows from it and from what runs.

use super::State;
use super::api::{FlowRange, Flows, FlowsAt};
use super::error::{Code, ControlError};
use super::places::RunningPlace;
use crate::message::{FLOWS, Place};
use crate::steering::{CLIENT, FlowTable};
use std::sync::Arc;

/// For each flow the place that it is meant for: what people have said, whether or not that place runs now.
#[derive(Clone, Debug)]
pub(super) struct Placement(Vec<Place>);

impl Placement {
    /// All flows at one place.
    pub(super) fn all_at(place: Place) -> Placement {
        Placement(vec![place; FLOWS])
    }

    /// Means these flows for a place.
    ///
    /// # Errors
    /// [`Code::BadRequest`] for ranges that are none.
    pub(super) fn steer(&mut self, flows: &[FlowRange], place: Place) -> Result<(), ControlError> {
        for FlowRange { first, last } in flows {
            let range = usize::from(*first)..=usize::from(*last);
            let legal = !range.is_empty() && *range.end() < FLOWS;
            let flows = self.0.get_mut(range).filter(|_| legal);
            let refused = || ControlError::new(Code::BadRequest, format!("flows {first} to {last}: flows are 0 to {}", FLOWS - 1));
            flows.ok_or_else(refused)?.fill(place);
        }
        Ok(())
    }

    /// Writes the table: a place's flows are spread over its executors; those of a place that does not run go to places that do, and
    /// stay where they are if none does.
    fn spread(&self, table: &FlowTable, running: &[Arc<RunningPlace>]) {
        let executors = |place: Option<Place>| -> Vec<u16> {
            let of_place = running.iter().filter(|running| place.is_none_or(|place| running.place == place));
            of_place.flat_map(|running| running.numbers()).collect()
        };
        let all = executors(None);
        for place in [Place::Host, Place::Nic, Place::Client] {
            let flows = (0..FLOWS as u16).filter(|flow| self.0[usize::from(*flow)] == place);
            if place == Place::Client {
                flows.for_each(|flow| table.set(flow, CLIENT));
                continue;
            }
            let own = executors(Some(place));
            spread_over(table, &flows.collect::<Vec<_>>(), if own.is_empty() { &all } else { &own });
        }
        table.announce_steering();
    }
}

/// Spreads flows evenly over executors, if there are any. Those that go to one of them already stay there as far as that is even: what is
/// under way need not move.
fn spread_over(table: &FlowTable, flows: &[u16], executors: &[u16]) {
    let Some(share) = flows.len().checked_div(executors.len()) else { return };
    let mut beyond = flows.len() % executors.len();
    let mut counts = vec![0; executors.len()];
    let mut moving = Vec::new();
    for flow in flows {
        let at = executors.iter().position(|executor| u32::from(*executor) == table.get(*flow));
        match at.filter(|at| counts[*at] < share || (counts[*at] == share && beyond > 0)) {
            Some(at) => {
                beyond -= usize::from(counts[at] == share);
                counts[at] += 1;
            }
            None => moving.push(*flow),
        }
    }
    for flow in moving {
        let Some(least) = (0..executors.len()).min_by_key(|at| counts[*at]) else { return };
        table.set(flow, u32::from(executors[least]));
        counts[least] += 1;
    }
}

impl State {
    /// Writes the flow table anew.
    pub(super) fn spread_flows(&self, table: &FlowTable) {
        self.placement.spread(table, &self.running());
    }

    /// Where each flow goes now.
    pub(super) fn flows(&self, table: &FlowTable) -> Flows {
        let running = self.running();
        let place_of = |entry: u32| {
            let serves = |place: &&Arc<RunningPlace>| place.numbers().any(|number| u32::from(number) == entry);
            match entry {
                CLIENT => Place::Client,
                _ => running.iter().find(serves).map_or(Place::None, |running| running.place),
            }
        };
        let mut flows: Vec<FlowsAt> = Vec::new();
        for flow in 0..FLOWS as u16 {
            let (meant, entry) = (self.placement.0[usize::from(flow)], table.get(flow));
            let place = place_of(entry);
            // 0 is nobody.
            let executor = u16::try_from(entry).ok().filter(|number| *number != 0);
            let executors = executor.into_iter().collect();
            match flows.last_mut().filter(|last| (last.place, last.meant_for) == (place, meant)) {
                Some(last) => {
                    last.last = flow;
                    last.executors.extend(executor.filter(|number| !last.executors.contains(number)));
                }
                None => flows.push(FlowsAt { first: flow, last: flow, place, executors, meant_for: meant }),
            }
        }
        Flows { flows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Pages, SharedMemory};
    use crate::steering::FLOW_TABLE_BYTES;
    use std::collections::BTreeMap;

    fn table() -> FlowTable {
        let memory = SharedMemory::create("naam-flows", FLOW_TABLE_BYTES, Pages::Ordinary).unwrap();
        FlowTable::new(memory.map().unwrap()).unwrap()
    }

    fn counts(table: &FlowTable, flows: &[u16]) -> BTreeMap<u32, usize> {
        flows.iter().fold(BTreeMap::new(), |mut counts, flow| {
            *counts.entry(table.get(*flow)).or_default() += 1;
            counts
        })
    }

    /// Whatever was there before: shares differ by one at most, and no more flows move than must.
    #[test]
    fn flows_are_spread_evenly_and_seldom_move() {
        let table = table();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            (0..FLOWS as u16).for_each(|flow| table.set(flow, random.u32(..12)));
            let flows: Vec<u16> = (0..FLOWS as u16).filter(|_| random.u8(..3) == 0).collect();
            let executors: Vec<u16> = (1..=random.u16(1..10)).collect();
            let before = counts(&table, &flows);
            let entries: Vec<u32> = flows.iter().map(|flow| table.get(*flow)).collect();
            spread_over(&table, &flows, &executors);
            let after = counts(&table, &flows);
            let shares = executors.iter().map(|executor| after.get(&u32::from(*executor)).copied().unwrap_or(0));
            let (least, most) = (shares.clone().min().unwrap(), shares.clone().max().unwrap());
            assert!(most - least <= 1 && shares.sum::<usize>() == flows.len(), "{after:?}");
            // As many executors as there are flows beyond even shares may have one more.
            let mut kept: Vec<usize> =
                executors.iter().map(|executor| before.get(&u32::from(*executor)).copied().unwrap_or(0)).collect();
            kept.sort_unstable_by(|one, other| other.cmp(one));
            let beyond = flows.len() % executors.len();
            let (share, stay) = (flows.len() / executors.len(), |at: usize| usize::from(at < beyond));
            let may_stay: usize = kept.iter().enumerate().map(|(at, count)| *count.min(&(share + stay(at)))).sum();
            let stayed = flows.iter().zip(&entries).filter(|(flow, entry)| table.get(**flow) == **entry).count();
            assert_eq!(stayed, may_stay, "of {before:?}");
        }
    }

    #[test]
    fn flows_stay_where_they_are_while_nobody_serves() {
        let table = table();
        table.set(3, 9);
        spread_over(&table, &[2, 3], &[]);
        assert_eq!([2, 3].map(|flow| table.get(flow)), [0, 9]);
    }
}
