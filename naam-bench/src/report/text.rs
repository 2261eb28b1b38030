//! The report for a terminal: one column an engine, one row a figure, nothing that needs explaining.

use super::{Latency, Machine, Parameters, Place, Report, Run};
use crate::args::PlaceChoice;
use naamc::quantity::{counted, grouped};
use runtime::message;
use std::fmt::Write;

/// Columns of a row's label.
const LABEL_COLUMNS: usize = 26;
/// Columns of a figure.
const FIGURE_COLUMNS: usize = 14;

/// The whole report, with a newline at its end.
pub fn render(report: &Report) -> String {
    let runs: Vec<&Run> =
        std::iter::once(&report.run).chain(report.comparison.iter().map(|comparison| &comparison.native)).collect();
    let mut out = head(&report.parameters, &report.machine);
    out.push('\n');
    rows(&mut out, &runs.iter().map(|run| run.engine).collect::<Vec<_>>(), &runs);
    out.push_str(&foot(report, &runs));
    out
}

/// One row a figure, one column a run.
pub(super) fn rows(out: &mut String, names: &[&str], runs: &[&Run]) {
    let mut line = format!("  {:<LABEL_COLUMNS$}", "");
    names.iter().for_each(|name| line.push_str(&format!("{name:>FIGURE_COLUMNS$}")));
    let _ = writeln!(out, "{line}");
    let mut row = |label: &str, unit: &str, figure: &dyn Fn(&Run) -> String| {
        let mut line = format!("  {label:<LABEL_COLUMNS$}");
        for run in runs {
            let _ = write!(line, "{:>FIGURE_COLUMNS$}", figure(run));
        }
        let _ = writeln!(out, "{}", format!("{line}  {unit}").trim_end());
    };
    row("throughput", "requests/s", &|run| grouped(run.throughput_ops_per_second.round() as u64));
    for (label, figure_us) in Latency::ROWS {
        row(label, "us", &|run| decimal(figure_us(&run.latency)));
    }
    row("UDMA operations", "per request", &|run| known(run.udma_operations_per_request));
    row("suspensions", "per request", &|run| known(run.suspensions_per_request));
    let several = |busy: &[f64]| busy.len() > 1;
    let places = place_names(runs);
    // Where places are told apart, each says it for its own.
    let undivided: Vec<&&Run> = runs.iter().filter(|run| run.places.is_empty()).collect();
    if !undivided.is_empty() {
        let label = executors_busy(undivided.iter().any(|run| several(&run.executor_utilisation_percent)));
        row(&label, "% of the time", &|run| {
            if run.places.is_empty() { average(&run.executor_utilisation_percent) } else { "-".to_owned() }
        });
    }
    for place in places {
        let at = |run: &Run| run.places.iter().find(|run| run.place == place).cloned();
        row(&format!("at the {place}"), "% of the requests", &|run| at(run).map_or("-".to_owned(), |at| decimal(at.share_percent)));
        row("  throughput", "requests/s", &|run| {
            at(run).map_or("-".to_owned(), |at| grouped(at.throughput_ops_per_second.round() as u64))
        });
        row("  latency p50", "us", &|run| at(run).map_or("-".to_owned(), |at| decimal(at.latency_us_p50)));
        row("  latency p99", "us", &|run| at(run).map_or("-".to_owned(), |at| decimal(at.latency_us_p99)));
        row("  UDMA operations", "per request", &|run| known(at(run).map(|at| at.udma_operations_per_request)));
        row("  suspensions", "per request", &|run| known(at(run).map(|at| at.suspensions_per_request)));
        // A client works on the threads of whoever asks.
        if place != message::Place::Client.name() {
            let several = runs.iter().any(|run| at(run).is_some_and(|at| several(&at.executor_utilisation_percent)));
            row(&format!("  {}", executors_busy(several)), "% of the time", &|run| {
                at(run).map_or("-".to_owned(), |at| average(&at.executor_utilisation_percent))
            });
        }
    }
    row("requests", "", &|run| grouped(run.requests));
    for name in result_names(runs) {
        row(&format!("  {}", name.replace('_', " ")), "", &|run| grouped(run.results.get(name).copied().unwrap_or(0)));
    }
    for error in error_names(runs) {
        row(&format!("  {error}"), "", &|run| grouped(run.errors.get(error).copied().unwrap_or(0)));
    }
    if runs.iter().any(|run| run.busy > 0) {
        row("  busy, sent again", "", &|run| grouped(run.busy));
    }
    row("values checked", "", &|run| grouped(run.values_checked));
    row("  wrong", "", &|run| grouped(run.values_wrong));
}

/// What was asked, and where it ran.
pub(super) fn head(parameters: &Parameters, machine: &Machine) -> String {
    // A read goes by the name that it has on the command line.
    let (name, read) = match parameters.workload {
        Some(workload) => (format!("YCSB-{workload:?} mix"), "read"),
        None => (parameters.application.in_words().to_owned(), "lookup"),
    };
    let scans = parameters.scan_records_max.map_or(String::new(), |max| format!(" of 1 to {}", counted(max, "record")));
    let nodes = parameters.node_bytes.map_or(String::new(), |bytes| format!("; tree nodes of {bytes} bytes"));
    format!(
        "{name}: {}{scans}; {}; {} of {}-byte keys, {}-byte values{nodes}; seed {}\n\
         {}\n",
        parameters.mix.in_words(read),
        parameters.distribution.in_words(),
        counted(parameters.records, "record"),
        parameters.key_bytes,
        parameters.value_bytes,
        parameters.seed,
        surroundings(
            &parameters.places,
            &placed(parameters),
            parameters.clients,
            parameters.window_requests,
            &parameters.transport,
            machine
        ),
    )
}

