//! What one client counted during one run, and how counts of several clients and turns are put together.

use hdrhistogram::Histogram;
use runtime::message::Place;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest latency that is told from a longer one: one minute, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant digits of a recorded latency: an error below 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// What was counted of the requests that one place answered.
#[derive(Clone, Debug)]
pub struct AtPlace {
    /// Latency of each, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Their UDMA operations.
    pub udma_operations: u64,
    /// Their suspensions.
    pub suspensions: u64,
}

impl Default for AtPlace {
    fn default() -> AtPlace {
        AtPlace { latency_ns: latencies(), udma_operations: 0, suspensions: 0 }
    }
}

/// Who works, from a start to an end: an executor that is started again is another one, and its count begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Worker {
    /// The executor's place; none for another server's thread.
    pub place: Place,
    /// Which start of the place it belongs to.
    pub incarnation: u32,
    /// Its number.
    pub executor: u16,
}

impl Worker {
    /// The only thread of another server.
    pub const FOREIGN: Worker = Worker { place: Place::None, incarnation: 0, executor: 0 };
}

/// How long each had worked at some moment, in nanoseconds.
pub type BusyNs = BTreeMap<Worker, u64>;

/// The share of a time in which each worked, in percent; nothing of those of whom it is not known.
pub type BusyPercent = BTreeMap<Worker, f64>;

/// The shares in the time between two readings. Who was not there at both has none.
pub fn busy_percent(before: &BusyNs, after: &BusyNs, elapsed: Duration) -> BusyPercent {
    let share = |(worker, after): (&Worker, &u64)| {
        let busy_ns = after.saturating_sub(*before.get(worker)?);
        Some((*worker, (busy_ns as f64 * 100.0 / elapsed.as_nanos() as f64).min(100.0)))
    };
    after.iter().filter_map(share).collect()
}

/// The shares on average over turns of the same length. Who was not there in all of them has none.
pub fn mean_percent(turns: &[BusyPercent]) -> BusyPercent {
    let Some(first) = turns.first() else { return BusyPercent::new() };
    let mean = |worker: &Worker| {
        let shares: Option<Vec<f64>> = turns.iter().map(|turn| turn.get(worker).copied()).collect();
        shares.map(|shares| (*worker, shares.iter().sum::<f64>() / shares.len() as f64))
    };
    first.keys().filter_map(mean).collect()
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are those of the histogram")
}

/// Counts of a run. Everything here belongs to requests that were answered inside the measured time.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Latency of each answered request, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Measured time.
    pub elapsed: Duration,
    /// Requests whose answer was a handler's result, by that result.
    pub results: BTreeMap<i32, u64>,
    /// Answers `Busy`: the request was sent again.
    pub busy: u64,
    /// Requests that ended in an error instead of a result, by its text.
    pub errors: BTreeMap<String, u64>,
    /// UDMA operations of all answered requests.
    pub udma_operations: u64,
    /// Suspensions of all answered requests.
    pub suspensions: u64,
    /// The same by place; nothing of a server that has none.
    pub places: BTreeMap<Place, AtPlace>,
    /// Values that were read and checked.
    pub values_checked: u64,
    /// Values that were not what they had to be.
    pub values_wrong: u64,
    /// Descriptions of the first few wrong values.
    pub wrong_examples: Vec<String>,
}

/// Wrong values that are described, of each client.
pub const WRONG_EXAMPLES_MAX: usize = 4;

impl Default for Measurement {
    fn default() -> Measurement {
        Measurement {
            latency_ns: latencies(),
            elapsed: Duration::ZERO,
            results: BTreeMap::new(),
            busy: 0,
            errors: BTreeMap::new(),
            udma_operations: 0,
            suspensions: 0,
            places: BTreeMap::new(),
            values_checked: 0,
            values_wrong: 0,
            wrong_examples: Vec::new(),
        }
    }
}

impl Measurement {
    /// Answered requests.
    pub fn requests(&self) -> u64 {
        self.results.values().sum::<u64>() + self.errors.values().sum::<u64>()
    }

    /// Answered requests a second.
    pub fn throughput_ops_per_second(&self) -> f64 {
        ratio(self.requests() as f64, self.elapsed.as_secs_f64())
    }

    /// UDMA operations of a request, on average.
    pub fn udma_operations_per_request(&self) -> f64 {
        ratio(self.udma_operations as f64, self.requests() as f64)
    }

    /// Suspensions of a request, on average.
    pub fn suspensions_per_request(&self) -> f64 {
        ratio(self.suspensions as f64, self.requests() as f64)
    }

    /// Latency in microseconds below which `percentile` percent of the requests were answered.
    pub fn latency_us(&self, percentile: f64) -> f64 {
        self.latency_ns.value_at_percentile(percentile) as f64 / 1000.0
    }

    /// The longest latency in microseconds.
    pub fn latency_us_max(&self) -> f64 {
        self.latency_ns.max() as f64 / 1000.0
    }

    /// Notes a wrong value.
    pub fn wrong_value(&mut self, description: impl FnOnce() -> String) {
        self.values_wrong += 1;
        if self.wrong_examples.len() < WRONG_EXAMPLES_MAX {
            self.wrong_examples.push(description());
        }
    }

    /// What must not have happened at any time: all that counts of an interval which is not measured.
    pub fn only_wrong(mut self) -> Measurement {
        self.results.remove(&crate::mica::OK);
        Measurement {
            results: self.results,
            errors: self.errors,
            values_wrong: self.values_wrong,
            wrong_examples: self.wrong_examples,
            ..Measurement::default()
        }
    }

