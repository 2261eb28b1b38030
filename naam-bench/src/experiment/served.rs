//! What one engine, or server, did in all its turns.

use crate::measurement::{BusyPercent, Measurement, Ratios, mean_percent};
use crate::mica;
use crate::report::{Load, Run, rounded};
use anyhow::{Result, bail};

/// Turns of one engine or server, in order.
pub struct Served {
    /// Its name in the report.
    pub name: &'static str,
    /// What was counted in each turn.
    pub turns: Vec<Measurement>,
    /// How busy its threads were in each turn.
    pub busy_percent: Vec<BusyPercent>,
}

impl Served {
    /// No turn yet.
    pub fn new(name: &'static str) -> Served {
        Served { name, turns: Vec::new(), busy_percent: Vec::new() }
    }

    /// Adds a turn.
    pub fn add(&mut self, (measured, busy_percent): (Measurement, BusyPercent)) {
        self.turns.push(measured);
        self.busy_percent.push(busy_percent);
    }

    /// All turns together.
    pub fn total(&self) -> Measurement {
        self.turns.iter().cloned().fold(Measurement::default(), |mut total, turn| {
            total.add_turn(turn);
            total
        })
    }

    /// The run for a report; `total` is that of the turns, and what was found wrong outside them.
    pub fn run(&self, total: &Measurement) -> Run {
        Run::new(self.name, total, &mean_percent(&self.busy_percent), mica::result_name)
    }

    /// The throughput of each turn over that of the same turn of `other`.
    ///
    /// # Errors
    /// If either answered nothing in a turn: that has no ratio, and the others do not speak for it.
    pub fn ratios_to(&self, other: &Served) -> Result<Ratios> {
        for one in [self, other] {
            one.check_turns()?;
        }
        let ratio =
            |(own, other): (&Measurement, &Measurement)| own.throughput_ops_per_second() / other.throughput_ops_per_second();
        Ok(Ratios { turns: self.turns.iter().zip(&other.turns).map(ratio).collect() })
    }

    /// # Errors
    /// If it answered nothing in a turn.
    fn check_turns(&self) -> Result<()> {
        let Some(empty) = self.turns.iter().position(|turn| turn.throughput_ops_per_second() == 0.0) else { return Ok(()) };
        bail!(
            "{} answered nothing in turn {} of {}, {:.3} s long: there is no ratio; measure for longer, with --seconds, or see what \
             holds it up",
            self.name,
            empty + 1,
            self.turns.len(),
            self.turns[empty].elapsed.as_secs_f64()
        )
    }
}

/// The load phase for a report.
pub fn load(loaded: &Measurement) -> Load {
    Load {
        records: loaded.requests(),
        seconds: rounded(loaded.elapsed.as_secs_f64(), 6),
        throughput_ops_per_second: rounded(loaded.throughput_ops_per_second(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn served(name: &'static str, turns: &[u64]) -> Served {
        let mut served = Served::new(name);
        for requests in turns {
            let results = [(mica::OK, *requests)].into();
            served.add((Measurement { elapsed: Duration::from_secs(2), results, ..Measurement::default() }, BusyPercent::new()));
        }
        served
    }

    /// A turn in which either side answered nothing is an error that names it, not a ratio.
    #[test]
    fn empty_turns_have_no_ratio() {
        let (jit, redis) = (served("jit", &[40, 60]), served("redis", &[20, 20]));
        assert_eq!(jit.ratios_to(&redis).unwrap().turns, [2.0, 3.0]);
        for (jit, redis) in [(&jit, &served("redis", &[20, 0])), (&served("redis", &[20, 0]), &redis)] {
            let error = jit.ratios_to(redis).unwrap_err().to_string();
            assert!(error.starts_with("redis answered nothing in turn 2 of 2, 2.000 s long"), "{error}");
        }
    }
}
