//! The report of `naam-bench baseline redis`: NAAM's run as `ycsb` reports it, Redis's run over the same requests, and the ratio.

use super::text::{failures, head, rows};
use super::{Load, Machine, Parameters, Run, rounded};
use crate::measurement::Ratios;
use naamc::quantity::counted;
use serde::Serialize;
use std::fmt::Write;

/// A whole report.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineReport {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Version of naam-bench.
    pub version: &'static str,
    /// The experiment: `baseline-redis`.
    pub experiment: &'static str,
    /// What was asked of both.
    pub parameters: Parameters,
    /// Where it ran.
    pub machine: Machine,
    /// Which processors they were pinned to.
    pub processors: Processors,
    /// How long it took to draw the streams of all clients, once for both.
    pub draw_seconds: f64,
    /// The load of NAAM's table.
    pub load: Load,
    /// NAAM's run.
    #[serde(flatten)]
    pub run: Run,
    /// NAAM's records that were read and checked once more after the run: all that there were.
    pub records_checked_at_end: u64,
    /// The yardstick.
    pub redis: Redis,
    /// Throughput of NAAM over that of Redis in the same turn: median of the turns.
    pub ratio_to_redis: f64,
    /// The smallest of the turns.
    pub ratio_to_redis_min: f64,
    /// The largest of the turns.
    pub ratio_to_redis_max: f64,
    /// Each turn, in order.
    pub ratio_to_redis_turns: Vec<f64>,
}

/// Processors by their numbers; none where threads go wherever the kernel puts them.
#[derive(Clone, Debug, Serialize)]
pub struct Processors {
    /// Of each of NAAM's clients.
    pub clients: Vec<usize>,
    /// Of each executor.
    pub executors: Vec<usize>,
    /// Of each of Redis's clients.
    pub redis_clients: Vec<usize>,
    /// Of the Redis server.
    pub redis: Vec<usize>,
}

/// Redis and its run.
#[derive(Clone, Debug, Serialize)]
pub struct Redis {
    /// Name and version, as it says itself.
    pub server: String,
    /// The program.
    pub program: String,
    /// How commands travel.
    pub transport: &'static str,
    /// The load of its records.
    pub load: Load,
    /// Its run.
    #[serde(flatten)]
    pub run: Run,
    /// Its records that were read and checked once more after the run: all that there were.
    pub records_checked_at_end: u64,
}

impl BaselineReport {
    /// Sets the ratios.
    pub fn with_ratios(self, ratios: &Ratios) -> BaselineReport {
        BaselineReport {
            ratio_to_redis: rounded(ratios.median(), 4),
            ratio_to_redis_min: rounded(ratios.min(), 4),
            ratio_to_redis_max: rounded(ratios.max(), 4),
            ratio_to_redis_turns: ratios.turns.iter().map(|ratio| rounded(*ratio, 4)).collect(),
            ..self
        }
    }

    /// Whether the report stands: no wrong value and no failed request, on either side.
    pub fn stands(&self) -> bool {
        self.run.stands() && self.redis.run.stands()
    }
}

/// The report for a terminal, with a newline at its end.
pub fn render(report: &BaselineReport) -> String {
    let BaselineReport { parameters, redis, run, .. } = report;
    let runs = [run, &redis.run];
    let mut out = head(parameters, &report.machine);
    let _ = writeln!(
        out,
        "{} ({}), nothing kept on disk; Unix socket, commands pipelined by the same window\n{}\n",
        redis.server,
        redis.program,
        pinned(&report.processors)
    );
    rows(&mut out, &[&format!("NAAM ({})", run.engine), "Redis"], &runs);
    let _ = writeln!(
        out,
        "\nratio to Redis {:.2} (median of {}, {:.2} to {:.2})",
        report.ratio_to_redis,
        counted(report.ratio_to_redis_turns.len() as u64, "turn"),
        report.ratio_to_redis_min,
        report.ratio_to_redis_max
    );
    let _ = writeln!(
        out,
        "drew the requests in {:.1} s\nloaded {} into NAAM in {:.1} s, {} into Redis in {:.1} s; measured {:.1} s of NAAM and {:.1} s of Redis",
        report.draw_seconds,
        counted(report.load.records, "record"),
        report.load.seconds,
        counted(redis.load.records, "record"),
        redis.load.seconds,
        run.seconds,
        redis.run.seconds
    );
    let _ = writeln!(
        out,
        "read {} of NAAM and {} of Redis again at the end",
        counted(report.records_checked_at_end, "record"),
        counted(redis.records_checked_at_end, "record")
    );
    failures(&mut out, &runs);
    out
}

