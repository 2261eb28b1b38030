//! A user's workload against a cluster that runs. The cluster's processes are this program re-executed, so it has a `main` of its own. No test
//! looks at a time.

use naamc::abi::Rights;
use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy};
use runtime::supervisor::records::{Binding, Limits};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const COUNTER_ELF: &[u8] = include_bytes!("../../testdata/handlers/counter.o");
const COUNTERS: u64 = 512;

fn main() {
    enter(&NativePrograms::default());
    let cluster = Cluster::start();
    results_are_counted_by_value(&cluster);
    clients_and_executors_share_the_work(&cluster);
    runtime_errors_are_named_and_fail(&cluster);
    deployments_that_go_end_the_run(&cluster);
    bad_templates_are_refused(&cluster);
    missing_things_are_named(&cluster);
    cluster.node.stop().expect("the cluster stops");
    println!("messages of one's own: ok");
}

/// A cluster of two executors with the sample `counter`, bound to a region of its own.
struct Cluster {
    node: Node,
    scratch: TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        let node = Node::start(&Options { pin: false, executors: 2, ..Options::new(embedded_name()) }).expect("a cluster starts");
        let control = node.control();
        control.create_region("shared", &CreateRegion { length_bytes: COUNTERS * 8, huge_pages: false }).expect("there is room");
        let cluster = Cluster { node, scratch: tempfile::tempdir().expect("a scratch directory") };
        cluster.deploy("tally");
        cluster
    }

    fn deploy(&self, name: &str) {
        let control = self.node.control();
        let file = naamc::build::build(COUNTER_ELF).expect("the sample verifies").bundle().to_bytes();
        let file = control.upload_bundle(&file).expect("it is taken").file;
        let deploy = Deploy {
            file,
            bindings: [("counters".to_owned(), Binding { region: "shared".to_owned(), rights: Rights::ALL })].into(),
            constants: Default::default(),
            limits: Limits::default(),
            engine: None,
        };
        control.deploy(name, &deploy).expect("it is deployed");
    }

    fn template(&self, text: &str) -> PathBuf {
        let path = self.scratch.path().join("template.json");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn invoke(&self, handler: &str, template: &str, arguments: &[&str]) -> Output {
        let messages = if arguments.contains(&"--messages") { &[][..] } else { &["--messages", "5000"] };
        Command::new(env!("CARGO_BIN_EXE_naam-bench"))
            .args(["invoke", handler, "--cluster", &self.node.address().name, "--seconds", "0.2"])
            .args(messages)
            .arg("--template")
            .arg(self.template(template))
            .args(arguments)
            .output()
            .expect("the program starts")
    }

    fn report(&self, handler: &str, template: &Value, arguments: &[&str], code: i32) -> Value {
        let output = self.invoke(handler, &template.to_string(), &[&["--json"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.stderr.is_empty(), "no progress where there is no terminal: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("the report is JSON")
    }

    /// What the counters add up to.
    fn total(&self) -> u64 {
        let mut bytes = Vec::new();
        self.node.control().save_region("shared", &mut bytes).expect("it can be read");
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).sum()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is a number in {report}"))
}

/// Half of the messages are for counters that do not exist: both results are counted, and the others had their effect.
fn results_are_counted_by_value(cluster: &Cluster) {
    let template = json!({ "index": { "$choose": [{ "$uniform": [0, COUNTERS - 1] }, COUNTERS] }, "value": 1 });
    let report = cluster.report("tally/count", &template, &[], 0);
    let (requests, results) = (number(&report, "requests"), &report["results"]);
    assert_eq!(results.as_object().map(|results| results.len()), Some(2), "{results}");
    assert_eq!(number(results, "0") + number(results, "-14"), requests);
    assert!((0.45..0.55).contains(&(number(results, "0") / requests)), "{results}");
    assert_eq!((&report["errors"], &report["parameters"]["template"]), (&json!({}), &template));
    assert_eq!((&report["parameters"]["messages"], &report["parameters"]["request_bytes"]), (&5000.into(), &16.into()));
    assert_eq!(number(&report, "udma_operations_per_request"), 1.0);
    let latencies = ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| number(&report, &format!("latency_us_{name}")));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
    // Requests before and after the measured time count here, too.
    let total = cluster.total();
    assert!(total as f64 >= number(results, "0"), "{total} additions for {results}");
    let shown = cluster.invoke("tally/count", r#"{"index": 600}"#, &[]);
    assert!(text(&shown.stdout).contains("result -14 (out of range)"), "{}", text(&shown.stdout));
    assert_eq!(cluster.total(), total, "messages that are out of range have no effect");
}

/// Messages that differ spread over the executors, and all clients send theirs.
fn clients_and_executors_share_the_work(cluster: &Cluster) {
    let template = json!({ "index": { "$zipfian": COUNTERS }, "value": { "$sequence": 1 } });
    let report = cluster.report("tally/count", &template, &["--clients", "3", "--window", "7"], 0);
    let executors = report["executors"].as_array().expect("a list");
    assert_eq!(executors.len(), 2, "{executors:?}");
    assert!(executors.iter().all(|executor| executor["place"] == "host" && number(executor, "requests") > 0.0), "{executors:?}");
    assert_eq!(executors.iter().map(|executor| number(executor, "requests")).sum::<f64>(), number(&report, "requests"));
    assert_eq!(report["parameters"]["messages"], 5000, "as many as were asked for, though three clients share them");
}

/// A lock that nobody gives back: messages run out of fuel, by name, and the run fails.
fn runtime_errors_are_named_and_fail(cluster: &Cluster) {
    cluster.report("tally/count", &json!({ "index": 0, "value": 1 }), &[], 0);
    let report = cluster.report("tally/transfer", &json!({ "from": 1, "to": 2 }), &["--window", "2"], 1);
    let errors = report["errors"].as_object().expect("an object");
    assert_eq!((errors.len(), &report["results"]), (1, &json!({})), "{errors:?}");
    let (name, count) = errors.iter().next().unwrap();
    assert!(name.ends_with("_exhausted") && count.as_f64() == Some(number(&report, "requests")), "{errors:?}");
}

/// A deployment that is removed under a run ends it long before its time, with an error that says so and without a report.
fn deployments_that_go_end_the_run(cluster: &Cluster) {
    let control = cluster.node.control();
    cluster.deploy("passing");
    let before = cluster.total();
    let run = Command::new(env!("CARGO_BIN_EXE_naam-bench"))
        .args(["invoke", "passing/count", "--cluster", &cluster.node.address().name, "--seconds", "3600", "--json", "--template"])
        .arg(cluster.template(r#"{"index": 3, "value": 1}"#))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    while cluster.total() == before {
        std::thread::yield_now();
    }
    control.undeploy("passing").expect("it is removed");
    let output = run.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("deployment \"passing\" of cluster"), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is gone"), "{}", text(&output.stderr));
}

/// Each is a usage error with its reason, before anything is sent.
fn bad_templates_are_refused(cluster: &Cluster) {
    let total = cluster.total();
    for (template, reason) in [
        ("{", "template.json is not JSON"),
        (r#"{"index": {"$normal": [0, 1]}}"#, "at `index`: `$normal` is no generator; there are $uniform, $zipfian, $sequence"),
        (r#"{"index": {"$uniform": [9, 0]}}"#, "nothing to draw"),
        (r#"{"key": {"$uniform": [0, 9]}}"#, "it has index, value"),
        (r#"{"index": {"$uniform": [-9, -1]}}"#, "index"),
        (r#"{"index": {"$bytes": 9}}"#, "index"),
        (r#"[{"$sequence": 0}]"#, "does not fit the message of tally/count"),
    ] {
        let output = cluster.invoke("tally/count", template, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{template}: {stderr}");
        assert!(stderr.contains(reason) && output.stdout.is_empty(), "{template}: {stderr}");
    }
    let many = cluster.invoke("tally/count", r#"{"index": {"$sequence": 0}}"#, &["--messages", "200000000"]);
    assert_eq!(many.status.code(), Some(2));
    assert!(text(&many.stderr).contains("1024 MiB"), "{}", text(&many.stderr));
    assert_eq!(cluster.total(), total);
}

fn missing_things_are_named(cluster: &Cluster) {
    for (handler, reason) in [("tally/none", "tally/count"), ("none/count", "none")] {
        let output = cluster.invoke(handler, "{}", &[]);
        assert_eq!(output.status.code(), Some(1), "{handler}");
        assert!(text(&output.stderr).contains(reason), "{handler}: {}", text(&output.stderr));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_naam-bench"))
        .args(["invoke", "tally/count", "--cluster", "no-such-cluster-for-naam-bench", "--template"])
        .arg(cluster.template("{}"))
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-cluster-for-naam-bench"), "{}", text(&output.stderr));
}
