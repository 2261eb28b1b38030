//! The report of an experiment: everything that was measured, and everything that makes it comparable.
//!
//! [`Report`] is the JSON output as it stands (`docs/formats/report.md` describes every field); [`text`] is what a terminal shows.

pub mod baseline;
pub mod invoke;
pub mod text;

use crate::application::Application;
use crate::args::{Engine, PlaceChoice};
use crate::measurement::{AtPlace, BusyPercent, Measurement, Ratios, Worker};
use crate::workload::distribution::{Distribution, THETA};
use crate::workload::mix::{Mix, Workload};
use runtime::message;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the report's fields.
pub const FORMAT: u32 = 0;

/// A whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of naam-bench.
    pub version: &'static str,
    /// The experiment: `ycsb` or `cell`.
    pub experiment: &'static str,
    /// What was asked.
    pub parameters: Parameters,
    /// Where it ran.
    pub machine: Machine,
    /// How long it took to draw all streams before that.
    pub draw_seconds: f64,
    /// The load before the run.
    pub load: Load,
    /// The run of the engine that was asked for.
    #[serde(flatten)]
    pub run: Run,
    /// Records that were read and checked once more after the run: all that there were.
    pub records_checked_at_end: u64,
    /// The comparison, if one was asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// What makes two reports comparable: the workload and the set-up.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    /// YCSB's letter, if it is one of YCSB's workloads.
    pub workload: Option<Workload>,
    /// What serves.
    pub application: Application,
    /// Shares of its operations.
    pub mix: Mix,
    /// Records that a scan asks for at most; nothing if there are no scans.
    pub scan_records_max: Option<u64>,
    /// Bytes of a tree node; nothing if no tree serves.
    pub node_bytes: Option<u64>,
    /// The request distribution.
    pub distribution: Distribution,
    /// Skew of a Zipfian.
    pub zipfian_theta: Option<f64>,
    /// Records that were loaded.
    pub records: u64,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a value.
    pub value_bytes: u64,
    /// Seed of the request streams.
    pub seed: u64,
    /// Requests of each client's stream before it repeats.
    pub stream_requests: u64,
    /// Clients.
    pub clients: u64,
    /// Requests under way of each client: a closed loop.
    pub window_requests: u64,
    /// How requests travel.
    pub transport: String,
    /// The engine that was asked for, or that of the running cluster.
    pub engine: Engine,
    /// Where requests were to run; nothing if the running cluster decides.
    pub place: Option<PlaceChoice>,
    /// Latency of the NIC's DMA engine; nothing without a NIC, or if the running cluster has its own.
    pub dma_latency_ns: Option<u64>,
    /// The places that serve, with their executors.
    pub places: Vec<Place>,
    /// The running cluster that was used, or nothing if naam-bench started its own.
    pub cluster: Option<String>,
    /// Bytes of each region of the store.
    pub regions: BTreeMap<String, u64>,
}

/// A place.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// Its kind: `host`, `nic` or `client`.
    pub kind: String,
    /// Its executors.
    pub executors: u64,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: u64,
    /// The processor's name.
    pub cpu_model: String,
    /// The kernel's release.
    pub kernel: String,
}

/// The load phase.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Records inserted.
    pub records: u64,
    /// Time it took.
    pub seconds: f64,
    /// Inserts a second.
    pub throughput_ops_per_second: f64,
}

/// What one engine did.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What served, by its name.
    pub engine: &'static str,
    /// Measured time.
    pub seconds: f64,
    /// Requests answered in it.
    pub requests: u64,
    /// Requests a second.
    pub throughput_ops_per_second: f64,
    /// How long requests took.
    #[serde(flatten)]
    pub latency: Latency,
    /// UDMA operations of a request, on average; nothing for a server that knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udma_operations_per_request: Option<f64>,
    /// Suspensions of a request, on average; nothing for a server that knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspensions_per_request: Option<f64>,
    /// What each place did, if there are several that did anything, or another one than the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceRun>,
    /// Share of the measured time in which the executors worked, in percent, each.
    pub executor_utilisation_percent: Vec<f64>,
    /// Handler results by name.
    pub results: BTreeMap<&'static str, u64>,
    /// Requests that were answered `Busy` and sent again.
    pub busy: u64,
    /// Requests that ended in an error, by its text.
    pub errors: BTreeMap<String, u64>,
    /// Values read and checked.
    pub values_checked: u64,
    /// Values that were wrong.
    pub values_wrong: u64,
    /// The first few wrong values, described.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong_examples: Vec<String>,
}

