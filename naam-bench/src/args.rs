//! The command line: every flag once, with its help; and what of it cannot be asked for.

mod invoke;
mod redis;

pub use invoke::{Invoke, MESSAGES_DEFAULT};
pub use redis::{Baseline, Redis};

use crate::application::Application;
use crate::cell::Shape;
use crate::mica::{HEAP_BYTES_MAX, heap_bytes};
use crate::workload::distribution::Distribution;
use crate::workload::keys::{KEY_BYTES_MAX, KEY_BYTES_MIN};
use crate::workload::mix::{Mix, Workload};
use crate::workload::stream::RECORDS_MAX;
use crate::workload::values::{VALUE_BYTES_MAX, VALUE_BYTES_MIN};
use crate::workload::versions::WRITES_UNDER_WAY_MAX;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use runtime::supervisor::EXECUTORS_MAX;
use runtime::udma::dma::{LATENCY_NS_DEFAULT, LATENCY_NS_MAX};
use serde::Serialize;
use std::ops::RangeInclusive;

/// Clients of one run at most; each is a thread.
pub const CLIENTS_MAX: u64 = 64;
/// Records that a scan of YCSB-E asks for at most.
pub const SCAN_RECORDS_MAX: u64 = 100;
/// Bytes of a tree node unless something else is asked for: the handlers' own default.
const NODE_BYTES_DEFAULT: u64 = 1024;
/// Seconds of one measurement at most.
pub const SECONDS_MAX: f64 = 86_400.0;

/// Drives workloads against NAAM and reports throughput, latency and what each request cost
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Of the command line. Ends the process if it is wrong.
    pub fn of_this_process() -> Arguments {
        let matches = naamc::quantity::values_may_be_negative(Arguments::command()).get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

const EXAMPLES: &str = "\
Examples:
  naam-bench ycsb                                 a cluster of its own, a million records
  naam-bench ycsb --compare native                what portability costs
  naam-bench cell --records 10M --mix lookup=100  lookups in Cell's tree
  naam-bench baseline redis                       the same requests against Redis
  naam-bench invoke tally/tally --template t.json your messages, to a running cluster

Exit codes: 0 the report stands, 1 a wrong value or a failed request, 2 usage.";

const YCSB_EXAMPLES: &str = "\
Examples:
  naam-bench ycsb                                 a cluster of its own, a million records
  naam-bench ycsb --workload A --clients 2 --host 2
  naam-bench ycsb --workload E                    scans and inserts, in Cell's tree
  naam-bench ycsb --place nic                     the same at the NIC
  naam-bench ycsb --compare native                what portability costs
  naam-bench ycsb --cluster staging --json        against a cluster that runs

Exit codes: 0 the report stands, 1 a wrong value or a failed request, 2 usage.";

const CELL_EXAMPLES: &str = "\
Examples:
  naam-bench cell                                 lookups in a tree of a million records
  naam-bench cell --records 10M --value-bytes 8
  naam-bench cell --mix lookup=90,scan=5,insert=5 --scan-records 50
  naam-bench cell --place client                  walked down from the client
  naam-bench cell --compare native                what portability costs

Exit codes: 0 the report stands, 1 a wrong value or a failed request, 2 usage.";

/// The experiments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves a YCSB mix from MICA's hash table, or E from Cell's tree, and checks every value that is read
    ///
    /// Loads the records, draws the requests, runs them in a closed loop, and prints a report. Without --cluster it starts a cluster of
    /// its own.
    #[command(after_help = YCSB_EXAMPLES)]
    Ycsb(Box<Ycsb>),
    /// Serves the same requests from NAAM and from another server, and reports the ratio
    Baseline {
        /// The other server.
        #[command(subcommand)]
        baseline: Baseline,
    },
    /// Sends messages drawn from a template to a handler of a running cluster, and counts what comes back
    ///
    /// Draws and encodes the messages, sends them in a closed loop, and prints a report: throughput, latency, results, errors, and what
    /// each request cost.
    #[command(after_help = invoke::EXAMPLES)]
    Invoke(Box<Invoke>),
    /// Serves lookups, scans and inserts from Cell's B-link tree and checks every value that is read
    ///
    /// Builds the tree from sorted records, four fifths full, draws the requests, runs them in a closed loop, and prints a report. A scan may
    /// take several requests, one for each page of 4 KiB.
    #[command(after_help = CELL_EXAMPLES)]
    Cell(Box<Cell>),
}

