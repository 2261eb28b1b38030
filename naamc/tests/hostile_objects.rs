//! Damaged and forged object files: a clear finding or an object that makes sense, no panic, no hang, bounded memory.
//!
//! Half of the mutations know the format: they change one field of a section header, symbol, relocation or BTF record, or an instruction, so that most
//! mutants reach the readers behind the ELF container.

use fastrand::Rng;
use naamc::diagnostic::{CODES, Code};
use naamc::isa::{Instruction, Symbol};
use naamc::object::{self, Object};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const MUTANTS: u64 = 20_000;
/// Peak memory that the campaign may add: an object of 8 MiB may cost some times its size.
const PEAK_BYTES_MAX: u64 = 192 << 20;

/// A good object, and where its parts lie.
struct Specimen {
    bytes: Vec<u8>,
    headers: Range<usize>,
    code: Vec<Range<usize>>,
    relocations: Vec<Range<usize>>,
    symbols: Range<usize>,
    btf: Range<usize>,
    extension: Range<usize>,
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

impl Specimen {
    fn new(bytes: Vec<u8>) -> Specimen {
        let (start, count) = (word(&bytes, 0x28), word(&bytes, 0x3c) & 0xffff);
        let header = |index: usize| start + 64 * index;
        let range =
            |index: usize| word(&bytes, header(index) + 24)..word(&bytes, header(index) + 24) + word(&bytes, header(index) + 32);
        let names = range(word(&bytes, 0x3e) & 0xffff);
        let name = |index: usize| {
            let text = &bytes[names.start + word(&bytes, header(index))..names.end];
            String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).to_string()
        };
        let mut specimen = Specimen {
            headers: start..start + 64 * count,
            code: Vec::new(),
            relocations: Vec::new(),
            symbols: 0..0,
            btf: 0..0,
            extension: 0..0,
            bytes: Vec::new(),
        };
        for index in 1..count {
            match name(index).as_str() {
                ".BTF" => specimen.btf = range(index),
                ".BTF.ext" => specimen.extension = range(index),
                ".symtab" => specimen.symbols = range(index),
                name if (name == ".text" || name.starts_with("naam/")) && !range(index).is_empty() => {
                    specimen.code.push(range(index))
                }
                name if name == ".rel.text" || name.starts_with(".relnaam/") => specimen.relocations.push(range(index)),
                _ => {}
            }
        }
        specimen.bytes = bytes;
        specimen
    }

    /// Damages a copy.
    fn mutate(&self, random: &mut Rng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for _ in 0..random.u32(1..4) {
            match random.u32(..20) {
                0 => bytes.truncate(random.usize(..bytes.len())),
                1 | 2 => {
                    for _ in 0..random.u32(1..8) {
                        let at = random.usize(..bytes.len());
                        bytes[at] ^= 1 << random.u32(..8);
                    }
                }
                3 | 4 => field(&mut bytes, random, &self.headers, 8),
                5 | 6 => field(&mut bytes, random, &self.symbols, 8),
                7 | 8 if !self.relocations.is_empty() => {
                    let range = &self.relocations[random.usize(..self.relocations.len())];
                    field(&mut bytes, random, range, 4);
                }
                9..=11 => field(&mut bytes, random, &self.btf, 4),
                12 | 13 => field(&mut bytes, random, &self.extension, 4),
                _ => {
                    let range = &self.code[random.usize(..self.code.len())];
                    let size = if random.bool() { 1 } else { 4 };
                    field(&mut bytes, random, range, size);
                }
            }
            if bytes.len() < 64 {
                break;
            }
        }
        bytes
    }
}

/// Changes one aligned field inside a range: slightly, or to a value at some edge.
fn field(bytes: &mut [u8], random: &mut Rng, range: &Range<usize>, size: usize) {
    let at = range.start + random.usize(..(range.len() / size).max(1)) * size;
    // An earlier mutation may have cut the file.
    let Some(field) = bytes.get_mut(at..at + size) else { return };
    let mut old = [0; 8];
    old[..size].copy_from_slice(field);
    let old = u64::from_le_bytes(old);
    let new = match random.u32(..8) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old ^ 1 << random.u32(..8 * size as u32),
        3 => random.u64(..),
        4 => random.u64(..64),
        5 => u64::MAX << random.u32(..64),
        6 => u64::MAX >> random.u32(..64),
        _ => old.wrapping_add(8 * random.u64(..16)),
    };
    field.copy_from_slice(&new.to_le_bytes()[..size]);
}