/// How long requests took, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Median.
    #[serde(rename = "latency_us_p50")]
    pub p50_us: f64,
    /// 90th percentile.
    #[serde(rename = "latency_us_p90")]
    pub p90_us: f64,
    /// 99th percentile.
    #[serde(rename = "latency_us_p99")]
    pub p99_us: f64,
    /// 99.9th percentile.
    #[serde(rename = "latency_us_p99_9")]
    pub p99_9_us: f64,
    /// 99.99th percentile.
    #[serde(rename = "latency_us_p99_99")]
    pub p99_99_us: f64,
    /// The longest.
    #[serde(rename = "latency_us_max")]
    pub max_us: f64,
}

impl Latency {
    /// Of all requests that were measured.
    fn of(measured: &Measurement) -> Latency {
        Latency {
            p50_us: measured.latency_us(50.0),
            p90_us: measured.latency_us(90.0),
            p99_us: measured.latency_us(99.0),
            p99_9_us: measured.latency_us(99.9),
            p99_99_us: measured.latency_us(99.99),
            max_us: measured.latency_us_max(),
        }
    }

    /// The rows of a text.
    const ROWS: [LatencyRow; 6] = [
        ("latency p50", |latency| latency.p50_us),
        ("        p90", |latency| latency.p90_us),
        ("        p99", |latency| latency.p99_us),
        ("        p99.9", |latency| latency.p99_9_us),
        ("        p99.99", |latency| latency.p99_99_us),
        ("        max", |latency| latency.max_us),
    ];
}

/// A label of a text, and its figure in microseconds.
type LatencyRow = (&'static str, fn(&Latency) -> f64);

/// What one place did.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceRun {
    /// `host`, `nic` or `client`.
    pub place: &'static str,
    /// Share of the answered requests.
    pub share_percent: f64,
    /// Requests a second.
    pub throughput_ops_per_second: f64,
    /// Median latency.
    pub latency_us_p50: f64,
    /// 99th percentile.
    pub latency_us_p99: f64,
    /// UDMA operations of a request, on average.
    pub udma_operations_per_request: f64,
    /// Suspensions of a request, on average.
    pub suspensions_per_request: f64,
    /// Share of the measured time in which its executors worked, in percent, each.
    pub executor_utilisation_percent: Vec<f64>,
}

impl PlaceRun {
    /// Of each place that answered requests.
    fn all(measured: &Measurement, busy: &BusyPercent) -> Vec<PlaceRun> {
        let (all, seconds) = (measured.requests().max(1) as f64, measured.elapsed.as_secs_f64().max(1e-9));
        let of = |(place, counts): (&message::Place, &AtPlace)| {
            let requests = counts.latency_ns.len() as f64;
            PlaceRun {
                place: place.name(),
                share_percent: rounded(100.0 * requests / all, 2),
                throughput_ops_per_second: rounded(requests / seconds, 1),
                latency_us_p50: counts.latency_ns.value_at_percentile(50.0) as f64 / 1000.0,
                latency_us_p99: counts.latency_ns.value_at_percentile(99.0) as f64 / 1000.0,
                udma_operations_per_request: rounded(counts.udma_operations as f64 / requests, 4),
                suspensions_per_request: rounded(counts.suspensions as f64 / requests, 4),
                executor_utilisation_percent: utilisation(busy, |worker| worker.place == *place),
            }
        };
        measured.places.iter().filter(|(_, counts)| !counts.latency_ns.is_empty()).map(of).collect()
    }
}

/// The shares of these workers.
fn utilisation(busy: &BusyPercent, of: impl Fn(&Worker) -> bool) -> Vec<f64> {
    busy.iter().filter(|(worker, _)| of(worker)).map(|(_, percent)| rounded(*percent, 1)).collect()
}

/// A run beside the one that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The yardstick's run.
    pub native: Run,
    /// Throughput of the engine over that of native code: median of the turns.
    pub ratio_to_native: f64,
    /// The smallest of the turns.
    pub ratio_to_native_min: f64,
    /// The largest of the turns.
    pub ratio_to_native_max: f64,
    /// Each turn, in order.
    pub ratio_to_native_turns: Vec<f64>,
}

