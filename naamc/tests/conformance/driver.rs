//! Runs the tests of `testdata/isa` on an engine: the table `conformance.txt`, and `programs.txt`.
//!
//! The table says what each instruction does; `conformance.py` beside it made it from RFC 9669 alone. Here each line becomes two
//! programs: one whose operands are loaded from the message, so that nothing is known of them before it runs, and one whose operands are
//! constants and whose memory is the stack, so that whatever verifier and code generator fold or keep in registers is tested too. Every
//! program goes the way of any handler: decoded, proved, run. Tests of other engines include this file.

use naamc::activation::Activation;
use naamc::exec::{self, ExecError};
use naamc::interpreter::Outcome;
use naamc::isa;
use naamc::verifier::Proof;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A prepared program: takes a fresh activation through a turn.
pub type Turn = Box<dyn FnMut(&mut Activation) -> Outcome>;

/// What was run.
pub struct Count {
    /// Kinds of instructions: opcode, and what else tells them apart (signed division, bits, atomic operation).
    pub kinds: usize,
    /// Results compared.
    pub cases: usize,
    /// Programs proved and run.
    pub programs: usize,
}

/// Kinds of instructions in the groups base32, base64, divmul32, divmul64, atomic32 and atomic64, but call and exit, which every other
/// program has: 14 operations with two kinds of operands and two widths, `neg`, `movsx`, byte order, `lddw`, 11 conditions likewise and two
/// jumps without one, loads, stores, and 10 atomics of two sizes.
pub const KINDS: usize = 14 * 4 + 2 + 5 + 9 + 1 + 11 * 4 + 2 + 7 + 8 + 10 * 2;

/// Runs every line on the engine that `prepare` makes programs for.
///
/// # Panics
/// If a program is refused, or a result differs from the table's.
pub fn run_table(prepare: &dyn Fn(Arc<Proof>) -> Turn) -> Count {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/isa/conformance.txt");
    let text = std::fs::read_to_string(path).expect("the table is in testdata");
    let mut runner = Runner { prepare, prepared: HashMap::new(), kinds: BTreeSet::new(), cases: 0, programs: 0, wrong: Vec::new() };
    let mut lefts = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields[0] {
            "#" => {}
            "values" => lefts = fields[1..].iter().map(|field| number(field)).collect(),
            "alu" => {
                let expected = fields[3..].iter().map(|field| number(field)).collect();
                runner.operands(line, bytes(fields[1]), optional(fields[2]), &lefts, expected, false);
            }
            "jump" => {
                let expected = fields[3].bytes().map(|bit| u64::from(bit - b'0')).collect();
                runner.operands(line, bytes(fields[1]), optional(fields[2]), &lefts, expected, true);
            }
            "memory" => {
                assert_eq!(fields[6], ">", "{line}");
                runner.memory(line, bytes(fields[1]), State::parse(&fields[2..6]), State::parse(&fields[7..11]));
            }
            other => panic!("the table has a line of kind {other:?}"),
        }
    }
    let wrong = &runner.wrong;
    assert!(wrong.is_empty(), "{} wrong results:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    Count { kinds: runner.kinds.len(), cases: runner.cases, programs: runner.programs }
}