/// Which engine serves the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The handlers, compiled to machine code
    Jit,
    /// The handlers, interpreted
    Interpreter,
    /// The same accesses in native Rust: the yardstick
    Native,
}

impl Engine {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Jit => "jit",
            Engine::Interpreter => "interpreter",
            Engine::Native => "native",
        }
    }
}

/// Where requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaceChoice {
    /// On the host's executors
    Host,
    /// On the NIC's
    Nic,
    /// In the client's own process, if they only read and need few UDMA operations; the others on the host's executors
    Client,
    /// A third of the flows at each
    Mixed,
}

impl PlaceChoice {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            PlaceChoice::Host => "host",
            PlaceChoice::Nic => "nic",
            PlaceChoice::Client => "client",
            PlaceChoice::Mixed => "mixed",
        }
    }

    /// Whether a NIC takes part.
    pub fn needs_nic(self) -> bool {
        matches!(self, PlaceChoice::Nic | PlaceChoice::Mixed)
    }

    /// Whether clients serve requests themselves.
    pub fn needs_client(self) -> bool {
        matches!(self, PlaceChoice::Client | PlaceChoice::Mixed)
    }
}

/// What a run can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Yardstick {
    /// The same accesses in native Rust
    Native,
}

/// `naam-bench ycsb`.
#[derive(Args, Clone, Debug)]
pub struct Ycsb {
    /// The mix of operations, as YCSB names it
    #[arg(long, value_enum, default_value = "B", ignore_case = true, help_heading = "Workload")]
    pub workload: Workload,
    /// Bytes of each key: 8 to 64; 8 for E
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u16).range(KEY_BYTES_MIN as i64..=KEY_BYTES_MAX as i64), help_heading = "Workload")]
    pub key_bytes: u16,
    /// What every experiment has.
    #[command(flatten)]
    pub common: Common,
}

/// `naam-bench cell`.
#[derive(Args, Clone, Debug)]
#[command(mut_args(in_words_of_cell))]
pub struct Cell {
    /// Shares of lookups, scans and inserts, in percent, like lookup=90,scan=5,insert=5
    #[arg(long, value_name = "SHARES", default_value = "lookup=100", value_parser = cell_mix, help_heading = "Workload")]
    pub mix: Mix,
    /// Records that a scan asks for at most: 1 to 65535, each number as often
    #[arg(long, value_name = "N", default_value_t = SCAN_RECORDS_MAX, value_parser = clap::value_parser!(u64).range(1..=65_535), help_heading = "Workload")]
    pub scan_records: u64,
    /// What every experiment has.
    #[command(flatten)]
    pub common: Common,
}

/// What is true of every experiment in `cell`'s own words.
fn in_words_of_cell(argument: clap::Arg) -> clap::Arg {
    match argument.get_id().as_str() {
        "distribution" => argument.help("Which records are asked for [default: scrambled-zipfian]"),
        "value_bytes" => argument.help("Bytes of each value: 8 to 1024, and as many as the tree nodes allow"),
        _ => argument,
    }
}