impl Run {
    /// A run out of what was measured; `name` names the handlers' results.
    pub fn new(engine: &'static str, measured: &Measurement, busy: &BusyPercent, name: fn(i32) -> &'static str) -> Run {
        let mut places = PlaceRun::all(measured, busy);
        if places.iter().all(|run| run.place == message::Place::Host.name()) {
            places.clear();
        }
        let mut results = BTreeMap::new();
        for (result, count) in &measured.results {
            *results.entry(name(*result)).or_default() += count;
        }
        Run {
            engine,
            seconds: rounded(measured.elapsed.as_secs_f64(), 6),
            requests: measured.requests(),
            throughput_ops_per_second: rounded(measured.throughput_ops_per_second(), 1),
            latency: Latency::of(measured),
            udma_operations_per_request: Some(rounded(measured.udma_operations_per_request(), 4)),
            suspensions_per_request: Some(rounded(measured.suspensions_per_request(), 4)),
            places,
            executor_utilisation_percent: utilisation(busy, |_| true),
            results,
            busy: measured.busy,
            errors: measured.errors.clone(),
            values_checked: measured.values_checked,
            values_wrong: measured.values_wrong,
            wrong_examples: measured.wrong_examples.clone(),
        }
    }

    /// Whether there was a request, every one ended in the result that it had to, and every value was right.
    pub fn stands(&self) -> bool {
        self.requests > 0 && self.values_wrong == 0 && self.errors.is_empty() && self.results.keys().all(|name| *name == "ok")
    }
}

impl Comparison {
    /// A comparison out of the yardstick's run and the turns' ratios.
    pub fn new(native: Run, ratios: &Ratios) -> Comparison {
        Comparison {
            native,
            ratio_to_native: rounded(ratios.median(), 4),
            ratio_to_native_min: rounded(ratios.min(), 4),
            ratio_to_native_max: rounded(ratios.max(), 4),
            ratio_to_native_turns: ratios.turns.iter().map(|ratio| rounded(*ratio, 4)).collect(),
        }
    }
}

impl Report {
    /// Whether the report stands: no wrong value and no failed request in any run. Otherwise the program exits with 1.
    pub fn stands(&self) -> bool {
        self.run.stands() && self.comparison.as_ref().is_none_or(|comparison| comparison.native.stands())
    }
}

impl Parameters {
    /// The skew, for the distributions that have one.
    pub fn theta_of(distribution: Distribution) -> Option<f64> {
        (distribution != Distribution::Uniform).then_some(THETA)
    }
}

