//! Reads `samples.txt` beside it: what the samples' C did when it ran natively. Tests that hold engines against that take this file in by its
//! path.

use std::collections::BTreeMap;

/// Handlers that were compiled together.
pub struct File {
    pub name: String,
    /// What every case finds in the regions, by their names.
    pub regions: BTreeMap<String, Vec<u8>>,
    pub cases: Vec<Case>,
}

/// One request and what came of it.
#[derive(Default)]
pub struct Case {
    pub handler: String,
    pub request: Vec<u8>,
    pub result: i32,
    pub reply: Vec<u8>,
    /// Regions that it changed.
    changed: BTreeMap<String, Vec<u8>>,
}

impl Case {
    /// What a region of its file holds afterwards.
    pub fn after<'a>(&'a self, file: &'a File, region: &str) -> &'a [u8] {
        self.changed.get(region).unwrap_or_else(|| &file.regions[region])
    }
}

pub fn files() -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for line in include_str!("samples.txt").lines() {
        if let ["file", name] = line.split_whitespace().collect::<Vec<_>>()[..] {
            files.push(File { name: name.to_string(), regions: BTreeMap::new(), cases: Vec::new() });
        } else {
            files.last_mut().expect("a file first").line(line);
        }
    }
    files
}

impl File {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["region", name, content] = words[..] {
            self.regions.insert(name.to_string(), bytes(content));
            return;
        }
        if let ["case", handler, ref request @ ..] = words[..] {
            let request = bytes(&request.concat());
            self.cases.push(Case { handler: handler.to_string(), request, ..Case::default() });
            return;
        }
        let case = self.cases.last_mut().expect("a case first");
        match words[..] {
            ["result", result] => case.result = result.parse().expect("a number"),
            ["reply"] => {}
            ["reply", reply] => case.reply = bytes(reply),
            ["after", name, content] => drop(case.changed.insert(name.to_string(), bytes(content))),
            _ => panic!("samples.txt: {line}"),
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "bytes have two digits");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits")).collect()
}
