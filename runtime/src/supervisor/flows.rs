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
            let serving = if own.is_empty() { &all } else { &own };
            for (flow, executor) in flows.zip(serving.iter().cycle()) {
                table.set(flow, u32::from(*executor));
            }
        }
        table.announce_steering();
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
            let executors = u16::try_from(entry).into_iter().collect();
            match flows.last_mut().filter(|last| (last.place, last.meant_for) == (place, meant)) {
                Some(last) => {
                    last.last = flow;
                    last.executors.extend(u16::try_from(entry).ok().filter(|number| !last.executors.contains(number)));
                }
                None => flows.push(FlowsAt { first: flow, last: flow, place, executors, meant_for: meant }),
            }
        }
        Flows { flows }
    }
}
