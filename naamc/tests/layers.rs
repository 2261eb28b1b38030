//! Holds the order of modules: inside a crate a module uses only those below it. Crates themselves are held by Cargo.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each crate's modules, lowest first. A module that is not listed fails the test, as does a listed one that does not exist.
const ORDERS: &[(&str, &[&str])] = &[
    (
        "naamc",
        &[
            "quantity",
            "output",
            "diagnostic",
            "abi",
            "isa",
            "types",
            "program",
            "object",
            "cfg",
            "verifier",
            "manifest",
            "activation",
            "continuation",
            "bundle",
            "build",
            "interpreter",
            "memory",
            "exec",
            "compile",
            "template",
        ],
    ),
    (
        "runtime",
        &[
            "clock",
            "waiting",
            "memory",
            "metrics",
            "message",
            "steering",
            "udma",
            "transport",
            "session",
            "engine",
            "deployment",
            "executor",
            "client",
            "channel",
            "supervisor",
            "place",
            "control",
            "client_place",
            "node",
        ],
    ),
    ("naam-run", &["failure", "steering", "args", "cluster", "compile", "deployments", "exec", "invoke", "regions", "status"]),
    (
        "naam-bench",
        &[
            "workload",
            "mica",
            "cell",
            "application",
            "args",
            "measurement",
            "native",
            "load",
            "connection",
            "interruption",
            "redis",
            "invoke",
            "report",
            "cluster",
            "experiment",
        ],
    ),
];

#[test]
fn a_module_uses_only_modules_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut violations = Vec::new();
    for (name, order) in ORDERS {
        let source = root.join(name).join("src");
        let mut seen = BTreeSet::new();
        for file in rust_files(&source) {
            let relative = file.strip_prefix(&source).expect("found below it");
            let module = relative.iter().next().expect("a file has a name").to_string_lossy().trim_end_matches(".rs").to_string();
            if file.ends_with("tests.rs") || module == "lib" || module == "main" || module == "cli" {
                continue;
            }
            let Some(rank) = order.iter().position(|known| *known == module) else {
                violations.push(format!("{name}: module `{module}` is not in the order"));
                continue;
            };
            seen.insert(module.clone());
            for used in used_modules(&std::fs::read_to_string(&file).expect("a source file can be read")) {
                match order.iter().position(|known| *known == used) {
                    Some(other) if other > rank => {
                        violations.push(format!("{name}/src/{}: `{module}` uses `{used}`, which is above it", relative.display()));
                    }
                    _ => {}
                }
            }
        }
        violations
            .extend(order.iter().filter(|module| !seen.contains(**module)).map(|module| format!("{name}: no module `{module}`")));
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// Names after `crate::` in code, without comments and without the tests at the end of a file.
fn used_modules(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => first_names(list),
            None => vec![first_name(rest)],
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// The first name of each entry of a list of uses, whatever these list themselves, up to its closing brace.
fn first_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut begins) = (vec![first_name(list)], 0, false);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
        if std::mem::replace(&mut begins, character == ',' && depth == 0) {
            names.push(first_name(&list[at..]));
        }
    }
    names
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder can be read") {
            let path = entry.expect("its entries too").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "no source in {}", folder.display());
    files
}

#[test]
fn the_scan_sees_uses() {
    let used = used_modules(
        "use crate::{isa::{Register, bundle},\n    abi, cfg,\n};\n// crate::bundle\nfn f() { crate::object::read() }\n#[cfg(test)]\nmod tests { use crate::exec; }",
    );
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["abi", "cfg", "isa", "object"]);
}
