//! `naam-run flows` and `naam-run steer`.

use crate::failure::Failure;
use naamc::quantity::counted;
use runtime::control::client::Control;
use runtime::message::{FLOWS, Place};
use runtime::supervisor::api::{FlowRange, Flows, FlowsAt, Steer};

/// Prints where each flow goes.
pub fn flows(control: &Control, as_json: bool) -> Result<(), Failure> {
    let flows = control.flows()?;
    crate::print(as_json, &flows, || describe(&flows))
}

/// Sends flows to a place.
pub fn steer(control: &Control, flows: &[FlowRange], place: Place, as_json: bool) -> Result<(), Failure> {
    let flows = control.steer(&Steer { flows: flows.to_vec(), place })?;
    crate::print(as_json, &flows, || describe(&flows))
}

fn describe(flows: &Flows) -> String {
    let line = |FlowsAt { first, last, place, executors, meant_for }: &FlowsAt| {
        let count = u64::from(last - first) + 1;
        let numbers: Vec<String> = executors.iter().map(u16::to_string).collect();
        // Executors of clients are not the node's.
        let spread = match &numbers[..] {
            [] => String::new(),
            [number] => format!(", executor {number}"),
            numbers => format!(", executors {}", numbers.join(" ")),
        };
        let away = if place == meant_for { String::new() } else { format!(", meant for {meant_for}, which does not run") };
        format!("flows {first:4} to {last:4} ({}): {place}{spread}{away}", counted(count, "flow"))
    };
    flows.flows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads `all`, `7`, `0-511`, several of these with commas, or `25%`: the first quarter of all flows.
pub fn parse_flows(text: &str) -> Result<Flowset, String> {
    let last = FlowRange::ALL.last;
    if text == "all" {
        return Ok(Flowset(vec![FlowRange::ALL]));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u16 = percent.parse().map_err(|_| "a percentage is a whole number")?;
        if percent == 0 || percent > 100 {
            return Err("a percentage is 1 to 100".to_owned());
        }
        let count = (u32::from(percent) * FLOWS as u32 / 100) as u16;
        return Ok(Flowset(vec![FlowRange { first: 0, last: count - 1 }]));
    }
    let number = |text: &str| match text.trim().parse::<u16>() {
        Ok(flow) if flow <= last => Ok(flow),
        _ => Err(format!("{text:?} is no flow: they are 0 to {last}")),
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last { Err(format!("{part:?} runs backwards")) } else { Ok(FlowRange { first, last }) }
    };
    text.split(',').map(range).collect::<Result<_, String>>().map(Flowset)
}

/// Flows as they are named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flowset(pub Vec<FlowRange>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_named_in_several_ways() {
        let ranges =
            |text: &str| parse_flows(text).map(|set| set.0.iter().map(|range| (range.first, range.last)).collect::<Vec<_>>());
        assert_eq!(ranges("all"), Ok(vec![(0, 1023)]));
        assert_eq!(ranges("100%"), Ok(vec![(0, 1023)]));
        assert_eq!(ranges("25%"), Ok(vec![(0, 255)]));
        assert_eq!(ranges("7, 10-20,1023"), Ok(vec![(7, 7), (10, 20), (1023, 1023)]));
        for wrong in ["", "1024", "5-2", "-1", "0%", "101%", "1-2-3", "x"] {
            assert!(parse_flows(wrong).is_err(), "{wrong:?}");
        }
    }
}
