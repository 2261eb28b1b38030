//! Bundles on clusters: deployed, invoked, refused, drained.

use crate::harness::{Cluster, Scratch};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Builds a bundle from a prebuilt object file and writes it to the scratch directory.
pub fn bundle(scratch: &Scratch, name: &str) -> String {
    let object = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/handlers/{name}.o"));
    let built = naamc::build::build(&fs::read(object).unwrap()).unwrap_or_else(|findings| panic!("{findings:?}"));
    let path = scratch.file(&format!("{name}.naam"));
    fs::write(&path, built.bundle().to_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn invoke(cluster: &Cluster<'_>, handler: &str, message: &Value) -> Value {
    cluster.run(&["invoke", handler, "--message", &message.to_string(), "--json"]).json()
}

#[test]
fn a_handler_is_deployed_and_invoked_on_both_engines() {
    for engine in ["interpreter", "jit"] {
        let scratch = Scratch::new();
        let cluster = scratch.start(&["--host", "2", "--engine", engine]);
        let file = bundle(&scratch, "counter");
        cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
        let deployed = cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers", "--json"]).json();
        assert_eq!(deployed["bindings"]["counters"], json!({ "region": "numbers", "rights": "read+write+atomic" }));
        for round in 0..3u64 {
            let reply = invoke(&cluster, "counter/count", &json!({ "index": 5, "value": 10 }));
            assert_eq!(reply["message"], json!({ "index": 5, "value": 10 * round }), "{reply}");
            assert_eq!((reply["result"].as_i64(), reply["place"].as_str()), (Some(0), Some("host")));
            assert_eq!((reply["udma_operations"].as_u64(), reply["suspensions"].as_u64()), (Some(1), Some(0)));
        }
        assert_eq!(invoke(&cluster, "counter/count", &json!({ "index": 512 }))["result"], -14);
        let words = cluster.run(&["invoke", "counter/count", "--message", "{\"index\": 512}"]).stdout;
        assert!(words.contains("result -14 (out of range) from host"), "{words}");
        let saved = scratch.file("saved");
        cluster.run(&["region", "save", "numbers", saved.to_str().unwrap()]).fine();
        assert_eq!(fs::read(saved).unwrap()[40..48], 30u64.to_le_bytes());
        let words = cluster.run(&["invoke", "counter/count", "--message", "{\"index\": 5}"]).stdout;
        assert!(words.contains("\"value\": 30") && words.contains("result 0 from host executor"), "{words}");
        assert!(words.contains("1 UDMA operation, 0 suspensions\nreply 16 of 16 bytes\n"), "{words}");
        // An executor publishes its counters after the answers of a turn are on their way.
        // The node learns that a session has ended from its connection.
        loop {
            let status = cluster.run(&["status", "--json"]).json();
            let requests = |executor: usize| status["places"][0]["executors"][executor]["counters"]["requests"].as_u64().unwrap();
            assert!(requests(0) + requests(1) <= 6, "{status}");
            if requests(0) + requests(1) == 6 && status["sessions"] == 0 {
                break;
            }
        }
    }
}

#[test]
fn wrong_deployments_are_refused() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let deploy = |file: &str, rest: &[&str]| cluster.run(&[&["deploy", file, "--as", "counter"], rest].concat());
    deploy(&file, &[]).refused(1, &["\"counters\"", "not bound", "--bind counters="]);
    deploy(&file, &["--bind", "counters=nothing"]).refused(1, &["no region \"nothing\""]);
    deploy(&file, &["--bind", "counters=numbers", "--bind", "more=numbers"])
        .refused(1, &["declares no region \"more\"", "counters"]);
    deploy(&file, &["--bind", "counters=numbers:read"]).refused(1, &["needs", "atomic", "counters"]);
    deploy(&file, &["--bind", "counters=numbers", "--set", "step=2"]).refused(1, &["no constant `step`"]);
    deploy(&file, &["--bind", "counters=numbers", "--set", "step=x"]).refused(2, &["not JSON"]);
    deploy(&file, &["--bind", "counters=numbers:reed"]).refused(2, &["read+write+atomic"]);
    let mica = bundle(&scratch, "mica");
    deploy(&mica, &["--bind", "table=numbers", "--bind", "heap=numbers"]).refused(1, &["at least", "4096"]);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = scratch.file("changed.naam");
    fs::write(&changed, &bytes).unwrap();
    deploy(changed.to_str().unwrap(), &["--bind", "counters=numbers"]).refused(1, &["changed after it was built"]);
    let object = format!("{}/../testdata/handlers/counter.o", env!("CARGO_MANIFEST_DIR"));
    deploy(&object, &["--bind", "counters=numbers"]).refused(1, &["N401"]);
    assert_eq!(cluster.run(&["status", "--json"]).json()["deployments"], json!([]));
    deploy(&file, &["--bind", "counters=numbers"]).fine();
    deploy(&file, &["--bind", "counters=numbers"]).refused(1, &["already", "undeploy counter"]);
    cluster.run(&["region", "remove", "numbers"]).refused(1, &["\"counter\" is bound", "undeploy counter"]);
}

#[test]
fn wrong_invocations_are_refused() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers"]).fine();
    let invoke = |handler: &str, message: &str| cluster.run(&["invoke", handler, "--message", message]);
    invoke("counter", "{}").refused(2, &["NAME/HANDLER"]);
    invoke("counter/nothing", "{}").refused(1, &["no handler \"nothing\"", "counter/count"]);
    invoke("nothing/count", "{}").refused(1, &["no deployment \"nothing\""]);
    invoke("counter/count", "{").refused(2, &["not JSON"]);
    invoke("counter/count", "{\"indes\": 1}").refused(1, &["indes"]);
    invoke("counter/count", "{\"index\": -1}").refused(1, &["index"]);
    invoke("counter/count", "{}").fine();
}