/// Which threads had which cores, in words.
fn pinned(processors: &Processors) -> String {
    let Processors { clients, executors, redis_clients, redis } = processors;
    let cores = |numbers: &[usize]| {
        let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
        format!("{} {}", if list.len() == 1 { "core" } else { "cores" }, list.join(", "))
    };
    let named =
        [("executors", executors), ("the Redis server", redis), ("NAAM's clients", clients), ("Redis's clients", redis_clients)];
    let (pinned, free): (Vec<_>, Vec<_>) = named.into_iter().partition(|(_, numbers)| !numbers.is_empty());
    let pinned: Vec<String> = pinned.into_iter().map(|(name, numbers)| format!("{name} to {}", cores(numbers))).collect();
    let free: Vec<&str> = free.into_iter().map(|(name, _)| name).collect();
    match (pinned.is_empty(), free.is_empty()) {
        (_, true) => format!("pinned: {}", pinned.join("; ")),
        (true, false) => "nothing is pinned: there are too few cores".to_owned(),
        (false, false) => format!("pinned: {}; not pinned, for lack of cores: {}", pinned.join("; "), free.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_documented, assert_golden, sample};
    use super::*;

    fn baseline() -> BaselineReport {
        let report = sample(true);
        let comparison = report.comparison.expect("it is a comparison");
        let run = Run {
            engine: "redis",
            udma_operations_per_request: None,
            suspensions_per_request: None,
            throughput_ops_per_second: 498_765.4,
            requests: 2_493_827,
            results: [("ok", 2_493_827)].into(),
            ..comparison.native
        };
        let redis = Redis {
            server: "Redis 7.0.15".to_owned(),
            program: "/usr/bin/redis-server".to_owned(),
            transport: "unix_socket",
            load: Load { records: 1_000_000, seconds: 2.6, throughput_ops_per_second: 384_615.4 },
            run,
            records_checked_at_end: 1_000_000,
        };
        BaselineReport {
            format: report.format,
            version: report.version,
            experiment: "baseline-redis",
            parameters: report.parameters,
            machine: report.machine,
            processors: Processors { clients: vec![0], executors: vec![1], redis_clients: vec![0], redis: vec![1] },
            draw_seconds: report.draw_seconds,
            load: report.load,
            run: report.run,
            records_checked_at_end: report.records_checked_at_end,
            redis,
            ratio_to_redis: 0.0,
            ratio_to_redis_min: 0.0,
            ratio_to_redis_max: 0.0,
            ratio_to_redis_turns: Vec::new(),
        }
        .with_ratios(&Ratios { turns: vec![12.81, 12.7, 13.0] })
    }

    /// What scripts read and what people see; every field has its row in the documentation.
    #[test]
    fn reports_are_the_golden_ones() {
        let report = baseline();
        assert_golden("baseline-redis.json", &(serde_json::to_string_pretty(&report).unwrap() + "\n"));
        assert_golden("baseline-redis.txt", &render(&report));
        assert!(assert_documented(&serde_json::to_value(&report).unwrap()) > 75);
        for line in render(&report).lines() {
            assert!(line.len() <= 132 && line == line.trim_end(), "{line:?}");
        }
    }

    /// Either side's failure is the report's.
    #[test]
    fn a_report_falls_with_either_side() {
        let (mut naam, mut redis) = (baseline(), baseline());
        assert!(naam.stands());
        naam.run.values_wrong = 1;
        redis.redis.run.errors.insert("Redis: OOM".to_owned(), 1);
        assert!(!naam.stands() && !redis.stands());
        assert!(render(&naam).contains("This run failed") && render(&redis).contains("Redis: OOM"));
    }

    #[test]
    fn what_is_pinned_is_said() {
        let none = Processors { clients: vec![], executors: vec![], redis_clients: vec![], redis: vec![] };
        assert_eq!(pinned(&none), "nothing is pinned: there are too few cores");
        let some = Processors { executors: vec![0, 1], redis: vec![1], ..none };
        assert_eq!(
            pinned(&some),
            "pinned: executors to cores 0, 1; the Redis server to core 1; not pinned, for lack of cores: NAAM's clients, Redis's clients"
        );
    }
}
