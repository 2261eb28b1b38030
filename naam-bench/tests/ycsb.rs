//! The built program: exit codes, and a whole run whose report fits together. No test looks at a time.

use serde_json::Value;
use std::fs::OpenOptions;
use std::process::{Command, Output};

fn naam_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_naam-bench")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Impossible requests exit 2 with one reason on standard error, and nothing runs.
#[test]
fn usage_errors_exit_2() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "Usage"),
        (&["ycsb", "--place", "client", "--engine", "native"], "--place"),
        (&["ycsb", "--place", "nic", "--nic", "0"], "--nic 0"),
        (&["ycsb", "--workload", "E", "--value-bytes", "500"], "--node-bytes"),
        (&["ycsb", "--node-bytes", "512"], "no tree nodes"),
        (&["ycsb", "--dma-latency-ns", "5000"], "without a NIC"),
        (&["ycsb", "--workload", "G"], "possible values"),
        (&["ycsb", "--records", "0"], "--records"),
        (&["ycsb", "--clients", "64", "--window", "128"], "8192"),
        (&["ycsb", "--compare", "native", "--engine", "native"], "--engine native"),
        (&["ycsb", "--records", "200000000", "--value-bytes", "1024"], "64 GiB"),
    ];
    for (arguments, reason) in cases {
        let output = naam_bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(reason), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// A cluster that does not run is a failure, not a usage error, and says what to do.
#[test]
fn missing_clusters_exit_1() {
    let output = naam_bench(&["ycsb", "--records", "10", "--seconds", "0.1", "--cluster", "no-such-cluster-for-naam-bench"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-cluster-for-naam-bench"), "{}", text(&output.stderr));
}

/// A report that nobody can have is a failure, in both of its forms.
#[test]
fn lost_reports_exit_1() {
    for form in [&["--json"][..], &[]] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("it is there to be written to");
        let output = Command::new(env!("CARGO_BIN_EXE_naam-bench"))
            .args(["ycsb", "--records", "1000", "--seconds", "0.2"])
            .args(form)
            .stdout(full)
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(1), "{form:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("error: writing the report: No space left"), "{}", text(&output.stderr));
    }
}

fn report(arguments: &[&str]) -> Value {
    let output = naam_bench(&[&["ycsb", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress where there is no terminal: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// Requests run where they were asked to, and the report says what each place did.
#[test]
fn places_are_told_apart() {
    for (place, served) in [("nic", &["nic"][..]), ("client", &["client", "host"]), ("mixed", &["client", "nic", "host"])] {
        // Half of all requests write: places far from the memory and near to it take blocks of one heap.
        let mut arguments = vec!["--workload", "A", "--records", "2000", "--seconds", "1", "--place", place];
        if place != "client" {
            arguments.extend(["--dma-latency-ns", "900"]);
        }
        let report = report(&arguments);
        let places = report["places"].as_array().expect("the report has places");
        let names: Vec<&str> = places.iter().filter_map(|place| place["place"].as_str()).collect();
        assert_eq!(names, served, "--place {place}");
        let shares: f64 = places.iter().filter_map(|place| place["share_percent"].as_f64()).sum();
        assert!((shares - 100.0).abs() < 0.1, "{shares} % in all");
        check_run(&report, "jit");
        // What was asked for makes reports comparable.
        let parameters = &report["parameters"];
        assert_eq!((&parameters["place"], &parameters["engine"]), (&place.into(), &"jit".into()));
        let latency_ns = if place == "client" { Value::Null } else { 900.into() };
        assert_eq!(parameters["dma_latency_ns"], latency_ns, "--place {place}");
        let kinds: Vec<&str> = parameters["places"].as_array().unwrap().iter().filter_map(|place| place["kind"].as_str()).collect();
        assert!(kinds == ["nic", "host"] || kinds == ["host"], "{kinds:?}");
        for at in places {
            let busy = at["executor_utilisation_percent"].as_array().expect("a list of executors");
            assert_eq!(busy.len(), usize::from(at["place"] != "client"), "{at}");
        }
    }
    let cell = naam_bench(&["cell", "--json", "--records", "2000", "--seconds", "0.3", "--place", "mixed"]);
    assert_eq!(cell.status.code(), Some(0), "{}", text(&cell.stderr));
}

/// Invariants of one run in a report.
fn check_run(run: &Value, engine: &str) {
    let number = |name: &str| run[name].as_f64().unwrap_or_else(|| panic!("{name} is a number in {run}"));
    assert_eq!(run["engine"], engine);
    assert!(number("requests") > 0.0 && number("seconds") > 0.0);
    let throughput = number("requests") / number("seconds");
    assert!((number("throughput_ops_per_second") / throughput - 1.0).abs() < 0.001);
    let latencies = ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| number(&format!("latency_us_{name}")));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
    assert_eq!(run["results"], serde_json::json!({ "ok": run["requests"] }), "every request ended in ok");
    assert_eq!((&run["errors"], number("values_wrong")), (&serde_json::json!({}), 0.0));
    assert!(number("values_checked") > 0.0 && number("values_checked") <= number("requests"));
    assert!(number("udma_operations_per_request") >= 3.0, "a get makes three operations, a put more");
    for busy in run["executor_utilisation_percent"].as_array().expect("a list of executors") {
        assert!((0.0..=100.0).contains(&busy.as_f64().unwrap()));
    }
}

/// The smallest whole measurement: an embedded cluster, ten thousand records, one second.
#[test]
fn ten_thousand_records_in_a_second() {
    let report = report(&["--records", "10000", "--seconds", "1"]);
    assert_eq!((&report["experiment"], &report["format"]), (&"ycsb".into(), &0.into()));
    let parameters = &report["parameters"];
    assert_eq!((&parameters["workload"], &parameters["distribution"]), (&"B".into(), &"scrambled-zipfian".into()));
    assert_eq!((&parameters["records"], &report["load"]["records"]), (&10_000.into(), &10_000.into()));
    assert_eq!(parameters["places"], serde_json::json!([{ "kind": "host", "executors": 1 }]));
    assert_eq!(report["records_checked_at_end"], 10_000);
    check_run(&report, "jit");
    assert_eq!(report["executor_utilisation_percent"].as_array().map(Vec::len), Some(1));
    assert!(report.get("native").is_none());
}

/// Every workload, with long keys, odd values, several clients and executors; inserted records are there in the end.
#[test]
fn every_workload_runs() {
    for workload in ["A", "C", "D", "F"] {
        let mut arguments = vec!["--workload", workload, "--records", "3000", "--seconds", "0.3", "--seed", "7"];
        arguments.extend(["--key-bytes", "21", "--value-bytes", "100", "--clients", "2", "--window", "16", "--host", "2"]);
        let report = report(&arguments);
        check_run(&report, "jit");
        let at_end = report["records_checked_at_end"].as_u64().unwrap();
        assert_eq!(at_end > 3000, workload == "D", "{workload}: {at_end} records");
    }
}

/// E is served by Cell's tree: every scan is checked, and counts once.
#[test]
fn workload_e_scans_a_tree() {
    for (node_bytes, clients) in [("512", "1"), ("1024", "2"), ("2048", "1")] {
        let mut arguments = vec!["--workload", "E", "--records", "3000", "--seconds", "0.3", "--window", "16"];
        arguments.extend(["--node-bytes", node_bytes, "--clients", clients]);
        let report = report(&arguments);
        assert_eq!(
            (&report["parameters"]["application"], &report["parameters"]["scan_records_max"]),
            (&"cell".into(), &100.into())
        );
        assert_eq!(report["results"], serde_json::json!({ "ok": report["requests"] }));
        assert_eq!((&report["values_wrong"], &report["errors"]), (&0.into(), &serde_json::json!({})));
        let number = |name: &str| report[name].as_f64().unwrap();
        assert!(number("values_checked") / number("requests") > 30.0, "scans bring some fifty records each");
        assert!(number("records_checked_at_end") > 3000.0, "inserted records are there in the end");
    }
}

/// Cell's operations in shares of their own, over another engine, and beside native code.
#[test]
fn cell_has_an_experiment_of_its_own() {
    let run = |arguments: &[&str]| {
        let output = naam_bench(&[&["cell", "--json", "--records", "3000", "--seconds", "0.3"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("the report is JSON")
    };
    let compared = run(&["--compare", "native", "--pairs", "2"]);
    check_run(&compared, "jit");
    check_run(&compared["native"], "native");
    assert_eq!((&compared["experiment"], &compared["parameters"]["workload"]), (&"cell".into(), &Value::Null));
    let mix = "lookup=40,scan=30,insert=30";
    let mixed = run(&[
        "--mix",
        mix,
        "--scan-records",
        "300",
        "--value-bytes",
        "20",
        "--engine",
        "interpreter",
        "--distribution",
        "uniform",
    ]);
    assert_eq!((&mixed["values_wrong"], &mixed["parameters"]["mix"]["scan_percent"]), (&0.into(), &30.into()));
    let output = naam_bench(&["cell", "--records", "1000", "--seconds", "0.2", "--mix", mix, "--engine", "native"]);
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with("Cell's tree: 40 % lookup, 30 % insert, 30 % scan of 1 to 100 records; scrambled Zipfian; 1,000"),
        "{shown}"
    );
}

/// A comparison measures both in turns, and its ratio is that of the turns.
#[test]
fn comparisons_report_a_ratio() {
    let report =
        report(&["--records", "3000", "--seconds", "0.3", "--compare", "native", "--pairs", "3", "--distribution", "zipfian"]);
    check_run(&report, "jit");
    check_run(&report["native"], "native");
    let turns: Vec<f64> = report["ratio_to_native_turns"].as_array().unwrap().iter().map(|turn| turn.as_f64().unwrap()).collect();
    let mut sorted = turns.clone();
    sorted.sort_by(f64::total_cmp);
    let ratios = ["ratio_to_native_min", "ratio_to_native", "ratio_to_native_max"].map(|name| report[name].as_f64().unwrap());
    assert_eq!((turns.len(), ratios.to_vec()), (3, sorted));
    // The same requests cost the same operations, whoever serves them: retries under contention are all that may differ.
    let operations = |run: &Value| run["udma_operations_per_request"].as_f64().unwrap();
    let difference = operations(&report) / operations(&report["native"]);
    assert!((0.98..1.02).contains(&difference), "operations of handlers over native: {difference}");
}

/// The other engines, and the text that a terminal shows.
#[test]
fn engines_serve_the_same_workload() {
    for engine in ["interpreter", "native"] {
        let output = naam_bench(&["ycsb", "--records", "1000", "--seconds", "0.2", "--engine", engine]);
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
        assert!(shown.starts_with("YCSB-B mix: 95 % read, 5 % update; scrambled Zipfian; 1,000 records"), "{shown}");
        assert!(shown.lines().any(|line| line.trim() == engine) && shown.contains("requests/s"), "{shown}");
    }
}