impl Machine {
    /// The machine under this process.
    pub fn here() -> Machine {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            cpu_model: cpu_model(&information).unwrap_or_else(|| format!("unknown {} processor", std::env::consts::ARCH)),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// The first processor's name in `/proc/cpuinfo`.
fn cpu_model(information: &str) -> Option<String> {
    let line = information.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// A figure with so many decimals: a report does not pretend to more than it knows.
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::time::Duration;

    /// Executors of these places, one after another, with their shares.
    pub fn busy(shares: &[(message::Place, f64)]) -> BusyPercent {
        let worker = |((place, percent), executor): (&(message::Place, f64), u16)| {
            (Worker { place: *place, incarnation: 1, executor }, *percent)
        };
        shares.iter().zip(1..).map(worker).collect()
    }

    /// A report with a part of the work at each place, which are the `places` of the run.
    pub fn mixed() -> Report {
        let mut report = sample(true);
        let mut measured = Measurement { elapsed: Duration::from_secs(2), ..Measurement::default() };
        for (place, latency_ns) in [(message::Place::Host, 20_000), (message::Place::Nic, 50_000), (message::Place::Client, 30_000)]
        {
            let at = measured.places.entry(place).or_default();
            at.latency_ns.record_n(latency_ns, 1000).unwrap();
            measured.latency_ns.record_n(latency_ns, 1000).unwrap();
            (at.udma_operations, at.suspensions) = (3000, 2000);
            measured.udma_operations += 3000;
            measured.suspensions += 2000;
            measured.values_checked += 1000;
        }
        measured.results = BTreeMap::from([(0, 3000)]);
        let shares = [(message::Place::Host, 10.0), (message::Place::Host, 20.0), (message::Place::Nic, 98.0)];
        report.run = Run::new("jit", &measured, &busy(&shares), |_| "ok");
        (report.parameters.place, report.parameters.dma_latency_ns) = (Some(PlaceChoice::Mixed), Some(1000));
        report.parameters.places =
            vec![Place { kind: "nic".to_owned(), executors: 1 }, Place { kind: "host".to_owned(), executors: 2 }];
        report
    }

    /// A report with every field filled, the same each time.
    pub fn sample(compared: bool) -> Report {
        let mut measured = Measurement { elapsed: Duration::from_millis(5000), ..Measurement::default() };
        for (latency_ns, count) in
            [(18_200, 16_000_000), (24_100, 15_700_000), (31_000, 350_000), (210_400, 11_000), (1_203_000, 725)]
        {
            measured.latency_ns.record_n(latency_ns, count).unwrap();
        }
        measured.results = BTreeMap::from([(0, 32_061_725)]);
        measured.udma_operations = 98_000_000;
        measured.suspensions = 38_750_000;
        measured.values_checked = 30_458_639;
        let name = |_| "ok";
        Report {
            format: FORMAT,
            version: "0.1.0",
            experiment: "ycsb",
            parameters: Parameters {
                workload: Some(Workload::B),
                application: Application::Mica,
                mix: Workload::B.mix(),
                scan_records_max: None,
                node_bytes: None,
                distribution: Distribution::Zipfian,
                zipfian_theta: Parameters::theta_of(Distribution::Zipfian),
                records: 1_000_000,
                key_bytes: 8,
                value_bytes: 64,
                seed: 1,
                stream_requests: 8_000_000,
                clients: 1,
                window_requests: 128,
                transport: "shared_memory".to_owned(),
                engine: Engine::Jit,
                place: Some(PlaceChoice::Host),
                dma_latency_ns: None,
                places: vec![Place { kind: "host".to_owned(), executors: 1 }],
                cluster: None,
                regions: BTreeMap::from([("blocks".to_owned(), 134_217_728), ("buckets".to_owned(), 16_777_216)]),
            },
            machine: Machine { cores: 2, cpu_model: "Example CPU".to_owned(), kernel: "6.18.0".to_owned() },
            draw_seconds: 0.25,
            load: Load { records: 1_000_000, seconds: 0.41, throughput_ops_per_second: 2_439_024.4 },
            run: Run::new("jit", &measured, &busy(&[(message::Place::Host, 97.12)]), name),
            records_checked_at_end: 1_000_000,
            comparison: compared.then(|| {
                measured.elapsed = Duration::from_millis(4100);
                let ratios = Ratios { turns: vec![0.81, 0.80, 0.84, 0.82, 0.83] };
                Comparison::new(Run::new("native", &measured, &busy(&[(message::Place::Host, 96.4)]), name), &ratios)
            }),
        }
    }

    /// Compares with a golden file under `testdata/reports`, which BLESS=1 rewrites.
    pub fn assert_golden(name: &str, actual: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/reports").join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, actual).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(actual, expected, "{} differs; BLESS=1 rewrites it", path.display());
    }

    /// The JSON is a promise to scripts: names, nesting and order are those of the golden file.
    #[test]
    fn json_is_the_golden_one() {
        let json = serde_json::to_string_pretty(&sample(true)).unwrap() + "\n";
        assert_golden("ycsb-compared.json", &json);
    }

    /// Every field of the JSON has its row in the documentation.
    #[test]
    fn every_field_is_documented() {
        let fields = assert_documented(&serde_json::to_value(mixed()).unwrap());
        assert!(fields > 60, "only {fields} fields were seen");
    }

    /// Looks every field up in the documentation, and returns how many there were.
    pub fn assert_documented(json: &serde_json::Value) -> usize {
        let documentation = include_str!("../../docs/formats/report.md");
        let mut open = vec![json];
        let mut fields = 0;
        while let Some(value) = open.pop() {
            let object = match value {
                serde_json::Value::Object(object) => object,
                serde_json::Value::Array(items) => {
                    open.extend(items);
                    continue;
                }
                _ => continue,
            };
            for (name, inner) in object {
                fields += 1;
                assert!(documentation.contains(&format!("`{name}`")), "`{name}` is not in docs/formats/report.md");
                if !["results", "errors", "refused", "regions", "template"].contains(&name.as_str()) {
                    open.push(inner);
                }
            }
        }
        fields
    }

    /// One wrong value, one error, one result that should not be, or no answer at all: each alone makes a report fall, in either run.
    #[test]
    fn a_report_falls_with_one_wrong_answer() {
        assert!(sample(true).stands());
        let spoil: [fn(&mut Run); 4] = [
            |run| run.requests = 0,
            |run| run.values_wrong = 1,
            |run| run.errors = BTreeMap::from([("uncertain".to_owned(), 1)]),
            |run| run.results = BTreeMap::from([("not_found", 1)]),
        ];
        for spoil in spoil {
            let (mut first, mut second) = (sample(true), sample(true));
            spoil(&mut first.run);
            spoil(&mut second.comparison.as_mut().unwrap().native);
            assert!(!first.stands() && !second.stands());
        }
    }

    #[test]
    fn processors_have_names() {
        assert_eq!(cpu_model("processor : 0\nmodel name\t: AMD EPYC 7763\n").as_deref(), Some("AMD EPYC 7763"));
        assert_eq!(cpu_model("processor : 0\n"), None);
        assert!(Machine::here().cores > 0);
    }
}