/// What every experiment has.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Records that are loaded before the run; 1M is a million
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = count(1..=RECORDS_MAX / 2), help_heading = "Workload")]
    pub records: u64,
    /// Bytes of each value: 8 to 1024; in Cell's tree as many as the tree nodes allow
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u16).range(VALUE_BYTES_MIN as i64..=VALUE_BYTES_MAX as i64), help_heading = "Workload")]
    pub value_bytes: u16,
    /// Which records are asked for [default: the workload's own: scrambled-zipfian, or latest for D]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Workload")]
    pub distribution: Option<Distribution>,
    /// Seed of the request stream
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Workload")]
    pub seed: u64,
    /// Bytes of a node of Cell's tree: 512, 1024 or 2048 [default: 1024]
    #[arg(long, value_name = "B", value_parser = node_bytes, help_heading = "Workload")]
    pub node_bytes: Option<u64>,

    /// Seconds to measure, of each engine
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds, help_heading = "Load")]
    pub seconds: f64,
    /// Clients, each with a session and a thread of its own: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX), help_heading = "Load")]
    pub clients: u64,
    /// Requests that each client keeps under way: 1 to 4095, and no more for all clients together
    #[arg(long, value_name = "W", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=WRITES_UNDER_WAY_MAX as u64), help_heading = "Load")]
    pub window: u64,

    /// What serves the requests
    #[arg(long, value_enum, default_value = "jit", help_heading = "Server")]
    pub engine: Engine,
    /// Executors of the host place, each a thread: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=u64::from(EXECUTORS_MAX)), help_heading = "Server")]
    pub host: u64,
    /// Where requests run while they are measured; `mixed` is a third of the flows at each of the three. They are loaded and checked at the
    /// host
    #[arg(long, value_enum, default_value = "host", help_heading = "Server")]
    pub place: PlaceChoice,
    /// Executors of the NIC place, each a thread: 0 to 64 [default: 1 if --place needs one, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=u64::from(EXECUTORS_MAX)), help_heading = "Server")]
    pub nic: Option<u64>,
    /// Latency of the NIC's DMA engine in nanoseconds, if there is a NIC [default: 547]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=LATENCY_NS_MAX), help_heading = "Server")]
    pub dma_latency_ns: Option<u64>,
    /// Use the running cluster of this name instead of starting one; it has its own places, flows and engine, so this excludes --host,
    /// --nic, --dma-latency-ns, --place, --engine and --compare
    #[arg(long, value_name = "NAME", conflicts_with_all = ["host", "engine", "compare", "place", "nic", "dma_latency_ns"], help_heading = "Server")]
    pub cluster: Option<String>,
    /// Run this too, in turns over the same records and requests, and report the ratio
    #[arg(long, value_enum, value_name = "YARDSTICK", help_heading = "Server")]
    pub compare: Option<Yardstick>,
    /// Turns of a comparison, 1 to 100; the time to measure is divided among them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100), requires = "compare", help_heading = "Server")]
    pub pairs: u64,

    /// Print the report as JSON (docs/formats/report.md)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// An experiment as it was asked for, with all that follows from that.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub experiment: &'static str,
    /// YCSB's letter, if it is one of YCSB's.
    pub workload: Option<Workload>,
    /// The operations.
    pub mix: Mix,
    /// The distribution in use.
    pub distribution: Distribution,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// The tree, if Cell serves and not MICA.
    pub shape: Option<Shape>,
    /// Records that a scan asks for at most.
    pub scan_records_max: u64,
    /// The rest.
    pub common: Common,
}

impl Plan {
    /// What serves it.
    pub fn application(&self) -> Application {
        if self.shape.is_some() { Application::Cell } else { Application::Mica }
    }
}

