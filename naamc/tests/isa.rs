//! Instructions: what `encode` writes `decode` reads, damaged code is refused under stable codes, and disassembly matches a golden file.

use fastrand::Rng;
use naamc::diagnostic::{CODES, Code};
use naamc::isa::{
    AluOperation, AssembleError, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, SLOT_BYTES, Size, Symbol,
    Unencodable, Width, assemble, decode, encode,
};
use std::collections::BTreeMap;

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const SIZES: [Size; 4] = [Size::B1, Size::B2, Size::B4, Size::B8];

/// Every shape of instruction once (every operation, width, size and kind of operand), with registers and numbers drawn from `random`.
fn every_shape(random: &mut Rng, targets: u32) -> Vec<Instruction> {
    let mut list = Vec::new();
    let register = |random: &mut Rng| Register(random.u8(0..10));
    let offset = |random: &mut Rng| i32::from(random.i16(..));
    for width in WIDTHS {
        for operation in AluOperation::ALL {
            let (destination, source) = (register(random), Operand::Immediate(random.i32(..)));
            list.push(Instruction::Alu { width, operation, destination, source });
            list.push(Instruction::Alu { width, operation, destination, source: Operand::Register(Register(random.u8(0..=10))) });
        }
        for condition in Condition::ALL {
            let (left, right, target) = (Register(random.u8(0..=10)), Operand::Immediate(random.i32(..)), random.u32(0..targets));
            list.push(Instruction::JumpIf { width, condition, left, right, target });
            list.push(Instruction::JumpIf { width, condition, left, right: Operand::Register(register(random)), target });
        }
        for bits in [8, 16, 32] {
            if bits < 32 || width == Width::W64 {
                list.push(Instruction::MoveSignExtend { width, bits, destination: register(random), source: register(random) });
            }
        }
        list.push(Instruction::Negate { width, destination: register(random) });
    }
    for order in [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap] {
        list.extend([16, 32, 64].map(|bits| Instruction::ByteOrder { order, bits, destination: register(random) }));
    }
    for size in SIZES {
        for signed in [false, true] {
            if !(signed && size == Size::B8) {
                let (destination, base) = (register(random), Register(random.u8(0..=10)));
                list.push(Instruction::Load { size, signed, destination, base, offset: offset(random) });
            }
        }
        let base = Register(random.u8(0..=10));
        list.push(Instruction::Store { size, base, offset: offset(random), source: Operand::Register(register(random)) });
        list.push(Instruction::Store { size, base, offset: offset(random), source: Operand::Immediate(random.i32(..)) });
    }
    for size in [Size::B4, Size::B8] {
        use AtomicOperation::{Add, And, CompareExchange, Exchange, Or, Xor};
        for operation in [Add, Or, And, Xor, Exchange, CompareExchange] {
            for fetch in [false, true] {
                if fetch || !matches!(operation, Exchange | CompareExchange) {
                    let (base, source) = (register(random), register(random));
                    list.push(Instruction::Atomic { operation, size, fetch, base, offset: offset(random), source });
                }
            }
        }
    }
    list.push(Instruction::LoadImmediate { destination: register(random), value: random.u64(..) });
    list.push(Instruction::Jump { target: random.u32(0..targets) });
    list.push(Instruction::CallHelper { number: random.i32(..) });
    list.push(Instruction::CallLocal { target: random.u32(0..targets) });
    list.push(Instruction::Exit);
    list
}

/// Proves that `decode` inverts `encode` for every shape, with targets before and behind 64-bit loads.
#[test]
fn what_encode_writes_decode_reads() {
    let mut random = Rng::with_seed(0x15a);
    let count = every_shape(&mut random, 1).len();
    for _ in 0..200 {
        let mut program = every_shape(&mut random, count as u32);
        random.shuffle(&mut program);
        let bytes = encode(&program).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.instructions, program);
        assert_eq!(decoded.slot_count() as usize * SLOT_BYTES, bytes.len());
        for (index, slot) in decoded.slots.iter().enumerate() {
            assert_eq!(decoded.index_of_slot(*slot), Some(index as u32));
            assert_eq!(decoded.slot_of_index(index as u32), Some(*slot));
        }
        assert_eq!(decoded.local_calls.len(), 1);
        let call = decoded.local_calls[0];
        assert_eq!(program[call.instruction as usize], Instruction::CallLocal { target: call.target.unwrap() });
    }
    println!("{count} shapes of instructions");
}

