//! The report of `naam-bench invoke`: what one handler answered to a user's messages, and what that took.

use super::text::{average, decimal, executors_busy, surroundings};
use super::{Latency, Machine, Place, rounded, utilisation};
use crate::invoke::client::Answers;
use crate::measurement::BusyPercent;
use naamc::abi::error_meaning;
use naamc::quantity::{counted, grouped};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Handler results that the text shows one by one, the most frequent ones.
const RESULTS_SHOWN: usize = 16;

/// A whole report.
#[derive(Clone, Debug, Serialize)]
pub struct InvokeReport {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Version of naam-bench.
    pub version: &'static str,
    /// The experiment: `invoke`.
    pub experiment: &'static str,
    /// What was asked.
    pub parameters: Parameters,
    /// Where it ran.
    pub machine: Machine,
    /// Measured time.
    pub seconds: f64,
    /// Requests that ran and were answered in it.
    pub requests: u64,
    /// Requests a second.
    pub throughput_ops_per_second: f64,
    /// How long requests took.
    #[serde(flatten)]
    pub latency: Latency,
    /// UDMA operations of a request, on average.
    pub udma_operations_per_request: f64,
    /// Suspensions of a request, on average.
    pub suspensions_per_request: f64,
    /// Share of the measured time in which each executor of the cluster worked, in percent; for whomever.
    pub executor_utilisation_percent: Vec<f64>,
    /// The same by place.
    pub places: Vec<PlaceBusy>,
    /// Requests by the handler's result.
    pub results: BTreeMap<i32, u64>,
    /// Requests with results beyond those that are told apart.
    pub results_other: u64,
    /// Requests that were answered `Busy` and sent again.
    pub busy: u64,
    /// Requests that ended in a runtime error, by its name.
    pub errors: BTreeMap<String, u64>,
    /// Requests that were refused before anything of them ran, by the error that says so; no other figure counts them.
    pub refused: BTreeMap<String, u64>,
    /// Requests by where they ran.
    pub executors: Vec<Executor>,
}

/// What makes two reports comparable.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    /// `NAME/HANDLER`.
    pub handler: String,
    /// Id of the bundle that runs.
    pub bundle: String,
    /// The template, as it was given.
    pub template: serde_json::Value,
    /// Bytes of the handler's message.
    pub message_bytes: u64,
    /// Bytes that a request carries of it.
    pub request_bytes: u64,
    /// Messages that were drawn for all clients together.
    pub messages: u64,
    /// Seed of what was drawn.
    pub seed: u64,
    /// Clients.
    pub clients: u64,
    /// Requests under way of each client: a closed loop.
    pub window_requests: u64,
    /// How requests travel.
    pub transport: &'static str,
    /// The cluster's engine.
    pub engine: String,
    /// The places that serve, with their executors.
    pub places: Vec<Place>,
    /// The cluster's name.
    pub cluster: String,
}

/// A place, and how busy its executors were.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceBusy {
    /// `nic` or `host`.
    pub place: &'static str,
    /// Share of the measured time in which its executors worked, in percent, each.
    pub executor_utilisation_percent: Vec<f64>,
}

/// An executor, and what it answered.
#[derive(Clone, Debug, Serialize)]
pub struct Executor {
    /// Its place.
    pub place: &'static str,
    /// Its number on its node.
    pub executor: u16,
    /// Requests that it answered.
    pub requests: u64,
}

impl InvokeReport {
    /// A report out of what came back.
    pub fn new(format: u32, parameters: Parameters, machine: Machine, answers: &Answers, busy: &BusyPercent) -> InvokeReport {
        let measured = &answers.measured;
        let requests = measured.requests() + answers.results_other;
        let per = |count: u64, whole: f64| if whole > 0.0 { count as f64 / whole } else { 0.0 };
        let executors = answers.executors.iter();
        let mut places: Vec<PlaceBusy> = Vec::new();
        for worker in busy.keys() {
            let place = worker.place.name();
            if places.last().is_none_or(|last| last.place != place) {
                let executor_utilisation_percent = utilisation(busy, |other| other.place == worker.place);
                places.push(PlaceBusy { place, executor_utilisation_percent });
            }
        }
        InvokeReport {
            format,
            version: env!("CARGO_PKG_VERSION"),
            experiment: "invoke",
            parameters,
            machine,
            seconds: rounded(measured.elapsed.as_secs_f64(), 6),
            requests,
            throughput_ops_per_second: rounded(per(requests, measured.elapsed.as_secs_f64()), 1),
            latency: Latency::of(measured),
            udma_operations_per_request: rounded(per(measured.udma_operations, requests as f64), 4),
            suspensions_per_request: rounded(per(measured.suspensions, requests as f64), 4),
            executor_utilisation_percent: utilisation(busy, |_| true),
            places,
            results: measured.results.clone(),
            results_other: answers.results_other,
            busy: measured.busy,
            errors: measured.errors.clone(),
            refused: answers.refused.clone(),
            executors: executors
                .map(|((place, executor), requests)| Executor { place, executor: *executor, requests: *requests })
                .collect(),
        }
    }

