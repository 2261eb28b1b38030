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
    ran(Command::new(env!("CARGO_BIN_EXE_naamc")).args(arguments).current_dir(folder))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("it starts");
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
    for (name, reason) in [
        ("int", "a word of C"),
        ("u64", "a name of naam.h"),
        ("counters", "region"),
        ("a-b", "letters"),
        ("9x", "begins with a letter"),
        ("", "begins with a letter"),
    ] {
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

/// Runs it so that it cannot write more than 512 bytes to a file, as on a disk that is full.
fn naamc_on_a_full_disk(folder: &Path, arguments: &[&str]) -> Ran {
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let naamc = env!("CARGO_BIN_EXE_naamc");
    ran(Command::new("sh").args(["-c", limited, naamc]).args(arguments).current_dir(folder))
}

#[test]
fn an_output_that_cannot_be_written_leaves_the_old_one() {
    let scratch = tempfile::tempdir().unwrap();
    let counter = sample("counter.o");
    for arguments in
        [&["build", &counter, "-o", "out"][..], &["trace", &counter, "count", "--region", "counters=4K", "--save", "counters=out"]]
    {
        std::fs::write(scratch.path().join("out"), "old").unwrap();
        let failed = naamc_on_a_full_disk(scratch.path(), arguments);
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert!(failed.stderr.contains("cannot write out: "), "{failed:?}");
        assert_eq!(std::fs::read(scratch.path().join("out")).unwrap(), b"old", "{arguments:?}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(naamc(scratch.path(), arguments).code, Some(0));
        assert_ne!(std::fs::read(scratch.path().join("out")).unwrap(), b"old", "{arguments:?}");
    }
}

#[test]
fn a_lost_output_is_an_error_and_a_reader_that_went_away_is_none() {
    let counter = sample("counter.o");
    let commands = [
        &["inspect", &counter][..],
        &["inspect", &counter, "--json"],
        &["check", &counter],
        &["check", &counter, "--json"],
        &["explain"],
        &["explain", "N301"],
        &["trace", &counter, "count", "--region", "counters=4K"],
    ];
    for arguments in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let lost = ran(Command::new(env!("CARGO_BIN_EXE_naamc")).args(arguments).stdout(full));
        assert_eq!(lost.code, Some(2), "{arguments:?}: {lost:?}");
        assert!(lost.stderr.contains("cannot write to standard output"), "{lost:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = ran(Command::new(env!("CARGO_BIN_EXE_naamc")).args(arguments).stdout(writer));
        assert_eq!((unread.code, unread.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// No executor has another number, so no lock word of a trace may hold one.
#[test]
fn executors_have_the_numbers_that_the_header_promises() {
    for (number, code) in [("0", 2), ("1", 0), ("65535", 0), ("65536", 2)] {
        let ran = naamc(&here(), &["trace", &sample("counter.o"), "count", "--region", "counters=4K", "--executor", number]);
        assert_eq!(ran.code, Some(code), "{number}: {ran:?}");
    }
}

/// A wrong name on the command line is wrong usage; what a file says is rejected.
#[test]
fn wrong_names_are_usage_errors() {
    let counter = sample("counter.o");
    for arguments in [
        &["trace", &counter, "nothing"][..],
        &["trace", &counter, "count", "--region", "nothing=4K"],
        &["trace", &counter, "count", "--region", "counters=4K", "--set", "nothing=1"],
        &["inspect", &counter, "--handler", "nothing"],
        &["explain", "N999"],
    ] {
        let ran = naamc(&here(), arguments);
        assert!(ran.code == Some(2) && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn findings_have_their_column() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/verifier/patterns");
    let pair = naamc(&folder, &["check", "06_induction_pair.o", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&pair.stdout).unwrap();
    let line = &report[0]["findings"][0]["line"];
    let place = format!("{}:{}:{}]", line["file"].as_str().unwrap(), line["line"], line["column"]);
    assert!(line["column"].as_u64().unwrap() > 1, "{line}");
    let words = naamc(&folder, &["check", "06_induction_pair.o"]);
    assert!(words.stderr.contains(&place), "{place}: {words:?}");
}

#[test]
fn a_compiler_that_cannot_run_is_no_finding() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("x.c"), "").unwrap();
    let missing = scratch.path().join("missing");
    let mut command = Command::new(env!("CARGO_BIN_EXE_naamc"));
    let ran = ran(command.args(["check", "x.c"]).env("TMPDIR", &missing).current_dir(scratch.path()));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("no scratch directory") && !ran.stderr.contains("N121"), "{ran:?}");
}