/// Proves that a jump too far for 16 bits becomes `gotol`, and that what has no encoding is refused.
#[test]
fn encode_knows_its_limits() {
    let mut far = vec![Instruction::Jump { target: 40_000 }];
    far.resize(40_001, Instruction::Exit);
    let bytes = encode(&far).unwrap();
    assert_eq!(bytes[0], 0x06);
    assert_eq!(decode(&bytes).unwrap().instructions, far);

    far[0] = Instruction::JumpIf {
        width: Width::W64,
        condition: Condition::Equal,
        left: Register::R1,
        right: Operand::Immediate(0),
        target: 40_000,
    };
    assert_eq!(encode(&far), Err(Unencodable::Range(0)));
    assert_eq!(encode(&[Instruction::Negate { width: Width::W64, destination: Register(11) }]), Err(Unencodable::Register(0)));
    let symbol = Instruction::LoadAddress { destination: Register::R1, symbol: Symbol::Region(0) };
    assert_eq!(encode(&[Instruction::Exit, symbol]), Err(Unencodable::Symbol(1)));
}

/// Code that is refused, with its code: one line per rule.
const REFUSED: &[(&str, Code)] = &[
    ("95000000000000", Code::CODE_LENGTH),
    ("1800000000000000", Code::CODE_LENGTH),
    ("1800000000000000 9500000000000000", Code::RESERVED_FIELD),
    ("1800000000000000 0001000000000000", Code::RESERVED_FIELD),
    ("1800000000000000 0000010000000000", Code::RESERVED_FIELD),
    ("1800010000000000 0000000000000000", Code::RESERVED_FIELD),
    ("1811000000000000 0000000000000000", Code::KERNEL_REFERENCE),
    ("1861000000000000 0000000000000000", Code::KERNEL_REFERENCE),
    ("1871000000000000 0000000000000000", Code::RESERVED_FIELD),
    ("180a000000000000 0000000000000000", Code::REGISTER_READ_ONLY),
    ("2000000000000000", Code::LEGACY_PACKET_ACCESS),
    ("2800000000000000", Code::LEGACY_PACKET_ACCESS),
    ("3000000000000000", Code::LEGACY_PACKET_ACCESS),
    ("4010000000000000", Code::LEGACY_PACKET_ACCESS),
    ("5010000000000000", Code::LEGACY_PACKET_ACCESS),
    ("3800000000000000", Code::OPCODE_UNKNOWN),
    ("0000000000000000", Code::OPCODE_UNKNOWN),
    ("ff00000000000000", Code::OPCODE_UNKNOWN),
    ("e700000000000000", Code::OPCODE_UNKNOWN),
    ("0710000000000000", Code::RESERVED_FIELD),
    ("0700010000000000", Code::RESERVED_FIELD),
    ("0f10000001000000", Code::RESERVED_FIELD),
    ("3700020000000000", Code::RESERVED_FIELD),
    ("b700080000000000", Code::RESERVED_FIELD),
    ("bc10200000000000", Code::RESERVED_FIELD),
    ("bf10180000000000", Code::RESERVED_FIELD),
    ("bf10080001000000", Code::RESERVED_FIELD),
    ("8f00000000000000", Code::OPCODE_UNKNOWN),
    ("8700000001000000", Code::RESERVED_FIELD),
    ("df00000010000000", Code::OPCODE_UNKNOWN),
    ("d700000008000000", Code::OPCODE_UNKNOWN),
    ("d410000010000000", Code::RESERVED_FIELD),
    ("070b000000000000", Code::REGISTER_UNKNOWN),
    ("0fb0000000000000", Code::REGISTER_UNKNOWN),
    ("bfff000000000000", Code::REGISTER_UNKNOWN),
    ("070a000000000000", Code::REGISTER_READ_ONLY),
    ("791a000000000000", Code::REGISTER_READ_ONLY),
    ("0501000000000000", Code::RESERVED_FIELD),
    ("0500000001000000", Code::RESERVED_FIELD),
    ("0600010000000000", Code::RESERVED_FIELD),
    ("0500000000000000", Code::JUMP_TARGET),
    ("0500feff00000000", Code::JUMP_TARGET),
    ("0500010000000000 1800000000000000 0000000000000000", Code::JUMP_TARGET),
    ("06000000ffffff7f", Code::JUMP_TARGET),
    ("0600000000000080", Code::JUMP_TARGET),
    ("0d00000000000000", Code::INDIRECT),
    ("8d00000000000000", Code::INDIRECT),
    ("e500000000000000", Code::MAY_GOTO),
    ("1510000000000000", Code::RESERVED_FIELD),
    ("1d10000001000000", Code::RESERVED_FIELD),
    ("8600000000000000", Code::OPCODE_UNKNOWN),
    ("9600000000000000", Code::OPCODE_UNKNOWN),
    ("9d00000000000000", Code::OPCODE_UNKNOWN),
    ("9500000001000000", Code::RESERVED_FIELD),
    ("8501000001000000", Code::RESERVED_FIELD),
    ("8500010001000000", Code::RESERVED_FIELD),
    ("8520000001000000", Code::KERNEL_REFERENCE),
    ("8530000001000000", Code::RESERVED_FIELD),
    ("9910000000000000", Code::OPCODE_UNKNOWN),
    ("6110000001000000", Code::RESERVED_FIELD),
    ("6210000000000000", Code::RESERVED_FIELD),
    ("6310000001000000", Code::RESERVED_FIELD),
    ("c210000000000000", Code::OPCODE_UNKNOWN),
    ("cb10000000000000", Code::ATOMIC_UNKNOWN),
    ("d310000000000000", Code::ATOMIC_UNKNOWN),
    ("db10000010000000", Code::ATOMIC_UNKNOWN),
    ("db100000e0000000", Code::ATOMIC_UNKNOWN),
    ("db10000000010000", Code::ATOMIC_UNKNOWN),
    ("dba1000001000000", Code::REGISTER_READ_ONLY),
];