/// What everything behind `object` relies on.
fn check(object: &Object) {
    object.types.validate().expect("types of an object make sense");
    assert!(!object.handlers.is_empty());
    assert_eq!(object.instruction_lines.len(), object.code.instructions.len());
    assert!(object.instruction_lines.iter().all(|line| *line as usize <= object.lines.len()));
    for constant in &object.environment.constants {
        assert!((constant.offset + constant.bytes) as usize <= object.environment.read_only.len());
    }
    for handler in &object.handlers {
        assert_eq!(object.types.size(handler.message), Some(handler.body_bytes));
        let value = object.types.to_json(handler.message, &[]);
        let zeros = vec![0; handler.body_bytes as usize];
        assert_eq!(object.types.from_json(handler.message, &value), Ok(zeros), "{value}");
        let Ok((function, lines)) = object.flatten(handler) else { continue };
        assert_eq!(function.instructions.len(), lines.len());
        let count = function.instructions.len() as u32;
        for instruction in &function.instructions {
            match instruction {
                Instruction::Jump { target } | Instruction::JumpIf { target, .. } => assert!(*target < count),
                Instruction::LoadAddress { symbol: Symbol::Region(region), .. } => {
                    assert!(usize::from(*region) < object.environment.regions.len());
                }
                Instruction::LoadAddress { symbol: Symbol::ReadOnly(offset), .. } => {
                    assert!(*offset as usize <= object.environment.read_only.len());
                }
                Instruction::CallLocal { .. } => panic!("a call remains"),
                _ => {}
            }
        }
    }
}

fn specimens() -> Vec<Specimen> {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").join("testdata");
    let files = ["calls.o", "layouts.o", "regions.o", "read_only.o", "patterns.o", "recursion.o", "calls_v4.o"];
    let read = |file: &&str| Specimen::new(std::fs::read(testdata.join("objects").join(file)).expect("the object can be read"));
    files.iter().map(read).collect()
}

/// The largest memory that this process had, on systems that tell.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[test]
fn damaged_objects_are_refused_or_make_sense() {
    let specimens = specimens();
    for specimen in &specimens {
        check(&object::read(&specimen.bytes).expect("an undamaged object is read"));
    }
    let before = peak_bytes();
    let (mut past_container, mut accepted) = (0, 0);
    let mut codes: BTreeMap<Code, u64> = BTreeMap::new();
    for seed in 0..MUTANTS {
        let mut random = Rng::with_seed(seed);
        let mutant = specimens[random.usize(..specimens.len())].mutate(&mut random);
        let outcome = std::panic::catch_unwind(|| match object::read(&mutant) {
            Ok(object) => {
                check(&object);
                Vec::new()
            }
            Err(findings) => {
                assert!(!findings.is_empty() && findings.len() <= object::FINDINGS_MAX);
                assert!(
                    findings
                        .iter()
                        .all(|finding| CODES.iter().any(|known| known.code == finding.code) && !finding.message.is_empty())
                );
                findings.iter().map(|finding| finding.code).collect()
            }
        });
        let found: Vec<Code> = outcome.unwrap_or_else(|_| panic!("seed {seed} panics"));
        past_container += u64::from(!found.contains(&Code::OBJECT_MALFORMED));
        accepted += u64::from(found.is_empty());
        found.into_iter().for_each(|code| *codes.entry(code).or_default() += 1);
    }
    let share = |count: u64| count * 100 / MUTANTS;
    println!(
        "{MUTANTS} mutants: {} % past the container, {} % accepted; findings {codes:?}",
        share(past_container),
        share(accepted)
    );
    assert!(share(past_container) >= 30);
    assert!(share(accepted) >= 5);
    assert!(codes.len() >= 15, "only {} kinds of findings", codes.len());
    if let Some((before, after)) = before.zip(peak_bytes()) {
        println!("{} MiB more at the peak", (after - before) >> 20);
        assert!(after - before < PEAK_BYTES_MAX);
    }
}