#[test]
fn fuel_is_the_deployments() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let deployed = cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers", "--udma-operations", "0"]);
    deployed.refused(0, &["warning: counter/count may need 1 UDMA operation: more than --udma-operations 0"]);
    assert!(!deployed.stderr.contains("counter/transfer"), "its operations have no bound: {deployed:?}");
    cluster.run(&["invoke", "counter/count"]).refused(
        1,
        &["more UDMA operations than its limit; what it did before that stays done", "0 UDMA operations", "`--udma-operations N`"],
    );
}

#[test]
fn undeployed_handlers_are_gone_and_names_are_free_again() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&["--host", "2"]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let deploy = || cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers", "--json"]).json();
    let first = deploy();
    cluster.run(&["grant", "65534", "counter", "invoke"]).fine();
    cluster.run(&["grant", "65534", "nothing", "invoke"]).refused(1, &["no deployment"]);
    cluster.run(&["undeploy", "counter"]).fine();
    cluster.run(&["undeploy", "counter"]).refused(1, &["no deployment"]);
    cluster.run(&["invoke", "counter/count"]).refused(1, &["no deployment"]);
    let second = deploy();
    assert_eq!((first["index"].as_u64(), second["index"].as_u64()), (Some(0), Some(0)));
    assert!(second["generation"].as_u64() > first["generation"].as_u64());
    assert_eq!(invoke(&cluster, "counter/count", &json!({ "value": 1 }))["result"], 0);
    cluster.run(&["undeploy", "counter"]).fine();
    cluster.run(&["region", "remove", "numbers"]).fine();
}

#[test]
fn constants_make_a_bundle_of_their_own() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let file = bundle(&scratch, "mica");
    for region in ["table", "heap"] {
        cluster.run(&["region", "create", region, "--bytes", "4M"]).fine();
    }
    let deploy = |name: &str, rest: &[&str]| {
        let common = ["deploy", &file, "--as", name, "--bind", "table=table", "--bind", "heap=heap", "--json"];
        cluster.run(&[&common[..], rest].concat()).json()
    };
    let (store, cache) = (deploy("store", &[]), deploy("cache", &["--set", "cache=1"]));
    assert_ne!(store["bundle"], cache["bundle"]);
    assert_eq!(cache["constants"], json!({ "cache": 1 }));
}

/// A reply that is shorter than its struct says so, and is zero behind its end.
#[test]
fn short_replies_say_how_much_came() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    cluster.run(&["deploy", &bundle(&scratch, "bytes"), "--as", "bytes"]).fine();
    let message = json!({ "length": 8, "data": "eightmore" });
    let reply = invoke(&cluster, "bytes/echo", &message);
    assert_eq!((&reply["reply_bytes"], &reply["message"]["data"]), (&8.into(), &"eigh".into()), "{reply}");
    let words = cluster.run(&["invoke", "bytes/echo", "--message", &message.to_string()]).stdout;
    assert!(words.contains("reply 8 of 512 bytes\n"), "{words}");
}

