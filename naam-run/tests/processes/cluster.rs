//! Clusters as processes: they start, are found, refuse what they must, and leave nothing behind however they end.

use crate::deployments::bundle;
use crate::harness::{Process, Scratch};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn stops_by_command_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&["--host", "2"]);
    let status = cluster.run(&["status", "--json"]).json();
    assert_eq!(status["name"], "default");
    assert_eq!(status["places"][0]["executors"].as_array().unwrap().len(), 2);
    assert!(cluster.run(&["status"]).stdout.contains("executor 2"));
    let place = cluster.place();
    cluster.run(&["stop"]).fine();
    assert!(place.is_gone(), "stop waits until the cluster has ended");
    assert!(!scratch.clusters().exists());
    let ran = cluster.ended();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    scratch.run(&["status"]).refused(1, &["no cluster \"default\" is running", "naam-run cluster"]);
}

/// A name is free when `stop` has returned.
#[test]
fn a_stopped_cluster_can_be_started_again_at_once() {
    let scratch = Scratch::new();
    for _ in 0..3 {
        let cluster = scratch.start(&[]);
        cluster.run(&["stop"]).fine();
        cluster.run(&["stop"]).refused(1, &["no cluster \"default\" is running"]);
    }
}

/// Without its socket a cluster is there and cannot be asked to stop.
#[test]
fn a_cluster_without_its_socket_is_called_unreachable() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    fs::remove_file(cluster.control_socket()).unwrap();
    let process = cluster.child.id();
    let words = [&format!("runs (process {process}) but cannot be reached"), "socket is gone", &format!("`kill {process}`")];
    for command in ["status", "stop"] {
        cluster.run(&[command]).refused(1, &words);
    }
    cluster.signal(Signal::TERM);
    cluster.ended().fine();
    assert!(!scratch.clusters().exists());
}

#[test]
fn stops_by_signals() {
    for signal in [Signal::INT, Signal::TERM] {
        let scratch = Scratch::new();
        let cluster = scratch.start(&[]);
        let place = cluster.place();
        cluster.signal(signal);
        cluster.ended().fine();
        assert!(place.is_gone());
        assert!(!scratch.clusters().exists());
    }
}

#[test]
fn starts_a_place_again_and_ends_clearly_when_it_dies_too_often() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    let place = cluster.place();
    place.kill();
    while cluster.run(&["status"]).fine().contains("incarnation 1") {}
    assert!(place.is_gone());
    assert!(cluster.run(&["region", "list"]).fine().contains("numbers"), "regions outlive a place");
    let mut last = 0;
    loop {
        let ran = cluster.run(&["--json", "status"]);
        if ran.code != Some(0) {
            break;
        }
        let place = &ran.json()["places"][0];
        assert_eq!(place["process"].is_null(), place["state"] != "running", "{place}");
        if let Some(process) = place["process"].as_u64()
            && process != last
        {
            Process::open(process as u32).kill();
            last = process;
        }
    }
    let words = ["the host place", "died", "signal 9", "died too often", "\"default\" has ended, and its regions are gone"];
    cluster.ended().refused(1, &words);
    assert!(!scratch.clusters().exists());
}

#[test]
fn goes_on_when_nobody_reads_its_warnings() {
    let scratch = Scratch::new();
    let mut cluster = scratch.start(&[]);
    drop(cluster.child.stderr.take());
    cluster.place().kill();
    while cluster.run(&["status"]).fine().contains("incarnation 1") {}
    cluster.run(&["stop"]).fine();
    assert_eq!(cluster.child.wait().unwrap().code(), Some(0));
}

