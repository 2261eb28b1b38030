//! The command line: every flag once, with its help; and what of it cannot be asked for.

mod invoke;
mod redis;

pub use invoke::Invoke;
pub use redis::{Baseline, Redis};

use crate::mica::{HEAP_BYTES_MAX, heap_bytes};
use crate::workload::distribution::Distribution;
use crate::workload::keys::{KEY_BYTES_MAX, KEY_BYTES_MIN};
use crate::workload::mix::{Mix, Workload};
use crate::workload::stream::RECORDS_MAX;
use crate::workload::values::{VALUE_BYTES_MAX, VALUE_BYTES_MIN};
use crate::workload::versions::WRITES_UNDER_WAY_MAX;
use clap::{Args, Parser, Subcommand, ValueEnum};
use runtime::supervisor::EXECUTORS_MAX;
use serde::Serialize;

/// Clients of one run at most; each is a thread.
pub const CLIENTS_MAX: u64 = 64;
/// Seconds of one measurement at most.
pub const SECONDS_MAX: f64 = 86_400.0;

/// Drives YCSB workloads against NAAM and reports throughput, latency and what each request cost
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  naam-bench ycsb                                 a cluster of its own, a million records
  naam-bench ycsb --workload A --clients 2 --host 2
  naam-bench ycsb --compare native                what portability costs
  naam-bench ycsb --cluster staging --json        against a cluster that runs
  naam-bench baseline redis                       the same requests against Redis
  naam-bench invoke tally/tally --template t.json     messages of your own against a cluster that runs

Exit codes: 0 the report stands, 1 a wrong value or a failed request, 2 usage.";

/// The experiments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves a YCSB mix from MICA's hash table and checks every value that is read
    ///
    /// Loads the records, draws the requests, runs them in a closed loop, and prints a report. Without --cluster it starts a cluster of
    /// its own.
    #[command(after_help = EXAMPLES)]
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
    /// Records that are loaded before the run
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=RECORDS_MAX / 2), help_heading = "Workload")]
    pub records: u64,
    /// Bytes of each key: 8 to 64
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u16).range(KEY_BYTES_MIN as i64..=KEY_BYTES_MAX as i64), help_heading = "Workload")]
    pub key_bytes: u16,
    /// Bytes of each value: 8 to 1024
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u16).range(VALUE_BYTES_MIN as i64..=VALUE_BYTES_MAX as i64), help_heading = "Workload")]
    pub value_bytes: u16,
    /// Which records are asked for [default: the workload's own: scrambled-zipfian, or latest for D]
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Workload")]
    pub distribution: Option<Distribution>,
    /// Seed of the request stream
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Workload")]
    pub seed: u64,

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
    /// Use the running cluster of this name instead of starting one; it has its own executors and engine, so this excludes --host,
    /// --engine and --compare
    #[arg(long, value_name = "NAME", conflicts_with_all = ["host", "engine", "compare"], help_heading = "Server")]
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

impl Ycsb {
    /// The operations, or why they cannot be served: a usage error.
    pub fn mix(&self) -> Result<Mix, String> {
        if self.clients * self.window > WRITES_UNDER_WAY_MAX as u64 {
            return Err(format!(
                "--clients times --window is {}; at most {WRITES_UNDER_WAY_MAX} requests can be under way",
                self.clients * self.window
            ));
        }
        if self.compare.is_some() && self.engine == Engine::Native {
            return Err("--engine native is what --compare native compares with: choose jit or interpreter".to_owned());
        }
        let mix = self.workload.mix().ok_or_else(|| {
            "workload E scans ranges, which a hash table cannot serve: it waits for Cell, an ordered structure that is not there yet".to_owned()
        })?;
        let heap_bytes = heap_bytes(self.records, usize::from(self.key_bytes), usize::from(self.value_bytes), 0);
        if heap_bytes > HEAP_BYTES_MAX {
            return Err(format!(
                "{} records of {} and {} bytes take {} GiB; a table has at most {} GiB",
                self.records,
                self.key_bytes,
                self.value_bytes,
                heap_bytes >> 30,
                HEAP_BYTES_MAX >> 30
            ));
        }
        Ok(mix)
    }

    /// The distribution in use.
    pub fn distribution(&self) -> Distribution {
        self.distribution.unwrap_or(self.workload.distribution())
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
            "Examples:".to_owned(),
        ] {
            assert!(help.contains(&limits), "{limits:?} is missing: {help}");
        }
    }

    /// What the first measurement of a newcomer is.
    #[test]
    fn defaults_are_the_documented_ones() {
        let ycsb = ycsb(&[]).unwrap();
        assert_eq!((ycsb.workload, ycsb.records, ycsb.key_bytes, ycsb.value_bytes), (Workload::B, 1_000_000, 8, 64));
        assert_eq!((ycsb.clients, ycsb.window, ycsb.host, ycsb.seed, ycsb.pairs), (1, 128, 1, 1, 5));
        assert_eq!((ycsb.engine, ycsb.distribution(), ycsb.json), (Engine::Jit, Distribution::ScrambledZipfian, false));
        assert!(ycsb.mix().is_ok());
    }

    /// Every line is refused as a usage error, by clap or by `mix`; its twin beside it is taken.
    #[test]
    fn impossible_requests_are_refused() {
        let twins: [(&[&str], &[&str]); 13] = [
            (&["--workload", "G"], &["--workload", "d"]),
            (&["--workload", "E"], &["--workload", "F"]),
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
        let taken = |arguments: &[&str]| ycsb(arguments).is_ok_and(|ycsb| ycsb.mix().is_ok());
        for (refused, twin) in twins {
            assert!(!taken(refused), "{refused:?} was taken");
            assert!(taken(twin), "{twin:?} was refused");
        }
    }
}