impl Ycsb {
    /// The experiment, or why it cannot be run: a usage error.
    pub fn plan(&self) -> Result<Plan, String> {
        let common = &self.common;
        common.check()?;
        let shape = if self.workload == Workload::E {
            if self.key_bytes != 8 {
                return Err(format!("workload E is served by Cell's tree, whose keys have 8 bytes, not {}", self.key_bytes));
            }
            Some(common.shape()?)
        } else {
            if common.node_bytes.is_some() {
                return Err(format!(
                    "workload {:?} is served by MICA's table, which has no tree nodes: leave out --node-bytes",
                    self.workload
                ));
            }
            let heap_bytes = heap_bytes(common.records, usize::from(self.key_bytes), usize::from(common.value_bytes), 0);
            if heap_bytes > HEAP_BYTES_MAX {
                return Err(format!(
                    "{} records of {} and {} bytes take {} GiB; a table has at most {} GiB",
                    common.records,
                    self.key_bytes,
                    common.value_bytes,
                    heap_bytes >> 30,
                    HEAP_BYTES_MAX >> 30
                ));
            }
            None
        };
        Ok(Plan {
            experiment: "ycsb",
            workload: Some(self.workload),
            mix: self.workload.mix(),
            distribution: common.distribution.unwrap_or(self.workload.distribution()),
            key_bytes: usize::from(self.key_bytes),
            shape,
            scan_records_max: SCAN_RECORDS_MAX,
            common: common.clone(),
        })
    }
}

impl Cell {
    /// The experiment, or why it cannot be run: a usage error.
    pub fn plan(&self) -> Result<Plan, String> {
        self.common.check()?;
        Ok(Plan {
            experiment: "cell",
            workload: None,
            mix: self.mix,
            distribution: self.common.distribution.unwrap_or(Distribution::ScrambledZipfian),
            key_bytes: 8,
            shape: Some(self.common.shape()?),
            scan_records_max: self.scan_records,
            common: self.common.clone(),
        })
    }
}

impl Common {
    fn check(&self) -> Result<(), String> {
        if self.clients * self.window > WRITES_UNDER_WAY_MAX as u64 {
            return Err(format!(
                "--clients times --window is {}; at most {WRITES_UNDER_WAY_MAX} requests can be under way",
                self.clients * self.window
            ));
        }
        if self.place.needs_nic() && self.nic == Some(0) {
            return Err("--nic 0 leaves no NIC for --place".to_owned());
        }
        if self.dma_latency_ns.is_some() && self.nic_executors() == 0 {
            return Err("without a NIC nothing has a --dma-latency-ns: ask for one with --nic or --place".to_owned());
        }
        if self.place.needs_client() && (self.engine == Engine::Native || self.compare.is_some()) {
            return Err("native code runs at servers only: leave out --engine native and --compare, or choose --place host or nic"
                .to_owned());
        }
        if self.compare.is_some() && self.engine == Engine::Native {
            return Err("--engine native is what --compare native compares with: choose jit or interpreter".to_owned());
        }
        Ok(())
    }

    /// Executors of the NIC place.
    pub fn nic_executors(&self) -> u16 {
        self.nic.unwrap_or(self.place.needs_nic().into()) as u16
    }

    /// Latency of its DMA engine; nothing without a NIC, or if a running cluster has its own.
    pub fn dma_latency_ns(&self) -> Option<u64> {
        let own = self.cluster.is_none() && self.nic_executors() > 0;
        own.then(|| self.dma_latency_ns.unwrap_or(LATENCY_NS_DEFAULT))
    }

    /// The tree that is asked for.
    fn shape(&self) -> Result<Shape, String> {
        let node_bytes = self.node_bytes.unwrap_or(NODE_BYTES_DEFAULT);
        Shape::new(node_bytes as usize, usize::from(self.value_bytes)).ok_or_else(|| {
            format!(
                "a tree node of {} bytes has no room for three records with values of {} bytes: choose a larger --node-bytes or shorter values",
                node_bytes, self.value_bytes
            )
        })
    }
}

/// Shares of Cell's operations.
fn cell_mix(text: &str) -> Result<Mix, String> {
    let mut mix = Mix { read_percent: 0, update_percent: 0, insert_percent: 0, read_modify_write_percent: 0, scan_percent: 0 };
    for part in text.split(',') {
        let (name, percent) = part.split_once('=').ok_or_else(|| format!("{part:?} is no share like lookup=95"))?;
        let percent = percent.trim().parse::<u8>().map_err(|_| format!("{percent:?} is no percentage"))?;
        match name.trim() {
            "lookup" => mix.read_percent = percent,
            "scan" => mix.scan_percent = percent,
            "insert" => mix.insert_percent = percent,
            name => return Err(format!("{name:?} is none of lookup, scan and insert")),
        }
    }
    match mix.percentages().iter().map(|percent| u32::from(*percent)).sum::<u32>() {
        100 => Ok(mix),
        sum => Err(format!("the shares add up to {sum} %, not to 100 %")),
    }
}

