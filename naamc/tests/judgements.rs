//! What the verifier says of C: each handler in `testdata/verifier/reject` is refused at the line and with the code that its source names,
//! and its twin in `accept`, which differs in one line, is proved; so are clang's habits in `patterns` and the sample handlers.

use naamc::diagnostic::Finding;
use naamc::object;
use naamc::verifier::Proof;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// The ELFs of a directory with their C, ascending by name.
fn cases(name: &str) -> Vec<(String, PathBuf, String)> {
    let mut all: Vec<(String, PathBuf, String)> = std::fs::read_dir(directory(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
        .map(|path| {
            let source = std::fs::read_to_string(path.with_extension("c")).unwrap_or_default();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), path, source)
        })
        .collect();
    all.sort();
    all
}

/// Proofs of all handlers of an object, or everything that is wrong with it, with C lines.
fn prove(path: &Path) -> Result<Vec<Proof>, Vec<Finding>> {
    let object = object::read(&std::fs::read(path).unwrap())?;
    let mut proofs = Vec::new();
    let mut all = Vec::new();
    for handler in &object.handlers {
        let proved = object.flatten(handler).and_then(|(function, lines)| {
            Proof::prove(function, &object.environment).map_err(|mut findings| {
                for finding in &mut findings {
                    let number = finding.place.instruction.map_or(0, |at| lines[at as usize]) as usize;
                    finding.place.line = number.checked_sub(1).map(|index| object.lines[index].clone());
                }
                findings
            })
        });
        match proved {
            Ok(proof) => proofs.push(proof),
            Err(findings) => all.extend(findings),
        }
    }
    if all.is_empty() { Ok(proofs) } else { Err(all) }
}

fn told(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        writeln!(
            text,
            "    {finding} [instruction {:?}; {}; hint: {:?}]",
            finding.place.instruction,
            finding.known.join("; "),
            finding.hint
        )
        .unwrap();
    }
    text
}

/// The code after `JUDGED:` and its line.
fn judgement(source: &str) -> Option<(String, u32)> {
    let (index, line) = source.lines().enumerate().find(|(_, line)| line.contains("JUDGED: "))?;
    let code = line.split("JUDGED: ").nth(1)?.split_whitespace().next()?;
    Some((code.to_owned(), index as u32 + 1))
}

#[test]
fn what_is_wrong_is_refused_at_its_line_with_its_reason() {
    let mut failures = String::new();
    let mut judged = 0;
    for (name, path, source) in &cases("verifier/reject") {
        let (code, line) = judgement(source).expect("a judged line");
        judged += 1;
        match prove(path) {
            Ok(_) => writeln!(failures, "{name}: accepted; expected {code} at line {line}").unwrap(),
            Err(findings) => {
                let hits = |finding: &Finding| {
                    finding.code.to_string() == code && finding.place.line.as_ref().is_some_and(|at| at.line == line)
                };
                if !findings.iter().any(hits) || findings.len() > 1 {
                    writeln!(failures, "{name}: expected only {code} at line {line}, got\n{}", told(&findings)).unwrap();
                }
            }
        }
    }
    assert!(judged >= 40, "{judged}");
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn twins_that_differ_in_one_line_are_proved() {
    let mut failures = String::new();
    for (name, path, _) in cases("verifier/accept") {
        if let Err(findings) = prove(&path) {
            writeln!(failures, "{name}:\n{}", told(&findings)).unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn the_habits_of_clang_are_judged_as_their_sources_say() {
    let mut failures = String::new();
    for (name, path, source) in cases("verifier/patterns") {
        let verdict = source.lines().nth(1).expect("a verdict").trim_start_matches("/* ").to_owned();
        match (prove(&path), verdict.strip_prefix("REJECT ")) {
            (Ok(_), None) => assert!(verdict.starts_with("ACCEPT"), "{name}: {verdict}"),
            (Ok(_), Some(reason)) => writeln!(failures, "{name}: accepted; expected {reason}").unwrap(),
            (Err(findings), None) => writeln!(failures, "{name}: refused\n{}", told(&findings)).unwrap(),
            (Err(findings), Some(reason)) => {
                let code = &reason[..4];
                let hint = reason.split("hint ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or("");
                let hits =
                    |finding: &Finding| finding.code.to_string() == code && finding.hint.as_deref().unwrap_or("").contains(hint);
                if !findings.iter().any(hits) {
                    writeln!(failures, "{name}: expected {reason}, got\n{}", told(&findings)).unwrap();
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn sample_handlers_are_proved() {
    let mut failures = String::new();
    let cases = cases("handlers");
    for (name, path, _) in &cases {
        let started = std::time::Instant::now();
        match prove(path) {
            Ok(proofs) => {
                let points: usize = proofs.iter().map(|proof| proof.contracts().suspensions.len()).sum();
                println!("{name}: {} handlers, {points} suspension points, {:?}", proofs.len(), started.elapsed());
            }
            Err(findings) => writeln!(failures, "{name}:\n{}", told(&findings)).unwrap(),
        }
    }
    assert!(cases.len() >= 7, "{}", cases.len());
    assert!(failures.is_empty(), "\n{failures}");
}
