//! What one engine, or server, did in all its turns.

use crate::measurement::{Measurement, Ratios};
use crate::mica;
use crate::report::{Load, Run, rounded};

/// Turns of one engine or server, in order.
pub struct Served {
    /// Its name in the report.
    pub name: &'static str,
    /// What was counted in each turn.
    pub turns: Vec<Measurement>,
    /// How busy each of its threads was in each turn, in percent.
    pub busy_percent: Vec<Vec<f64>>,
}

impl Served {
    /// No turn yet.
    pub fn new(name: &'static str) -> Served {
        Served { name, turns: Vec::new(), busy_percent: Vec::new() }
    }

    /// Adds a turn.
    pub fn add(&mut self, (measured, busy_percent): (Measurement, Vec<f64>)) {
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

    /// How busy each thread was, on average over the turns.
    fn busy_percent(&self) -> Vec<f64> {
        let threads = self.busy_percent.iter().map(Vec::len).min().unwrap_or(0);
        let mean = |thread: usize| self.busy_percent.iter().map(|turn| turn[thread]).sum::<f64>() / self.busy_percent.len() as f64;
        (0..threads).map(mean).collect()
    }

    /// The run for a report; `total` is that of the turns, and what was found wrong outside them.
    pub fn run(&self, total: &Measurement) -> Run {
        Run::new(self.name, total, self.busy_percent(), mica::result_name)
    }

    /// The throughput of each turn over that of the same turn of `other`.
    pub fn ratios_to(&self, other: &Served) -> Ratios {
        let ratio = |(own, other): (&Measurement, &Measurement)| {
            let other = other.throughput_ops_per_second();
            if other > 0.0 { own.throughput_ops_per_second() / other } else { 0.0 }
        };
        Ratios { turns: self.turns.iter().zip(&other.turns).map(ratio).collect() }
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