    /// Whether the report stands: there was an answer, and none was a runtime error or a refusal. What results mean is the handler's business.
    pub fn stands(&self) -> bool {
        self.errors.is_empty() && self.refused.is_empty() && self.requests > 0
    }
}

/// The report for a terminal, with a newline at its end.
pub fn render(report: &InvokeReport) -> String {
    let mut out = head(&report.parameters, &report.machine);
    let mut row = |label: &str, figure: String, unit: &str| {
        let line = format!("  {label:<32}{figure:>14}  {unit}");
        let _ = writeln!(out, "{}", line.trim_end());
    };
    row("throughput", grouped(report.throughput_ops_per_second.round() as u64), "requests/s");
    for (label, figure_us) in Latency::ROWS {
        row(label, decimal(figure_us(&report.latency)), "us");
    }
    row("UDMA operations", format!("{:.2}", report.udma_operations_per_request), "per request");
    row("suspensions", format!("{:.2}", report.suspensions_per_request), "per request");
    for PlaceBusy { place, executor_utilisation_percent: busy } in &report.places {
        let prefix = if report.parameters.places.len() > 1 { format!("{place} ") } else { String::new() };
        row(&format!("{prefix}{}", executors_busy(busy.len() > 1)), average(busy), "% of the time");
    }
    row("requests", grouped(report.requests), "");
    let mut results: Vec<(i32, u64)> = report.results.iter().map(|(result, count)| (*result, *count)).collect();
    results.sort_by_key(|(result, count)| (std::cmp::Reverse(*count), *result));
    let hidden: u64 = results.iter().skip(RESULTS_SHOWN).map(|(_, count)| count).sum::<u64>() + report.results_other;
    for (result, count) in results.iter().take(RESULTS_SHOWN) {
        let meaning = error_meaning((*result).into()).map_or_else(String::new, |meaning| format!(" ({meaning})"));
        row(&format!("  result {result}{meaning}"), grouped(*count), "");
    }
    if hidden > 0 {
        row("  other results", grouped(hidden), "");
    }
    for (error, count) in &report.errors {
        row(&format!("  error: {}", error.replace('_', " ")), grouped(*count), "");
    }
    if report.busy > 0 {
        row("  busy, sent again", grouped(report.busy), "");
    }
    for (error, count) in &report.refused {
        row(&format!("refused: {}", error.replace('_', " ")), grouped(*count), "");
    }
    for executor in &report.executors {
        row(&format!("answers from {} executor {}", executor.place, executor.executor), grouped(executor.requests), "");
    }
    let _ = writeln!(out, "\nmeasured {:.1} s", report.seconds);
    if report.requests == 0 {
        out.push_str("This run failed: no request ran and was answered in that time.\n");
    } else if report.errors.is_empty() && !report.stands() {
        out.push_str("This run failed: requests were refused.\n");
    } else if !report.stands() {
        out.push_str("This run failed: requests ended in runtime errors instead of results.\n");
    }
    out
}