#[test]
fn messages_are_steered_to_the_nic_and_back() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&["--nic", "2", "--dma-latency-ns", "2000"]);
    let file = bundle(&scratch, "counter");
    cluster.run(&["region", "create", "numbers", "--bytes", "4K"]).fine();
    cluster.run(&["deploy", &file, "--as", "counter", "--bind", "counters=numbers"]).fine();
    let invoke = |value: u64| {
        let message = format!("{{\"index\": 3, \"value\": {value}}}");
        cluster.run(&["invoke", "counter/count", "--message", &message]).fine().to_owned()
    };
    assert!(invoke(5).contains("from host executor 1: 1 UDMA operation, 0 suspensions"));
    let steered = cluster.run(&["steer", "all", "nic"]).fine().to_owned();
    assert_eq!(steered.trim(), "flows    0 to 1023 (1,024 flows): nic, executors 2 3");
    let reply = invoke(6);
    assert!(reply.contains("from nic executor") && reply.contains("1 suspension"), "{reply}");
    let steered = cluster.run(&["steer", "0-255,512", "host"]).fine().to_owned();
    assert_eq!(steered.lines().count(), 4, "{steered}");
    let flows = cluster.run(&["flows", "--json"]).json();
    let places: Vec<&str> = flows["flows"].as_array().unwrap().iter().map(|flows| flows["place"].as_str().unwrap()).collect();
    assert_eq!(places, ["host", "nic", "host", "nic"]);
    cluster.run(&["steer", "all", "host"]).fine();
    assert!(invoke(7).contains("\"value\": 11"), "the counter's old value");
    cluster.run(&["steer", "1024", "nic"]).refused(2, &["1024", "0 to 1023"]);
    let plain = scratch.start(&["--name", "plain"]);
    scratch.run(&["--cluster", "plain", "steer", "all", "nic"]).refused(1, &["no nic place", "--nic 1"]);
    drop(plain);
}

#[test]
fn a_place_does_not_outlive_its_supervisor_and_a_dead_cluster_is_replaced() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let place = cluster.place();
    cluster.signal(Signal::KILL);
    place.wait();
    assert_eq!(cluster.ended().code, None);
    assert!(scratch.clusters().join("default/control.socket").exists(), "the test needs leftovers");
    scratch.run(&["status"]).refused(1, &["no cluster \"default\" is running"]);
    let cluster = scratch.start(&[]);
    cluster.run(&["status"]).fine();
}

#[test]
fn clusters_are_found_by_name() {
    let scratch = Scratch::new();
    let _one = scratch.start(&[]);
    let _other = scratch.start(&["--name", "other"]);
    scratch.run(&["region", "create", "mine", "--bytes", "4K"]).fine();
    assert_eq!(scratch.run(&["region", "list", "--json"]).json().as_array().unwrap().len(), 1);
    assert_eq!(scratch.run(&["region", "list", "--json", "--cluster", "other"]).json().as_array().unwrap().len(), 0);
    scratch.run(&["cluster"]).refused(1, &["\"default\" is running already", "--name"]);
    scratch.run(&["cluster", "--name", "other"]).refused(1, &["\"other\" is running already"]);
    assert!(scratch.run(&["status", "--cluster", "other"]).stdout.contains("`naam-run --cluster other region create"));
    scratch
        .run(&["region", "save", "mine", "/dev/null", "--cluster", "other"])
        .refused(1, &["`naam-run --cluster other region list`"]);
    scratch.run(&["status", "--cluster", "third"]).refused(1, &["no cluster \"third\"", "--name third"]);
}

#[test]
fn directories_that_others_can_reach_are_refused() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.clusters()).unwrap();
    fs::set_permissions(scratch.clusters(), fs::Permissions::from_mode(0o755)).unwrap();
    scratch.run(&["cluster"]).refused(1, &["open to other users", "chmod 700"]);
    scratch.run(&["status"]).refused(1, &["open to other users", "chmod 700"]);
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let scratch = Scratch::new();
    for arguments in [
        &[][..],
        &["nonsense"],
        &["cluster", "--host", "0"],
        &["cluster", "--host", "65"],
        &["cluster", "--name", "../up"],
        &["cluster", "--name", "one", "--cluster", "other"],
        &["region", "create", "r", "--bytes", "12X"],
        &["region", "create", "r"],
        &["deploy", "/nonexistent.naam", "--as", "a"],
        &["deploy", "f", "--as", "a", "--bind", "nothing"],
        &["grant", "no-such-user", "a", "invoke"],
        &["grant", "0", "a", "everything"],
    ] {
        let ran = scratch.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
    }
    assert!(scratch.run(&["--help"]).stdout.contains("Examples:"));
    assert!(!scratch.run(&["--help"]).stdout.contains("exec "), "exec is for a runner, not for people");
}