/// A cluster whose deployment `counter` has one message under way that does not end: it waits for a lock that nobody holds. `other` has the
/// same region.
fn with_a_message_under_way<'a>(scratch: &'a Scratch) -> (Cluster<'a>, std::process::Child) {
    let cluster = scratch.start(&[]);
    let file = bundle(scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let fuel = ["--back-edges", "4294967295", "--udma-operations", "4294967295"];
    for name in ["counter", "other"] {
        cluster.run(&[&["deploy", &file, "--as", name, "--bind", "counters=numbers"], &fuel[..]].concat()).fine();
    }
    // Counter 0 is the lock of transfers.
    invoke(&cluster, "other/count", &json!({ "index": 0, "value": 1 }));
    let waiting = scratch
        .command()
        .args(["invoke", "counter/transfer", "--message", "{\"from\": 1, \"to\": 2}"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while cluster.run(&["status", "--json"]).json()["places"][0]["executors"][0]["counters"]["requests"] != 2 {}
    (cluster, waiting)
}

#[test]
fn a_client_is_told_when_the_place_dies_under_it() {
    let scratch = Scratch::new();
    let (cluster, waiting) = with_a_message_under_way(&scratch);
    cluster.place().kill();
    let output = waiting.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("its executor died while the request was under way"), "{stderr}");
    assert!(stderr.contains("before you send it again"), "{stderr}");
    cluster.run(&["invoke", "counter/count", "--message", "{}"]).fine();
}

#[test]
fn a_client_that_is_killed_leaves_no_session() {
    let scratch = Scratch::new();
    let (cluster, mut waiting) = with_a_message_under_way(&scratch);
    assert_eq!(cluster.run(&["status", "--json"]).json()["sessions"], 1);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    while cluster.run(&["status", "--json"]).json()["sessions"] != 0 {}
    assert_eq!(invoke(&cluster, "counter/count", &json!({ "index": 5, "value": 1 }))["result"], 0);
}

#[test]
fn undeploying_waits_for_what_is_under_way_and_takes_nothing_new() {
    let scratch = Scratch::new();
    let (cluster, waiting) = with_a_message_under_way(&scratch);
    let mut undeploying = scratch.command().args(["undeploy", "counter"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let refused = loop {
        let ran = cluster.run(&["invoke", "counter/count"]);
        if ran.code != Some(0) {
            break ran;
        }
    };
    refused.refused(1, &["unknown deployment"]);
    assert!(undeploying.try_wait().unwrap().is_none(), "a message is under way");
    invoke(&cluster, "other/count", &json!({ "index": 0, "value": u64::MAX }));
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(undeploying.wait().unwrap().success());
    cluster.run(&["invoke", "counter/count"]).refused(1, &["no deployment"]);
}

#[test]
fn bundles_compile_to_native_objects() {
    let scratch = Scratch::new();
    let file = bundle(&scratch, "counter");
    let object = scratch.file("counter.native.o");
    scratch.run(&["compile", &file, "-o", object.to_str().unwrap()]).fine();
    let bytes = fs::read(&object).unwrap();
    assert!(bytes.starts_with(b"\x7fELF"));
    assert!(bytes.windows(11).any(|window| window == b"count.start"));
    scratch.run(&["compile", object.to_str().unwrap(), "-o", "/dev/null"]).refused(1, &["N401", "naamc build"]);
    scratch.run(&["compile", "/nonexistent", "-o", "/dev/null"]).refused(2, &["/nonexistent"]);
}

#[test]
fn exec_speaks_the_runners_protocol() {
    use std::io::Write;
    let scratch = Scratch::new();
    let run = |arguments: &[&str], program: &str| {
        let mut command = scratch.command();
        command.arg("exec").args(arguments).stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // r0 = *(u8 *)(r1 + 1); r0 += r2; exit
    let program = "71 10 01 00 00 00 00 00 0f 20 00 00 00 00 00 00 95 00 00 00 00 00 00 00\n";
    for engine in ["interpreter", "jit"] {
        assert_eq!(run(&["--engine", engine, "10 20 30"], program), (Some(0), "23\n".into(), String::new()), "{engine}");
        let (code, stdout, stderr) = run(&["--engine", engine], program);
        assert!(code == Some(1) && stdout.is_empty() && !stderr.is_empty(), "no memory, so the load is refused: {stderr}");
        let (code, stdout, _) = run(&["--engine", engine, "00"], "zz");
        assert!(code == Some(2) && stdout.is_empty());
    }
}

/// What --help shows works, in this order. Huge pages must have been reserved, and the examples of `naam-run --help` are the guide's.
#[test]
fn examples_in_help_work() {
    let scratch = Scratch::new();
    let _cluster = scratch.start(&["--nic", "1"]);
    bundle(&scratch, "mica");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_naam-run"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut outputs = String::new();
    for command in [&["region", "create"][..], &["deploy"], &["invoke"], &["grant"], &["steer"], &["compile"]] {
        let help = scratch.run(&[command, &["--help"]].concat()).fine().to_owned();
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  naam-run ")).collect();
        assert!(!examples.is_empty(), "{help}");
        for example in examples.into_iter().filter(|example| !example.contains("--huge-pages")) {
            let example = example.split(" && ").next().unwrap();
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", example]).current_dir(scratch.file("")).env("PATH", &path).env("XDG_RUNTIME_DIR", scratch.file(""));
            let output = shell.output().unwrap();
            assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
            outputs.push_str(&String::from_utf8(output.stdout).unwrap());
        }
    }
    assert!(outputs.contains("\"data\": \"key-0001hi\"") && outputs.contains("Deployed cache"), "{outputs}");
}
