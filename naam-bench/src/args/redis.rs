//! `naam-bench baseline redis`: the options of `ycsb`, but for those that make no sense beside a private server.

use super::{Plan, Ycsb};
use crate::application::Application;
use crate::workload::mix::Workload;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  naam-bench baseline redis                       YCSB-B over a million records, against Redis
  naam-bench baseline redis --workload A --distribution zipfian --window 256
  naam-bench baseline redis --server ~/valkey/src/valkey-server --json

A server that is installed is enough: naam-bench starts one of its own on a Unix socket in a private directory, which keeps nothing on
disk, and ends it. Reads are GET; updates and inserts are SET; a read-modify-write is GET and then SET.

Exit codes: 0 the report stands, 1 a wrong value or a failed request on either side, 2 usage.";

/// Other servers that can be measured.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    /// Serves a YCSB mix from NAAM and from Redis, in turns, and reports the ratio
    ///
    /// Both serve the same requests to the same number of clients with the same window; every value that is read from either is
    /// checked.
    #[command(after_help = EXAMPLES)]
    Redis(Box<Redis>),
}

/// `naam-bench baseline redis`.
#[derive(Args, Clone, Debug)]
#[command(mut_args(hide_foreign))]
pub struct Redis {
    /// The workload and the load, as for `ycsb`.
    #[command(flatten)]
    pub ycsb: Ycsb,
    /// The Redis server to start [default: redis-server or valkey-server in PATH]
    #[arg(long, value_name = "PATH", help_heading = "Redis")]
    pub server: Option<PathBuf>,
    /// Turns of each of the two, 1 to 100; the time to measure is divided among them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100), help_heading = "Redis")]
    pub turns: u64,
}

/// Options of `ycsb` that this does not have.
const FOREIGN: [&str; 4] = ["cluster", "compare", "pairs", "node_bytes"];

fn hide_foreign(argument: clap::Arg) -> clap::Arg {
    if argument.get_id() == "workload" {
        // E is understood, so that it can be said why it is refused.
        let shown = |workload: &Workload| Some(workload.to_possible_value()?.hide(*workload == Workload::E));
        let values = PossibleValuesParser::new(Workload::value_variants().iter().filter_map(shown));
        return argument.value_parser(values.try_map(|name| Workload::from_str(&name, true)));
    }
    if FOREIGN.contains(&argument.get_id().as_str()) { argument.hide(true) } else { argument }
}

impl Redis {
    /// The experiment, or why it cannot be run: a usage error.
    pub fn plan(&self) -> Result<Plan, String> {
        if self.ycsb.common.cluster.is_some() {
            return Err(
                "NAAM and Redis are compared on the same cores, each in a process of its own: leave out --cluster".to_owned()
            );
        }
        if self.ycsb.common.compare.is_some() {
            return Err("this compares with Redis, and --turns says how often: leave out --compare and --pairs".to_owned());
        }
        let plan = self.ycsb.plan()?;
        if plan.application() != Application::Mica {
            return Err("workload E scans ranges, which Redis's strings cannot serve: choose another one".to_owned());
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arguments, Command};
    use super::*;
    use clap::{CommandFactory, Parser};

    fn redis(arguments: &[&str]) -> Result<Redis, clap::Error> {
        let all = ["naam-bench", "baseline", "redis"].iter().chain(arguments);
        Arguments::try_parse_from(all).map(|arguments| {
            let Command::Baseline { baseline: Baseline::Redis(redis) } = arguments.command else { panic!("it is a baseline") };
            *redis
        })
    }

    /// The options are those of `ycsb`, and its defaults; what makes no sense here is neither shown nor taken.
    #[test]
    fn options_are_those_of_ycsb() {
        let defaults = redis(&[]).unwrap();
        assert_eq!((defaults.turns, defaults.server.is_none(), defaults.ycsb.common.records), (5, true, 1_000_000));
        assert!(defaults.plan().is_ok());
        let all = ["--workload", "F", "--clients", "2", "--window", "64", "--distribution", "uniform", "--turns", "100", "--json"];
        assert!(redis(&all).unwrap().plan().is_ok());
        let mut command = Arguments::command();
        let baseline = command.find_subcommand_mut("baseline").expect("there is baseline");
        let help = baseline.find_subcommand_mut("redis").expect("there is redis").render_long_help().to_string();
        for shown in ["--workload", "--window", "--turns", "--server", "Examples:"] {
            assert!(help.contains(shown), "{shown} is missing: {help}");
        }
        assert!(help.contains("- D: ") && !help.contains("- E: "), "{help}");
        assert_eq!(redis(&["--workload", "f"]).unwrap().ycsb.workload, Workload::F);
        assert!(redis(&["--workload", "E"]).unwrap().plan().unwrap_err().contains("scans ranges"));
        for hidden in FOREIGN {
            let hidden = hidden.replace('_', "-");
            assert!(!help.contains(&format!("--{hidden} ")), "--{hidden} is shown: {help}");
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let refused: [&[&str]; 7] = [
            &["--node-bytes", "512"],
            &["--dma-latency-ns", "5000"],
            &["--cluster", "x"],
            &["--compare", "native"],
            &["--turns", "0"],
            &["--workload", "E"],
            &["--compare", "native", "--pairs", "3"],
        ];
        for arguments in refused {
            assert!(!redis(arguments).is_ok_and(|redis| redis.plan().is_ok()), "{arguments:?} was taken");
        }
    }
}