#[test]
fn regions_are_created_filled_saved_and_removed() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    let content: Vec<u8> = (0..100_001_u32).map(|index| (index * 7 % 251) as u8).collect();
    let (source, saved) = (scratch.file("source"), scratch.file("saved"));
    fs::write(&source, &content).unwrap();
    let (source, saved) = (source.to_str().unwrap(), saved.to_str().unwrap());
    cluster.run(&["region", "create", "index", "--bytes", "3M", "--from", source]).fine();
    cluster.run(&["region", "save", "index", saved]).fine();
    let bytes = fs::read(saved).unwrap();
    assert_eq!(bytes.len(), 3 << 20);
    assert!(bytes.starts_with(&content) && bytes[content.len()..].iter().all(|byte| *byte == 0));
    cluster.run(&["region", "create", "small", "--bytes", "4K"]).fine();
    cluster.run(&["region", "load", "small", source]).refused(1, &["100,001 bytes", "4,096"]);
    cluster.run(&["region", "create", "third", "--bytes", "4K", "--from", source]).refused(1, &["more than --bytes 4,096"]);
    cluster.run(&["region", "create", "index", "--bytes", "4K"]).refused(1, &["already", "region remove index"]);
    cluster.run(&["region", "create", "a/b", "--bytes", "4K"]).refused(2, &["cannot name a region"]);
    cluster.run(&["region", "create", "zero", "--bytes", "0"]).refused(2, &["1 to 17,592,186,044,416 bytes (16 TiB), not 0"]);
    cluster.run(&["region", "create", "vast", "--bytes", "16T"]).refused(1, &["no memory", "available"]);
    cluster.run(&["region", "save", "nothing", saved]).refused(1, &["no region \"nothing\"", "region list"]);
    cluster.run(&["region", "load", "nothing", source]).refused(1, &["no region \"nothing\""]);
    assert_eq!(fs::read(saved).unwrap().len(), 3 << 20, "a failed save leaves the old file");
    cluster.run(&["region", "remove", "index"]).fine();
    cluster.run(&["region", "remove", "index"]).refused(1, &["no region"]);
    let again = cluster.run(&["region", "create", "index", "--bytes", "4K", "--json"]).json();
    assert_eq!((again["generation"].as_u64(), again["length_bytes"].as_u64()), (Some(2), Some(4096)));
    cluster.run(&["region", "save", "index", saved]).fine();
    assert_eq!(fs::read(saved).unwrap(), vec![0; 4096], "a region that is created again is zero");
    let names: Vec<String> =
        cluster.run(&["region", "list"]).stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["index", "small"]);
}

/// A region goes to where its file's path leads; only regular files are replaced.
#[test]
fn a_region_is_saved_through_links_and_into_fifos() {
    let scratch = Scratch::new();
    let cluster = scratch.start(&[]);
    cluster.run(&["region", "create", "numbers", "--bytes", "64K"]).fine();
    let folder = scratch.file("folder");
    fs::create_dir(&folder).unwrap();
    let save = |path: &std::path::Path| cluster.run(&["region", "save", "numbers", path.to_str().unwrap()]);
    let (fifo, link, file) = (folder.join("fifo"), folder.join("link"), folder.join("file"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    save(&fifo).fine();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&fifo).unwrap().file_type()), "it was replaced");
    assert_eq!(reader.join().unwrap(), vec![0; 65536]);
    std::os::unix::fs::symlink("file", &link).unwrap();
    save(&link).fine();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), vec![0; 65536]);
    save(&folder).refused(2, &[&format!("cannot write {}: ", folder.display())]);
    // As on a disk that is full.
    fs::write(&file, "old").unwrap();
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" region save numbers \"$1\"";
    let output = std::process::Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_naam-run"), file.to_str().unwrap()])
        .env("XDG_RUNTIME_DIR", scratch.file(""))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && stderr.contains(&format!("cannot write {}: ", file.display())), "{stderr}");
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "nothing is left beside it");
}