/// A parser of counts in this range, as people write them.
fn count(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = u64::try_from(naamc::quantity::parse_count(text)?).ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be {} to {}", range.start(), range.end()))
    }
}

fn node_bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes @ (512 | 1024 | 2048)) => Ok(bytes),
        _ => Err("a tree node has 512, 1024 or 2048 bytes".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds > 0.0 && seconds <= SECONDS_MAX { Ok(seconds) } else { Err(format!("must be above 0 and at most {SECONDS_MAX}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn ycsb(arguments: &[&str]) -> Result<Ycsb, clap::Error> {
        let all = ["naam-bench", "ycsb"].iter().chain(arguments);
        Arguments::try_parse_from(all).map(|arguments| {
            let Command::Ycsb(ycsb) = arguments.command else { panic!("it is ycsb") };
            *ycsb
        })
    }

    fn cell(arguments: &[&str]) -> Result<Plan, String> {
        let all = ["naam-bench", "cell"].iter().chain(arguments);
        match Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Cell(cell) => cell.plan(),
            _ => panic!("`cell` was asked for"),
        }
    }

    /// clap's own check of the definitions.
    #[test]
    fn definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    /// Limits that the help tells are the ones that hold.
    #[test]
    fn help_tells_the_limits() {
        let help = Arguments::command().find_subcommand_mut("ycsb").expect("there is ycsb").render_long_help().to_string();
        for limits in [
            format!("{KEY_BYTES_MIN} to {KEY_BYTES_MAX}"),
            format!("{VALUE_BYTES_MIN} to {VALUE_BYTES_MAX}"),
            format!("thread of its own: 1 to {CLIENTS_MAX}"),
            format!("each a thread: 1 to {EXECUTORS_MAX}"),
            format!("1 to {WRITES_UNDER_WAY_MAX}, and no more"),
            format!("if there is a NIC [default: {LATENCY_NS_DEFAULT}]"),
            format!("512, 1024 or 2048 [default: {NODE_BYTES_DEFAULT}]"),
            "Examples:".to_owned(),
        ] {
            assert!(help.contains(&limits), "{limits:?} is missing: {help}");
        }
    }

    /// Each command's help speaks of that command, in lines that fit a terminal.
    #[test]
    fn helps_are_their_own() {
        let help = |name: &str| Arguments::command().find_subcommand_mut(name).expect("it is there").render_long_help().to_string();
        let (ycsb, cell) = (help("ycsb"), help("cell"));
        assert!(ycsb.contains("the workload's own") && !cell.contains("the workload's own"), "{cell}");
        let examples = cell.split("Examples:").nth(1).expect("there are examples");
        assert!(examples.contains("naam-bench cell") && !examples.contains("naam-bench ycsb"), "{examples}");
        for line in [EXAMPLES, YCSB_EXAMPLES, CELL_EXAMPLES].iter().flat_map(|text| text.lines()) {
            assert!(line.len() <= 110, "{line:?}");
        }
    }

    /// What the first measurement of a newcomer is.
    #[test]
    fn defaults_are_the_documented_ones() {
        let ycsb = ycsb(&[]).unwrap();
        let plan = ycsb.plan().unwrap();
        let common = &plan.common;
        assert_eq!((plan.workload, common.records, plan.key_bytes, common.value_bytes), (Some(Workload::B), 1_000_000, 8, 64));
        assert_eq!((common.clients, common.window, common.host, common.seed, common.pairs), (1, 128, 1, 1, 5));
        assert_eq!((common.engine, plan.distribution, common.json), (Engine::Jit, Distribution::ScrambledZipfian, false));
        assert_eq!(plan.application(), Application::Mica);
        let plan = cell(&[]).unwrap();
        assert_eq!((plan.mix, plan.application(), plan.scan_records_max), (Workload::C.mix(), Application::Cell, 100));
    }

    /// Every line is refused as a usage error, by clap or by `plan`; its twin beside it is taken.
    #[test]
    fn impossible_requests_are_refused() {
        let twins: [(&[&str], &[&str]); 18] = [
            (&["--workload", "G"], &["--workload", "d"]),
            (&["--workload", "E", "--key-bytes", "9"], &["--workload", "F", "--key-bytes", "9"]),
            (&["--workload", "E", "--value-bytes", "233"], &["--workload", "E", "--value-bytes", "232"]),
            (&["--workload", "E", "--node-bytes", "1000"], &["--workload", "E", "--node-bytes", "512"]),
            (&["--workload", "B", "--node-bytes", "512"], &["--workload", "E", "--node-bytes", "512"]),
            (&["--dma-latency-ns", "5000"], &["--dma-latency-ns", "5000", "--nic", "1"]),
            (&["--dma-latency-ns", "0", "--place", "client"], &["--dma-latency-ns", "0", "--place", "nic"]),
            (&["--records", "0"], &["--records", "1"]),
            (&["--key-bytes", "7"], &["--key-bytes", "8"]),
            (&["--key-bytes", "65"], &["--key-bytes", "64"]),
            (&["--value-bytes", "7"], &["--value-bytes", "8"]),
            (&["--value-bytes", "1025"], &["--value-bytes", "1024"]),
            (&["--seconds", "0"], &["--seconds", "0.5"]),
            (&["--seconds", "NaN"], &["--seconds", "1e1"]),
            (&["--clients", "32", "--window", "128"], &["--clients", "31", "--window", "128"]),
            (&["--cluster", "x", "--engine", "native"], &["--cluster", "x"]),
            (&["--pairs", "3"], &["--pairs", "3", "--compare", "native"]),
            (&["--engine", "native", "--compare", "native"], &["--engine", "interpreter", "--compare", "native"]),
        ];
        let taken = |arguments: &[&str]| ycsb(arguments).is_ok_and(|ycsb| ycsb.plan().is_ok());
        for (refused, twin) in twins {
            assert!(!taken(refused), "{refused:?} was taken");
            assert!(taken(twin), "{twin:?} was refused");
        }
    }

    /// Counts are read as people write them, and what is wrong with others is said.
    #[test]
    fn counts_have_units() {
        let count = count(1..=5_000_000_000);
        for (text, number) in [("1", 1), ("4096", 4096), ("64K", 64_000), ("2k", 2000), ("1M", 1_000_000), ("5G", 5_000_000_000)] {
            assert_eq!(count(text), Ok(number), "{text}");
        }
        for (text, reason) in [
            ("1X", "\"X\" is no unit"),
            ("1MiB", "\"MiB\" is no unit"),
            ("1.5M", "expected a whole number"),
            ("M", "expected a whole number"),
            ("", "expected a whole number"),
            ("0", "must be 1 to 5000000000"),
            ("6G", "must be 1 to"),
            ("99999999999999999G", "must be 1 to"),
        ] {
            let error = count(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(ycsb(&["--records", "10M"]).unwrap().common.records, 10_000_000);
    }

    /// Mixes of Cell are complete and name what it serves.
    #[test]
    fn mixes_of_cell_are_complete() {
        let plan = cell(&["--mix", "lookup=50,scan=30, insert=20"]).unwrap();
        assert_eq!((plan.mix.read_percent, plan.mix.scan_percent, plan.mix.insert_percent), (50, 30, 20));
        for refused in ["lookup", "lookup=99", "lookup=100,scan=100", "update=100", "lookup=x"] {
            assert!(cell(&["--mix", refused]).is_err(), "{refused} was taken");
        }
    }
}
