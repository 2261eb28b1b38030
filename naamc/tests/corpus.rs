//! What is checked in of handlers is what it says it is: twins differ in one line, ELFs are what clang makes of the C, and the C does natively
//! what its model tests demand.

use naamc::object;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of a folder with this extension, ascending.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("testdata is part of the repository");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

/// Whether a tool of a lab is there. With `NAAM_LAB` set it must be; else the lab says that it is skipped.
fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("NAAM_LAB").is_none(), "this lab needs {name}");
    if !found {
        println!("skipped: this lab needs {name}");
    }
    found
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success(), "{command:?}:\n{text}");
    println!("{text}");
}

/// Every mistake has a twin: the same C but for one line, with one line judged.
#[test]
fn twins_differ_in_one_line() {
    let testdata = repository().join("testdata/verifier");
    let mistakes = files(&testdata.join("reject"), "c");
    assert!(mistakes.len() >= 40 && mistakes.len() == files(&testdata.join("accept"), "c").len());
    for path in mistakes {
        let twin = testdata.join("accept").join(path.file_name().expect("a file"));
        let [bad, good] = [&path, &twin].map(|path| std::fs::read_to_string(path).expect("a twin"));
        assert_eq!(bad.lines().count(), good.lines().count(), "{}", path.display());
        assert_eq!(bad.lines().zip(good.lines()).filter(|(bad, good)| bad != good).count(), 1, "{}", path.display());
        assert_eq!(bad.matches("JUDGED: N").count(), 1, "{}", path.display());
    }
}

/// Lab: clang 19 makes of the C what is checked in as ELF: the same code, data, types and lines, or the same findings.
#[test]
fn elfs_are_what_clang_makes_of_the_c() {
    if !tool("clang-19") {
        return;
    }
    let fresh = tempfile::tempdir().expect("a scratch directory");
    run(Command::new(repository().join("testdata/scripts/build-handlers.sh")).arg("clang-19").arg(fresh.path()));
    let mut compared = 0;
    for folder in ["testdata/handlers", "testdata/verifier/accept", "testdata/verifier/reject", "testdata/verifier/patterns"] {
        let built = files(&fresh.path().join(folder), "o");
        assert_eq!(built.len(), files(&repository().join(folder), "o").len(), "{folder}");
        for path in built {
            let old = repository().join(folder).join(path.file_name().expect("a file"));
            let [new, old] = [path, old].map(|path| object::read(&std::fs::read(&path).expect("a readable ELF")));
            assert_eq!(new, old, "run testdata/scripts/build-handlers.sh");
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared}");
}

/// The samples, compiled for this machine, compute what engines are held against.
#[test]
fn samples_compute_natively_what_is_expected() {
    if tool("cc") {
        run(&mut Command::new(repository().join("handlers/samples/native/run.sh")));
    }
}

/// MICA's C over a model of UDMA: many threads, death at every step, and deliberate mistakes that the model must notice. A million operations
/// in the lab, fewer elsewhere.
#[test]
fn mica_is_correct_natively() {
    if tool("cc") {
        let operations = if std::env::var_os("NAAM_LAB").is_some() { "1000000" } else { "200000" };
        run(Command::new(repository().join("handlers/mica/test/run.sh")).args(["1", operations]));
    }
}

/// Cell's C over the same model: many threads, death at every step and in the middle of writes, and deliberate mistakes that the model must
/// notice.
#[test]
fn cell_is_correct_natively() {
    if tool("cc") {
        let operations = if std::env::var_os("NAAM_LAB").is_some() { "400000" } else { "200000" };
        run(Command::new(repository().join("handlers/cell/test/run.sh")).args(["1", operations]));
    }
}
