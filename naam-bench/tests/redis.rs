//! The built program against a real Redis server, where one is installed. No test looks at a time.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn baseline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_naam-bench"));
    command.args(["baseline", "redis", "--records", "2000"]).args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    baseline(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that is installed; without one, the lab says that it is skipped.
fn redis() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = ["redis-server", "valkey-server"].into_iter().flat_map(|name| directories.iter().map(move |path| path.join(name)));
    let found = all.into_iter().find(|program| program.exists());
    if found.is_none() {
        let why = "this lab needs a Redis server: `apt install redis-server`";
        assert!(std::env::var_os("NAAM_LAB").is_none(), "{why}");
        eprintln!("skipped: {why}");
    }
    found
}

/// A program in `directory` with this text.
fn script(directory: &Path, text: &str) -> String {
    let path = directory.join("server");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Both sides of the report hold what they must, and its ratio is that of the turns.
#[test]
fn redis_serves_the_same_workload() {
    if redis().is_none() {
        return;
    }
    for workload in ["B", "D", "F"] {
        let mut arguments = vec!["--json", "--workload", workload, "--seconds", "0.4", "--turns", "2"];
        if workload != "B" {
            arguments.extend(["--clients", "2", "--window", "9", "--key-bytes", "21", "--value-bytes", "100"]);
        }
        let output = output(&arguments);
        assert_eq!(output.status.code(), Some(0), "{workload}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.stderr.is_empty(), "no progress where there is no terminal: {}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        assert_eq!((&report["experiment"], &report["engine"]), (&"baseline-redis".into(), &"jit".into()));
        let redis = &report["redis"];
        assert!(redis["server"].as_str().is_some_and(|name| name.starts_with("Redis ") || name.starts_with("Valkey ")), "{redis}");
        for side in [&report, redis] {
            assert_eq!(side["results"], serde_json::json!({ "ok": side["requests"] }), "every request ended in ok: {side}");
            assert_eq!((&side["errors"], &side["values_wrong"]), (&serde_json::json!({}), &0.into()));
            assert!(side["requests"].as_u64() > Some(0) && side["values_checked"].as_u64() > Some(0));
            assert_eq!(side["load"]["records"], 2000);
            let at_end = side["records_checked_at_end"].as_u64().unwrap();
            assert_eq!(at_end > 2000, workload == "D", "{workload}: {at_end} records");
        }
        assert!(redis.get("udma_operations_per_request").is_none() && report["udma_operations_per_request"].is_f64());
        let turns: Vec<f64> =
            report["ratio_to_redis_turns"].as_array().unwrap().iter().map(|turn| turn.as_f64().unwrap()).collect();
        let ratios = ["ratio_to_redis_min", "ratio_to_redis", "ratio_to_redis_max"].map(|name| report[name].as_f64().unwrap());
        assert!(turns.len() == 2 && turns.iter().all(|turn| *turn > 0.0) && ratios.is_sorted(), "{turns:?}, {ratios:?}");
    }
}

/// NAAM's requests run where they were asked to, and its run says what each place did; Redis has no places.
#[test]
fn places_are_told_apart() {
    if redis().is_none() {
        return;
    }
    for (place, served) in [("nic", &["nic"][..]), ("client", &["client", "host"]), ("mixed", &["client", "nic", "host"])] {
        let output = output(&["--json", "--seconds", "0.4", "--turns", "2", "--place", place]);
        assert_eq!(output.status.code(), Some(0), "{place}: {}{}", text(&output.stdout), text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        let places = report["places"].as_array().unwrap_or_else(|| panic!("--place {place} has places: {report}"));
        let names: Vec<&str> = places.iter().filter_map(|place| place["place"].as_str()).collect();
        assert_eq!(names, served, "--place {place}");
        assert!(report["redis"].get("places").is_none(), "{report}");
    }
}

/// However a run ends, its server ends with it, and nothing lies about.
#[test]
fn interrupted_runs_leave_no_server() {
    let Some(program) = redis() else { return };
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let directory = tempfile::tempdir().unwrap();
        let (told, scratch) = (directory.path().join("pid"), directory.path().join("scratch"));
        std::fs::create_dir(&scratch).unwrap();
        let tells =
            format!("#!/bin/sh\necho $$ >{0}.new && mv {0}.new {0} && exec {1} \"$@\"\n", told.display(), program.display());
        let server = script(directory.path(), &tells);
        let mut run = baseline(&["--seconds", "3600", "--server", &server])
            .env("TMPDIR", &scratch)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        while !told.exists() {
            assert_eq!(run.try_wait().expect("it can be asked"), None, "it ended before its server began");
            std::thread::yield_now();
        }
        let number = std::fs::read_to_string(&told).unwrap().trim().parse().unwrap();
        let server = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).expect("the server runs");
        // For SIGKILL the socket must be gone first: nobody is left to remove it.
        while signal == Signal::KILL
            && std::fs::read_dir(&scratch).unwrap().any(|entry| is_socket_directory(&entry.unwrap().path()))
        {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&run), signal).expect("it runs");
        let output = run.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), code, "{}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !text(&output.stderr).contains("error"), "{}", text(&output.stderr));
        // Becomes readable when it has ended.
        poll(&mut [PollFd::new(&server, PollFlags::IN)], None).expect("its end can be waited for");
        let left: Vec<PathBuf> = std::fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!left.iter().any(|path| is_socket_directory(path)), "{signal:?} leaves {left:?}");
    }
}

fn is_socket_directory(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("naam-bench-redis-"))
}

/// Where there is no server, or none that works, the run fails and says why.
#[test]
fn missing_servers_are_explained() {
    let none = baseline(&[]).env("PATH", "/nonexistent").output().expect("the program starts");
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("apt install redis-server"), "{}", text(&none.stderr));
    let directory = tempfile::tempdir().unwrap();
    let broken = script(directory.path(), "#!/bin/sh\necho cannot do that >&2\nexit 3\n");
    for (server, reasons) in [("/nonexistent", &["no such program"][..]), (&broken, &["exit status: 3", "cannot do that"])] {
        let output = output(&["--server", server]);
        assert_eq!(output.status.code(), Some(1), "{server}");
        for reason in reasons {
            assert!(text(&output.stderr).contains(reason), "{server}: {}", text(&output.stderr));
        }
    }
}

/// What makes no sense beside a private server is a usage error.
#[test]
fn foreign_options_exit_2() {
    for arguments in [&["--cluster", "x"][..], &["--compare", "native"], &["--workload", "E"], &["--turns", "0"]] {
        assert_eq!(output(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
