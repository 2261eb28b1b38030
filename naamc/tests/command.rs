//! The built program: what it prints, and its exit codes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn naamc(folder: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_naamc")).args(arguments).current_dir(folder).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A prebuilt object file of the samples.
fn sample(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/handlers").join(name);
    file.to_str().expect("the path is text").to_owned()
}

fn here() -> PathBuf {
    std::env::temp_dir()
}

/// Bytes behind a short reply do not come back, so they are not shown as they were.
#[test]
fn a_short_reply_is_zero_behind_its_end() {
    let message = "{\"length\": 8, \"data\": \"eightmore\"}";
    let ran = naamc(&here(), &["trace", &sample("bytes.o"), "echo", "--message", message]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("result 0\nreply  8 of 512 bytes\n"), "{ran:?}");
    assert!(ran.stdout.contains("\"data\": \"eigh\""), "{ran:?}");
}

/// A loop that waits for a lock is shown by its beginning and its end, and says what stopped it.
#[test]
fn long_traces_are_shortened() {
    let scratch = tempfile::tempdir().unwrap();
    let mut counters = vec![0; 4096];
    counters[0] = 1;
    std::fs::write(scratch.path().join("counters"), counters).unwrap();
    let counter = sample("counter.o");
    let trace = ["trace", &counter, "transfer", "--message", "{\"from\": 1, \"to\": 2}", "--region", "counters=counters"];
    let short = naamc(scratch.path(), &trace);
    assert_eq!(short.code, Some(1), "{short:?}");
    assert!(short.stdout.contains("... 3,846 steps left out (--all prints them)\n"), "{}", short.stdout);
    assert!(short.stdout.contains("more UDMA operations than its limit, 4,096; `naam-run deploy --udma-operations N`"));
    let all = naamc(scratch.path(), &[&trace[..], &["--all"]].concat());
    let steps = |ran: &Ran| ran.stdout.lines().filter(|line| line.contains("compare_swap(counters")).count();
    assert_eq!((steps(&short), steps(&all)), (250, 4096));
}

#[test]
fn regions_of_a_trace_have_units_and_results_a_meaning() {
    let counter = sample("counter.o");
    let trace = |message: &str, rest: &[&str]| {
        let whole = [&["trace", &counter, "count", "--message", message], rest].concat();
        naamc(&here(), &whole)
    };
    let fine = trace("{\"index\": 511}", &["--region", "counters=4K"]);
    assert!(fine.stdout.contains("result 0\n") && fine.stdout.contains("1 UDMA operation, 0 metered back edges"), "{fine:?}");
    let outside = trace("{\"index\": 512}", &["--region", "counters=4K"]);
    assert!(outside.stdout.contains(" = -14 (out of range)\n"), "{outside:?}");
    assert!(outside.stdout.contains("result -14 (out of range)\n"), "{outside:?}");
    let unknown = trace("{}", &["--region", "counters=4K", "--save", "count=/dev/null"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""), "refused before the run: {unknown:?}");
    assert!(unknown.stderr.contains("declares no region `count`; it declares counters"), "{unknown:?}");
}

#[test]
fn a_name_that_c_has_already_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, reason) in [("int", "a word of C"), ("u64", "a name of naam.h"), ("counters", "region"), ("a-b", "letters")] {
        let ran = naamc(scratch.path(), &["new", name]);
        assert_eq!(ran.code, Some(2), "{name}: {ran:?}");
        assert!(ran.stderr.contains(reason) && !scratch.path().join(format!("{name}.c")).exists(), "{name}: {ran:?}");
    }
    assert_eq!(naamc(scratch.path(), &["new", "tally"]).code, Some(0));
}

#[test]
fn what_is_nothing_of_ours_is_called_so() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("words"), "root:x:0:0\n").unwrap();
    let ran = naamc(scratch.path(), &["inspect", "words"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("neither a bundle (.naam), nor an ELF (.o), nor C (.c)"), "{ran:?}");
}

#[test]
fn one_handler_is_one() {
    let ran = naamc(&here(), &["check", &sample("counter.o")]);
    assert!(ran.stdout.contains("counter.o: 3 handlers verified, id "), "{ran:?}");
}
