//! Runs the commands of `docs/guides/first-handler.md` and `docs/guides/workload.md` as they stand there. A lab test: the first needs clang.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The `sh` blocks of a page, in order.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.flat_map(str::lines).map(str::to_string).collect()
}

/// Why the lab cannot run, if it cannot.
fn missing(programs: &Path) -> Option<String> {
    if let Some(program) = ["naamc", "naam-bench"].into_iter().find(|program| !programs.join(program).exists()) {
        return Some(format!("{program} is not built: run `cargo test --workspace`"));
    }
    let clang = Command::new("clang-19").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if clang.is_ok_and(|status| status.success()) { None } else { Some("there is no clang-19: apt install clang-19".to_string()) }
}

/// A program that does not outlive the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_guides_work() {
    let naam_run = PathBuf::from(env!("CARGO_BIN_EXE_naam-run"));
    let programs = naam_run.parent().expect("a program lies in a folder");
    if let Some(why) = missing(programs) {
        assert!(std::env::var_os("NAAM_LAB").is_none(), "{why}");
        println!("skipped: {why}");
        return;
    }
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides");
    let page = |name: &str| commands(&std::fs::read_to_string(guides.join(name)).expect("the guide can be read"));
    let (mut commands, workload) = (page("first-handler.md"), page("workload.md"));
    assert!(commands.len() >= 8 && workload.len() >= 2, "the guides have commands: {commands:?}, {workload:?}");
    // The second goes on where the first stops the cluster.
    let stop = commands.pop().expect("it has commands");
    commands.extend(workload);
    commands.push(stop);

    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&scratch).env("PATH", &path).env("XDG_RUNTIME_DIR", scratch.path());
        shell
    };
    let mut cluster = Ended(shell("exec naam-run cluster").stdout(Stdio::piped()).spawn().expect("a cluster starts"));
    let mut lines = BufReader::new(cluster.0.stdout.take().expect("its output is a pipe")).lines();
    let first = lines.next().expect("it says that it runs").expect("in text");
    assert!(first.contains("is running"), "{first}");

    let mut outputs = String::new();
    for command in &commands {
        let output = shell(command).output().expect("a shell runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}:\n{text}");
        outputs.push_str(&text);
    }
    assert!(outputs.contains("\"before\": 5"), "the second reply shows the first's effect:\n{outputs}");
    assert!(outputs.contains("fetch_add(counters, offset 24, addend 5)"), "the trace shows its steps:\n{outputs}");
    assert!(outputs.contains("requests/s") && outputs.contains("result 0"), "a workload is measured:\n{outputs}");
    assert!(cluster.0.wait().expect("the cluster ends").success());
}