    /// Adds what another client counted during the same time.
    pub fn add_client(&mut self, other: Measurement) {
        let elapsed = self.elapsed.max(other.elapsed);
        self.add_counts(other);
        self.elapsed = elapsed;
    }

    /// Adds what was counted in another turn.
    pub fn add_turn(&mut self, other: Measurement) {
        let elapsed = self.elapsed + other.elapsed;
        self.add_counts(other);
        self.elapsed = elapsed;
    }

    fn add_counts(&mut self, other: Measurement) {
        self.latency_ns.add(&other.latency_ns).expect("both histograms have the same bounds");
        for (result, count) in other.results {
            *self.results.entry(result).or_default() += count;
        }
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        for (place, counts) in other.places {
            let own = self.places.entry(place).or_default();
            own.latency_ns.add(&counts.latency_ns).expect("both histograms have the same bounds");
            own.udma_operations += counts.udma_operations;
            own.suspensions += counts.suspensions;
        }
        self.busy += other.busy;
        self.udma_operations += other.udma_operations;
        self.suspensions += other.suspensions;
        self.values_checked += other.values_checked;
        self.values_wrong += other.values_wrong;
        self.wrong_examples.extend(other.wrong_examples);
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The ratios of the turns of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratios {
    /// One a turn, in order.
    pub turns: Vec<f64>,
}

impl Ratios {
    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.turns.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            length if length % 2 == 1 => sorted[length / 2],
            length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
        }
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.turns.iter().copied().min_by(f64::total_cmp).unwrap_or(0.0)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.turns.iter().copied().max_by(f64::total_cmp).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(seconds: u64, results: &[(i32, u64)]) -> Measurement {
        let mut measurement = Measurement { elapsed: Duration::from_secs(seconds), udma_operations: 30, ..Measurement::default() };
        for (result, count) in results {
            measurement.results.insert(*result, *count);
            measurement.latency_ns.record_n(2000, *count).unwrap();
        }
        measurement
    }

    /// Clients share the time, turns follow each other.
    #[test]
    fn clients_and_turns_add_up() {
        let mut clients = measured(2, &[(0, 10)]);
        clients.add_client(measured(2, &[(0, 10), (1, 20)]));
        assert_eq!((clients.requests(), clients.elapsed.as_secs()), (40, 2));
        assert_eq!(clients.throughput_ops_per_second(), 20.0);
        clients.add_turn(measured(2, &[(1, 40)]));
        assert_eq!((clients.requests(), clients.elapsed.as_secs()), (80, 4));
        assert_eq!(clients.results, BTreeMap::from([(0, 20), (1, 60)]));
        assert_eq!(clients.udma_operations_per_request(), 90.0 / 80.0);
        assert_eq!(clients.latency_ns.len(), 80);
        assert!((clients.latency_us(50.0) - 2.0).abs() < 0.002);
    }

    /// Nothing measured is zero, not a division by it.
    #[test]
    fn empty_measurements_are_zero() {
        let empty = Measurement::default();
        assert_eq!((empty.throughput_ops_per_second(), empty.suspensions_per_request(), empty.latency_us_max()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn medians_are_in_the_middle() {
        let ratios = |turns: &[f64]| Ratios { turns: turns.to_vec() };
        assert_eq!(ratios(&[0.9, 0.7, 0.8]).median(), 0.8);
        assert!((ratios(&[0.9, 0.7, 0.8, 1.0]).median() - 0.85).abs() < 1e-12);
        assert_eq!((ratios(&[0.9, 0.7]).min(), ratios(&[0.9, 0.7]).max()), (0.7, 0.9));
        assert_eq!(ratios(&[]).median(), 0.0);
    }

    /// A worker that was not there at both readings, or in every turn, has no share: its number says nothing of another one's work.
    #[test]
    fn unknown_work_is_left_out() {
        let worker = |place, incarnation, executor| Worker { place, incarnation, executor };
        let (host, nic) = (worker(Place::Host, 1, 1), worker(Place::Nic, 1, 2));
        // The NIC's place dies and is started again, under the same number and under another one.
        let (same, other) = (worker(Place::Nic, 2, 2), worker(Place::Nic, 2, 3));
        let before = BusyNs::from([(host, 1_000_000_000), (nic, 7_000_000_000)]);
        let share = |after: BusyNs| busy_percent(&before, &after, Duration::from_secs(2));
        assert_eq!(share([(host, 2_000_000_000), (same, 7_500_000_000)].into()), [(host, 50.0)].into());
        assert_eq!(share([(host, 2_000_000_000), (other, 10)].into()), [(host, 50.0)].into());
        let both = share([(host, 1_500_000_000), (nic, 99_000_000_000)].into());
        assert_eq!(both, [(host, 25.0), (nic, 100.0)].into());
        assert_eq!(mean_percent(&[both.clone(), [(host, 75.0), (other, 1.0)].into()]), [(host, 50.0)].into());
        assert_eq!(mean_percent(&[both, BusyPercent::new()]), BusyPercent::new());
    }

    /// A thousand wrong values are counted, a few described.
    #[test]
    fn wrong_values_are_counted_and_a_few_described() {
        let mut measurement = Measurement::default();
        (0..1000).for_each(|number| measurement.wrong_value(|| format!("record {number}")));
        assert_eq!((measurement.values_wrong, measurement.wrong_examples.len()), (1000, WRONG_EXAMPLES_MAX));
    }
}