/// Proves that each rule of the encoding is enforced, under its own code, for code that else is fine.
#[test]
fn each_rule_has_its_code() {
    for (text, code) in REFUSED {
        let findings = decode(&bytes_of(text)).expect_err(text);
        assert_eq!(findings[0].code, *code, "{text}: {}", findings[0]);
        assert!(CODES.iter().any(|row| row.code == *code), "{code} is not explained");
    }
}

/// Proves that every independent finding is reported, and not more than a named number.
#[test]
fn findings_are_many_but_bounded() {
    let mut code = bytes_of("8d00000000000000 0500ff7f00000000 b70b000000000000");
    let codes: Vec<_> = decode(&code).unwrap_err().iter().map(|finding| (finding.code, finding.place.instruction)).collect();
    assert_eq!(codes, [(Code::INDIRECT, Some(0)), (Code::REGISTER_UNKNOWN, Some(2)), (Code::JUMP_TARGET, Some(1))]);
    code = vec![0xff; 100_000 * SLOT_BYTES];
    assert_eq!(decode(&code).unwrap_err().len(), naamc::isa::FINDINGS_MAX);
}

/// Proves that no bytes make `decode` panic, that what it takes it can give back, and that all it says has a known code. Half of the inputs
/// are valid programs with a few bits changed, so that a good part gets past the opcodes.
#[test]
fn damaged_code_is_refused_or_read_exactly() {
    let mut random = Rng::with_seed(0xdec0de);
    let (mut accepted, mut codes) = (0, BTreeMap::<Code, u32>::new());
    for round in 0..30_000 {
        let bytes = if round % 2 == 0 { (0..random.usize(0..64)).map(|_| random.u8(..)).collect() } else { damaged(&mut random) };
        match decode(&bytes) {
            Ok(decoded) => {
                accepted += 1;
                // `gotol` may come back as `goto`, and calls out of the section have no encoding: compare meanings, not bytes.
                if decoded.local_calls.iter().all(|call| call.target.is_some()) {
                    assert_eq!(decode(&encode(&decoded.instructions).unwrap()).unwrap().instructions, decoded.instructions);
                }
                decoded.instructions.iter().for_each(|instruction| assert!(!instruction.to_string().is_empty()));
            }
            Err(findings) => findings.iter().for_each(|finding| *codes.entry(finding.code).or_default() += 1),
        }
    }
    println!("30000 inputs: {accepted} accepted; findings: {codes:?}");
    assert!(accepted > 1_000, "too few inputs get past decode: {accepted}");
    assert!(codes.keys().all(|code| CODES.iter().any(|row| row.code == *code)));
    assert!(codes.len() >= 8, "too few kinds of findings: {codes:?}");
}