/// What else was asked of the places, where that is not the default.
fn placed(parameters: &Parameters) -> String {
    let latency = parameters.dma_latency_ns.map_or(String::new(), |ns| format!(", DMA latency {} ns", grouped(ns)));
    let place = parameters.place.filter(|place| *place != PlaceChoice::Host);
    latency + &place.map_or(String::new(), |place| format!("; place {}", place.name()))
}

/// What served, what asked, and where.
pub(super) fn surroundings(
    places: &[Place],
    placed: &str,
    clients: u64,
    window_requests: u64,
    transport: &str,
    machine: &Machine,
) -> String {
    let places: Vec<String> = places.iter().map(|place| counted(place.executors, &format!("{} executor", place.kind))).collect();
    format!(
        "{}{placed}; {}, window {window_requests}; {}; {} of {}",
        places.join(" and "),
        counted(clients, "client"),
        transport.replace('_', " "),
        counted(machine.cores, "core"),
        machine.cpu_model,
    )
}

fn foot(report: &Report, runs: &[&Run]) -> String {
    let mut out = String::from("\n");
    if let Some(comparison) = &report.comparison {
        let _ = writeln!(
            out,
            "ratio to native {:.2} (median of {}, {:.2} to {:.2})",
            comparison.ratio_to_native,
            counted(comparison.ratio_to_native_turns.len() as u64, "turn"),
            comparison.ratio_to_native_min,
            comparison.ratio_to_native_max
        );
    }
    let seconds: Vec<String> = runs.iter().map(|run| format!("{:.1} s of {}", run.seconds, run.engine)).collect();
    let _ = writeln!(
        out,
        "drew the requests in {:.1} s, loaded {} in {:.1} s, measured {}",
        report.draw_seconds,
        counted(report.load.records, "record"),
        report.load.seconds,
        seconds.join(" and ")
    );
    let _ = writeln!(out, "read {} again at the end", counted(report.records_checked_at_end, "record"));
    failures(&mut out, runs);
    out
}

/// What was wrong, if anything was.
pub(super) fn failures(out: &mut String, runs: &[&Run]) {
    for example in runs.iter().flat_map(|run| &run.wrong_examples) {
        let _ = writeln!(out, "wrong value: {example}");
    }
    if runs.iter().any(|run| run.requests == 0) {
        out.push_str("This run failed: no request was answered in that time.\n");
    } else if !runs.iter().all(|run| run.stands()) {
        out.push_str("This run failed: a request ended in something other than ok, or a value was wrong.\n");
    }
}

/// A figure that some servers do not have.
fn known(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
}

/// How busy executors were: each of them, or several on average.
pub(super) fn executors_busy(several: bool) -> String {
    if several { "executors busy (average)".to_owned() } else { "executors busy".to_owned() }
}

/// The average of what is known.
pub(super) fn average(percents: &[f64]) -> String {
    if percents.is_empty() {
        return "unknown".to_owned();
    }
    format!("{:.0}", percents.iter().sum::<f64>() / percents.len() as f64)
}

/// The places that did anything, in the order of [`message::Place`].
fn place_names(runs: &[&Run]) -> Vec<&'static str> {
    let all = [message::Place::Client, message::Place::Nic, message::Place::Host].map(message::Place::name);
    all.into_iter().filter(|name| runs.iter().any(|run| run.places.iter().any(|place| place.place == *name))).collect()
}

fn result_names<'a>(runs: &[&'a Run]) -> Vec<&'a str> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| run.results.keys().copied()).collect();
    names.sort_by_key(|name| (*name != "ok", *name));
    names.dedup();
    names
}

fn error_names<'a>(runs: &[&'a Run]) -> Vec<&'a str> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| run.errors.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn decimal(value: f64) -> String {
    if value >= 1000.0 { grouped(value.round() as u64) } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_golden, mixed, sample};
    use super::*;

    /// What people screenshot: alone, compared, and failed.
    #[test]
    fn texts_are_the_golden_ones() {
        assert_golden("ycsb.txt", &render(&sample(false)));
        assert_golden("ycsb-compared.txt", &render(&sample(true)));
        assert_golden("ycsb-mixed.txt", &render(&mixed()));
        let mut failed = sample(false);
        failed.run.results.insert("not_found", 12);
        failed.run.errors.insert("uncertain".to_owned(), 3);
        failed.run.busy = 4567;
        failed.run.values_wrong = 1;
        failed.run.wrong_examples.push("record 17: version 3 where 5 or 6 was right".to_owned());
        assert_golden("ycsb-failed.txt", &render(&failed));
    }

    /// Lines fit a terminal, and no line ends in blanks.
    #[test]
    fn lines_fit() {
        for line in render(&sample(true)).lines() {
            assert!(line.len() <= 132 && line == line.trim_end(), "{line:?}");
        }
    }
}