fn head(parameters: &Parameters, machine: &Machine) -> String {
    format!(
        "{} in cluster {:?} ({}): {} drawn, of {}; seed {}\n{}\n\n",
        parameters.handler,
        parameters.cluster,
        parameters.engine,
        counted(parameters.messages, "message"),
        counted(parameters.request_bytes, "byte"),
        parameters.seed,
        surroundings(&parameters.places, "", parameters.clients, parameters.window_requests, parameters.transport, machine),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_documented, assert_golden, busy, sample};
    use super::*;
    use crate::measurement::Measurement;
    use runtime::message;
    use std::time::Duration;

    fn report() -> InvokeReport {
        let mut measured = Measurement { elapsed: Duration::from_secs(2), busy: 3, ..Measurement::default() };
        measured.latency_ns.record_n(17_500, 9_000_000).unwrap();
        measured.results = BTreeMap::from([(0, 8_999_000), (-14, 900), (17, 50)]);
        (measured.udma_operations, measured.suspensions) = (18_000_000, 0);
        let executors = BTreeMap::from([(("host", 1), 4_000_000), (("host", 2), 4_999_950)]);
        let sample = sample(false);
        let parameters = Parameters {
            handler: "tally/tally".to_owned(),
            bundle: "2a7fa13004c30dcdb221788eac3a9c05a890fd5d0a0b5c1fbc7336b8acaa3ae5".to_owned(),
            template: serde_json::json!({ "slot": { "$uniform": [0, 511] }, "amount": 1 }),
            message_bytes: 32,
            request_bytes: 16,
            messages: 1_000_000,
            seed: 1,
            clients: 1,
            window_requests: 128,
            transport: "shared_memory",
            engine: "jit".to_owned(),
            places: vec![Place { kind: "host".to_owned(), executors: 2 }],
            cluster: "default".to_owned(),
        };
        let shares = busy(&[(message::Place::Host, 41.0), (message::Place::Host, 57.25)]);
        InvokeReport::new(
            0,
            parameters,
            sample.machine,
            &Answers { measured, results_other: 50, executors, refused: BTreeMap::new() },
            &shares,
        )
    }

    fn failed() -> InvokeReport {
        let mut report = report();
        report.errors.insert("back_edges_exhausted".to_owned(), 12);
        report.refused.insert("not_granted".to_owned(), 7);
        report
    }

    /// What scripts read and what people see; every field has its row in the documentation.
    #[test]
    fn reports_are_the_golden_ones() {
        assert_golden("invoke.json", &(serde_json::to_string_pretty(&failed()).unwrap() + "\n"));
        assert_golden("invoke.txt", &render(&report()));
        assert_golden("invoke-failed.txt", &render(&failed()));
        assert!(assert_documented(&serde_json::to_value(failed()).unwrap()) > 45);
        for line in render(&failed()).lines() {
            assert!(line.len() <= 132 && line == line.trim_end(), "{line:?}");
        }
    }

    /// A runtime error fails a run, and so does silence; a result never does.
    #[test]
    fn runtime_errors_fail_a_run() {
        assert!(report().stands() && report().requests == 9_000_000);
        assert!(!failed().stands());
        let refused = InvokeReport { refused: [("not_granted".to_owned(), 1)].into(), ..report() };
        assert!(!refused.stands() && render(&refused).ends_with("requests were refused.\n"));
        let silent = InvokeReport { requests: 0, ..report() };
        assert!(!silent.stands() && render(&silent).contains("no request ran and was answered"));
    }

    /// A cluster with a NIC says how busy each place was; what is not known of one is not said of it.
    #[test]
    fn places_say_how_busy_they_were() {
        let mut parameters = report().parameters;
        parameters.places.insert(0, Place { kind: "nic".to_owned(), executors: 1 });
        let of = |shares: &[(message::Place, f64)]| {
            let machine = report().machine;
            render(&InvokeReport::new(0, parameters.clone(), machine, &Answers::default(), &busy(shares)))
        };
        let [host, nic] = [message::Place::Host, message::Place::Nic];
        let text = of(&[(host, 41.0), (host, 59.0), (nic, 7.0)]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("busy")).map(str::trim).collect();
        assert!(rows.len() == 2 && rows[0].starts_with("nic executors busy  ") && rows[0].contains(" 7  %"), "{rows:?}");
        assert!(rows[1].starts_with("host executors busy (average)  ") && rows[1].contains(" 50  %"), "{rows:?}");
        assert!(!of(&[(host, 41.0)]).contains("nic executors busy"));
    }

    /// More results than fit are added up.
    #[test]
    fn many_results_are_summed_up() {
        let mut report = report();
        report.results = (0..100).map(|result| (result, 2)).collect();
        let text = render(&report);
        assert_eq!(text.matches("  result ").count(), RESULTS_SHOWN);
        assert!(text.contains(&format!("  other results{:>31}", 2 * (100 - RESULTS_SHOWN) + 50)), "{text}");
    }
}