/// A short valid program with one to three bits flipped.
fn damaged(random: &mut Rng) -> Vec<u8> {
    let length = random.usize(1..12);
    let shapes = every_shape(random, length as u32);
    let program: Vec<_> = (0..length).map(|_| shapes[random.usize(0..shapes.len())]).collect();
    let mut bytes = encode(&program).unwrap();
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(0..bytes.len());
        bytes[at] ^= 1 << random.u8(0..8);
    }
    bytes
}

/// Proves the disassembly of every shape: `testdata/isa/disassembly.txt` has the code's bytes beside its text. `BLESS=1` rewrites it.
#[test]
fn disassembly_matches_the_golden_file() {
    let mut random = Rng::with_seed(0xd15);
    let program = every_shape(&mut random, 20);
    let bytes = encode(&program).unwrap();
    let decoded = decode(&bytes).unwrap();
    let mut text = String::new();
    for (index, instruction) in decoded.instructions.iter().enumerate() {
        let slots = decoded.slots[index] as usize..decoded.slot_of_index(index as u32 + 1).unwrap() as usize;
        let hex: String =
            bytes[slots.start * SLOT_BYTES..slots.end * SLOT_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{index:4}  {hex:32}  {instruction}\n"));
    }
    text.push_str(&format!("      {:32}  {}\n", "", Instruction::Negate { width: Width::W32, destination: Register(11) }));
    for symbol in [Symbol::Region(3), Symbol::ReadOnly(24)] {
        text.push_str(&format!("      {:32}  {}\n", "", Instruction::LoadAddress { destination: Register(16), symbol }));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/isa/disassembly.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "run with BLESS=1 to accept");
}

/// Proves that `assemble` inverts disassembly for every shape, registers of inlined calls and symbols included.
#[test]
fn what_display_writes_assemble_reads() {
    let mut random = Rng::with_seed(0xa53);
    for _ in 0..100 {
        let mut program = every_shape(&mut random, 100);
        program.push(Instruction::Negate { width: Width::W32, destination: Register(38) });
        program.push(Instruction::LoadAddress { destination: Register(11), symbol: Symbol::Region(63) });
        program.push(Instruction::LoadAddress { destination: Register(9), symbol: Symbol::ReadOnly(1 << 20) });
        program.push(Instruction::CallHelper { number: 3 });
        let text: String = program.iter().map(|instruction| format!("{instruction}\n")).collect();
        assert_eq!(assemble(&text).unwrap(), program);
    }
}

/// Proves that labels stand for the instruction behind them, and that what is not understood is said with its line.
#[test]
fn assemble_resolves_labels_and_reports_lines() {
    let text = "again:  # the loop\n  if r1 == 0 goto end\n  r1 -= 1\n  goto again\nend:\n  call again\n  exit";
    let program = assemble(text).unwrap();
    assert_eq!(program[2], Instruction::Jump { target: 0 });
    assert_eq!(program[3], Instruction::CallLocal { target: 0 });
    assert!(matches!(program[0], Instruction::JumpIf { target: 3, .. }));
    for wrong in
        ["r1", "r11 = 0", "r1 = 0x100000000", "goto nowhere", "exit now", "*(u7 *)(r1 + 0) = 1", "r1 = r6@8", "r1 ~ 2", "call x"]
    {
        let error: AssembleError = assemble(&format!("exit\n{wrong}")).unwrap_err();
        assert_eq!((error.line, &error.text[..]), (2, wrong));
    }
}

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