/// Runs every program of `programs.txt` in the way of the public conformance runner, code and memory as hex text. Returns how many there are.
///
/// # Panics
/// If one does not end as the file says.
pub fn run_programs(prepare: &dyn Fn(Arc<Proof>) -> Turn) -> usize {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/isa/programs.txt");
    let text = std::fs::read_to_string(path).expect("the programs are in testdata");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for program in text.split("\n== ").skip(1) {
        count += 1;
        let name = program.lines().next().unwrap_or_default();
        let field = |key: &str| program.lines().skip(1).find_map(|line| line.strip_prefix(key));
        let is_code = |line: &&str| line.starts_with(' ') || line.ends_with(':');
        let code = isa::assemble(&program.lines().skip(1).filter(is_code).collect::<Vec<_>>().join("\n"));
        let code = isa::encode(&code.unwrap_or_else(|error| panic!("{name}: {error}"))).expect("it has an encoding");
        let code: String = code.iter().map(|byte| format!("{byte:02x} ")).collect();
        let expected = match (field("result 0x"), field("refused ")) {
            (Some(result), None) => Ok(number(result)),
            (None, Some(code)) => Err(code.to_owned()),
            _ => panic!("{name}: it has either a result or a refusal"),
        };
        let result = exec::parse(&code, field("memory ")).and_then(|program| {
            let mut turn = prepare(program.proof.clone());
            program.run(|activation| turn(activation))
        });
        let result = result.map_err(|error| match error {
            ExecError::Refused(findings) => findings[0].code.to_string(),
            other => other.to_string(),
        });
        if result != expected {
            wrong.push(format!("{name}: {result:x?}, not {expected:x?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} programs:\n{}", wrong.len(), wrong.join("\n"));
    count
}

/// What r0 and r4 hold where the table does not say it.
const R0: u64 = 0x0f0f_1e1e_2d2d_3c3c;
const R4: u64 = 0xa5a5_b6b6_c7c7_d8d8;
/// Bytes behind r5 - 8 in `memory` lines.
const DATA_BYTES: usize = 24;

/// Registers and memory of a `memory` line.
struct State {
    r0: u64,
    r3: u64,
    r4: u64,
    data: [u8; DATA_BYTES],
}

impl State {
    fn parse(fields: &[&str]) -> State {
        let data = bytes(fields[3]).try_into().expect("a state has 24 bytes of memory");
        State { r0: number(fields[0]), r3: number(fields[1]), r4: number(fields[2]), data }
    }

    fn words(&self) -> [u64; 3] {
        std::array::from_fn(|at| u64::from_le_bytes(self.data[at * 8..][..8].try_into().expect("eight bytes")))
    }
}

struct Runner<'a> {
    prepare: &'a dyn Fn(Arc<Proof>) -> Turn,
    /// Programs whose operands are loaded, by code.
    prepared: HashMap<Vec<u8>, Turn>,
    kinds: BTreeSet<[u8; 7]>,
    cases: usize,
    programs: usize,
    wrong: Vec<String>,
}

impl Runner<'_> {
    fn program(&self, line: &str, code: &[u8], body_bytes: usize) -> Turn {
        let proof = exec::prove(code, body_bytes as u32);
        (self.prepare)(Arc::new(proof.unwrap_or_else(|findings| panic!("{line}: {findings:?}"))))
    }

    /// Runs a program that writes its results to the start of the body, and compares those.
    fn run(&mut self, line: &str, mut turn: Turn, body: &[u8], expected: &[u64]) -> Turn {
        let mut activation = Activation::new_boxed();
        // What an activation held before must not matter.
        activation.memory.fill(0xee);
        activation.begin(body, 0, 0);
        let outcome = turn(&mut activation);
        self.programs += 1;
        if outcome != Outcome::Finished(0) {
            self.wrong.push(format!("{line}: {outcome:?}"));
            return turn;
        }
        let (words, _) = activation.body().as_chunks::<8>();
        for (at, (word, expected)) in words.iter().zip(expected).enumerate() {
            self.cases += 1;
            if u64::from_le_bytes(*word) != *expected {
                self.wrong.push(format!("{line}: result {at} is {:#x}, not {expected:#x}", u64::from_le_bytes(*word)));
            }
        }
        turn
    }

    /// An `alu` or `jump` line: the body is the left operands, which the results replace, then r0 and r4.
    fn operands(&mut self, line: &str, tested: Vec<u8>, right: Option<u64>, lefts: &[u64], expected: Vec<u64>, jumps: bool) {
        self.kinds.insert(kind(&tested));
        let r4 = right.unwrap_or(R4);
        let registers = 8 * lefts.len() as i16;
        let mut body: Vec<u64> = lefts.to_vec();
        body.extend([R0, r4]);
        let mut expected = expected;
        expected.extend([R0, r4]);
        let body: Vec<u8> = body.iter().flat_map(|word| word.to_le_bytes()).collect();
        for constant in [false, true] {
            let mut code = slot(0xbf, 6, 1, 0, 0);
            match constant {
                false => code.extend([slot(0x79, 0, 6, registers, 0), slot(0x79, 4, 6, registers + 8, 0)].concat()),
                true => code.extend([load_constant(0, R0), load_constant(4, r4)].concat()),
            }
            for (at, left) in lefts.iter().enumerate() {
                let place = 8 * at as i16;
                code.extend(if constant { load_constant(3, *left) } else { slot(0x79, 3, 6, place, 0) });
                match jumps {
                    // r7 is 1 where the jump was taken.
                    true => code.extend(
                        [slot(0xb7, 7, 0, 0, 1), tested.clone(), slot(0xb7, 7, 0, 0, 0), slot(0x7b, 6, 7, place, 0)].concat(),
                    ),
                    false => code.extend([tested.clone(), slot(0x7b, 6, 3, place, 0)].concat()),
                }
            }
            code.extend([slot(0x7b, 6, 0, registers, 0), slot(0x7b, 6, 4, registers + 8, 0), exit()].concat());
            let turn = if constant { None } else { self.prepared.remove(&code) };
            let turn = turn.unwrap_or_else(|| self.program(line, &code, body.len()));
            let turn = self.run(line, turn, &body, &expected);
            if !constant {
                self.prepared.insert(code, turn);
            }
        }
    }

    /// A `memory` line. The body is r0, r3, r4 and the 24 bytes.
    fn memory(&mut self, line: &str, tested: Vec<u8>, before: State, after: State) {
        self.kinds.insert(kind(&tested));
        let mut expected = vec![after.r0, after.r3, after.r4];
        expected.extend(after.words());
        let mut body: Vec<u8> = [before.r0, before.r3, before.r4].iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend(before.data);
        let save = [slot(0x7b, 6, 0, 0, 0), slot(0x7b, 6, 3, 8, 0), slot(0x7b, 6, 4, 16, 0)].concat();

        // In the body: r5 points to the middle word.
        let mut code = [slot(0xbf, 6, 1, 0, 0), slot(0xbf, 5, 1, 0, 0), slot(0x07, 5, 0, 0, 32)].concat();
        code.extend([slot(0x79, 0, 6, 0, 0), slot(0x79, 3, 6, 8, 0), slot(0x79, 4, 6, 16, 0)].concat());
        code.extend([tested.clone(), save.clone(), exit()].concat());
        let turn = self.prepared.remove(&code).unwrap_or_else(|| self.program(line, &code, body.len()));
        let turn = self.run(line, turn, &body, &expected);
        self.prepared.insert(code, turn);

        // On the stack, with constants.
        let mut code = [slot(0xbf, 6, 1, 0, 0), slot(0xbf, 5, 10, 0, 0), slot(0x07, 5, 0, 0, -16)].concat();
        for (at, word) in before.words().into_iter().enumerate() {
            code.extend([load_constant(7, word), slot(0x7b, 10, 7, 8 * at as i16 - 24, 0)].concat());
        }
        code.extend([load_constant(0, before.r0), load_constant(3, before.r3), load_constant(4, before.r4)].concat());
        code.extend([tested, save].concat());
        for at in 0..3 {
            code.extend([slot(0x79, 7, 10, 8 * at - 24, 0), slot(0x7b, 6, 7, 24 + 8 * at, 0)].concat());
        }
        code.extend(exit());
        let turn = self.program(line, &code, body.len());
        let _ = self.run(line, turn, &body, &expected);
    }
}

/// What tells one kind of instruction from another: the opcode, and where it matters, the offset or the immediate.
fn kind(tested: &[u8]) -> [u8; 7] {
    let (opcode, class) = (tested[0], tested[0] & 7);
    let offset = if matches!(class, 4 | 7) { [tested[2], tested[3]] } else { [0; 2] };
    let has_kind_in_immediate = opcode & 0xe7 == 0xc3 || matches!(opcode, 0xd4 | 0xdc | 0xd7);
    let immediate = if has_kind_in_immediate { &tested[4..8] } else { &[0; 4] };
    [opcode, offset[0], offset[1], immediate[0], immediate[1], immediate[2], immediate[3]]
}

fn slot(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Vec<u8> {
    let mut bytes = vec![opcode, source << 4 | destination];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(immediate.to_le_bytes());
    bytes
}

/// `lddw`
fn load_constant(destination: u8, value: u64) -> Vec<u8> {
    [slot(0x18, destination, 0, 0, value as i32), slot(0, 0, 0, 0, (value >> 32) as i32)].concat()
}

/// `r0 = 0; exit`
fn exit() -> Vec<u8> {
    [slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0)].concat()
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text:?} is no hex number"))
}

fn optional(text: &str) -> Option<u64> {
    (text != "-").then(|| number(text))
}

pub fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| number(&text[at..at + 2]) as u8).collect()
}
