//! A run against a cluster of others that is interrupted: nothing of it stays there. The cluster's processes are this program re-executed, so
//! it has a `main` of its own.

use runtime::node::{Node, Options, embedded_name, enter};
use runtime::place::NativePrograms;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};

fn main() {
    enter(&NativePrograms::default());
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        interrupted_runs_leave_nothing(signal, code);
    }
    println!("interrupted runs leave nothing behind: ok");
}

fn interrupted_runs_leave_nothing(signal: Signal, code: i32) {
    let node = Node::start(&Options { pin: false, ..Options::new(embedded_name()) }).expect("a cluster starts");
    let mut run = Command::new(env!("CARGO_BIN_EXE_naam-bench"))
        .args(["ycsb", "--records", "1000", "--seconds", "3600", "--cluster", &node.address().name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Its session is there after its regions and deployments.
    while node.control().status().expect("the cluster answers").sessions == 0 {
        assert_eq!(run.try_wait().expect("it can be asked"), None, "it ended before it connected");
    }
    kill_process(Pid::from_child(&run), signal).expect("it runs");
    let output = run.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("interrupted: removing what this run made"), "{stderr}");
    let status = node.control().status().expect("the cluster answers");
    assert!(status.regions.is_empty() && status.deployments.is_empty(), "{status:?}");
    node.stop().expect("the cluster stops");
}
