//! From text to instructions: the inverse of disassembly, for tests and tools that want programs as people read them.

use super::{AluOperation, AtomicOperation, ByteOrder, Condition, Instruction, Operand, Register, Size, Symbol, Width};
use crate::abi::{Helper, REGISTERS_MAX};
use std::collections::HashMap;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?}: {reason}")]
pub struct AssembleError {
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// Why that is no instruction.
    pub reason: String,
}

/// Reads one instruction a line, as `Display` writes them. `#` begins a comment; `name:` names the instruction that follows, and jumps
/// and calls (`call name`) go to names as well as to indices.
///
/// # Errors
///
/// The first line that is not understood.
pub fn assemble(text: &str) -> Result<Vec<Instruction>, AssembleError> {
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(line, text)| (line + 1, code_of(text))).collect();
    let mut labels = HashMap::new();
    let mut count = 0;
    for (_, code) in &lines {
        match code.strip_suffix(':') {
            Some(label) => drop(labels.insert(label.trim(), count)),
            None if code.is_empty() => {}
            None => count += 1,
        }
    }
    let mut instructions = Vec::with_capacity(count as usize);
    for (line, code) in lines {
        if code.is_empty() || code.ends_with(':') {
            continue;
        }
        let mut cursor = Cursor { rest: code, labels: &labels };
        let instruction = cursor.instruction().and_then(|instruction| match cursor.rest.trim() {
            "" => Ok(instruction),
            rest => Err(format!("{rest:?} is too much")),
        });
        instructions.push(instruction.map_err(|reason| AssembleError { line, text: code.to_owned(), reason })?);
    }
    Ok(instructions)
}

fn code_of(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// Operators that assign, longest first where one begins another.
const ASSIGNMENTS: [(&str, AluOperation); 14] = [
    ("s>>=", AluOperation::ShiftRightSigned),
    ("s/=", AluOperation::SignedDivide),
    ("s%=", AluOperation::SignedModulo),
    (">>=", AluOperation::ShiftRight),
    ("<<=", AluOperation::ShiftLeft),
    ("+=", AluOperation::Add),
    ("-=", AluOperation::Subtract),
    ("*=", AluOperation::Multiply),
    ("/=", AluOperation::Divide),
    ("%=", AluOperation::Modulo),
    ("|=", AluOperation::Or),
    ("&=", AluOperation::And),
    ("^=", AluOperation::Xor),
    ("=", AluOperation::Move),
];

/// Conditions, longest first where one begins another.
const CONDITIONS: [(&str, Condition); 11] = [
    ("==", Condition::Equal),
    ("!=", Condition::NotEqual),
    ("s>=", Condition::SignedGreaterOrEqual),
    ("s<=", Condition::SignedLessOrEqual),
    ("s>", Condition::SignedGreater),
    ("s<", Condition::SignedLess),
    (">=", Condition::GreaterOrEqual),
    ("<=", Condition::LessOrEqual),
    (">", Condition::Greater),
    ("<", Condition::Less),
    ("&", Condition::AnySet),
];

/// Atomic operations that may return the old value, by operator and by name.
const ATOMICS: [(&str, &str, AtomicOperation); 4] = [
    ("+=", "atomic_fetch_add", AtomicOperation::Add),
    ("|=", "atomic_fetch_or", AtomicOperation::Or),
    ("&=", "atomic_fetch_and", AtomicOperation::And),
    ("^=", "atomic_fetch_xor", AtomicOperation::Xor),
];

/// `*(u64 *)(r1 + 8)`
struct Memory {
    size: Size,
    signed: bool,
    base: Register,
    offset: i32,
}

struct Cursor<'a> {
    rest: &'a str,
    labels: &'a HashMap<&'a str, u32>,
}

type Parsed<T> = Result<T, String>;

impl<'a> Cursor<'a> {
    fn instruction(&mut self) -> Parsed<Instruction> {
        if self.eat_word("exit") {
            return Ok(Instruction::Exit);
        }
        if self.eat_word("goto") {
            return Ok(Instruction::Jump { target: self.target()? });
        }
        if self.eat_word("if") {
            return self.jump_if();
        }
        if self.eat_word("call") {
            return self.call();
        }
        if self.eat_word("lock") {
            return self.lock();
        }
        if self.peeks("*(") {
            let Memory { size, base, offset, .. } = self.memory()?;
            self.expect("=")?;
            return Ok(Instruction::Store { size, base, offset, source: self.operand()? });
        }
        self.assignment()
    }

    fn assignment(&mut self) -> Parsed<Instruction> {
        let (destination, width) = self.register()?;
        let operation = self.one_of(&ASSIGNMENTS)?;
        if operation == AluOperation::Move
            && let Some(instruction) = self.special_value(destination, width)?
        {
            return Ok(instruction);
        }
        Ok(Instruction::Alu { width, operation, destination, source: self.operand()? })
    }

    /// What may follow `=` besides an operand.
    fn special_value(&mut self, destination: Register, width: Width) -> Parsed<Option<Instruction>> {
        if self.peeks("*(") {
            let Memory { size, signed, base, offset } = self.memory()?;
            return Ok(Some(Instruction::Load { size, signed, destination, base, offset }));
        }
        if self.eat("(s") {
            let bits = self.number()?;
            self.expect(")")?;
            let (source, _) = self.register()?;
            return Ok(Some(Instruction::MoveSignExtend { width, bits, destination, source }));
        }
        if self.peeks("-r") || self.peeks("-w") {
            self.expect("-")?;
            self.register()?;
            return Ok(Some(Instruction::Negate { width, destination }));
        }
        for (name, order) in [("le", ByteOrder::Little), ("be", ByteOrder::Big), ("bswap", ByteOrder::Swap)] {
            if self.peeks(name) && self.rest.trim_start()[name.len()..].starts_with(|first: char| first.is_ascii_digit()) {
                self.expect(name)?;
                let bits = self.number()?;
                self.register()?;
                return Ok(Some(Instruction::ByteOrder { order, bits, destination }));
            }
        }
        for (_, name, operation) in ATOMICS {
            if self.eat_word(name) {
                return self.fetch(operation, name).map(Some);
            }
        }
        for (name, operation) in [("xchg", AtomicOperation::Exchange), ("cmpxchg", AtomicOperation::CompareExchange)] {
            if self.peeks(name) {
                self.expect(name)?;
                return self.exchange(operation).map(Some);
            }
        }
        let symbol = if self.eat_word("region") {
            Some(Symbol::Region(self.number()?))
        } else if self.eat_word("read_only") {
            self.expect("+")?;
            Some(Symbol::ReadOnly(self.number()?))
        } else {
            None
        };
        if let Some(symbol) = symbol {
            self.expect("ll")?;
            return Ok(Some(Instruction::LoadAddress { destination, symbol }));
        }
        if self.rest.trim_end().ends_with(" ll") {
            let value = self.number()?;
            self.expect("ll")?;
            return Ok(Some(Instruction::LoadImmediate { destination, value }));
        }
        Ok(None)
    }

    fn jump_if(&mut self) -> Parsed<Instruction> {
        let (left, width) = self.register()?;
        let condition = self.one_of(&CONDITIONS)?;
        let right = self.operand()?;
        self.expect("goto")?;
        Ok(Instruction::JumpIf { width, condition, left, right, target: self.target()? })
    }

    fn call(&mut self) -> Parsed<Instruction> {
        if self.eat_word("instruction") {
            return Ok(Instruction::CallLocal { target: self.target()? });
        }
        let before = self.rest;
        let name = self.word();
        if let Some(target) = self.labels.get(name) {
            return Ok(Instruction::CallLocal { target: *target });
        }
        if let Some(helper) = Helper::ALL.into_iter().find(|helper| helper.name() == name) {
            return Ok(Instruction::CallHelper { number: helper as i32 });
        }
        self.rest = before;
        Ok(Instruction::CallHelper { number: self.number()? })
    }

    /// `lock *(u64 *)(r1 + 8) += r2`
    fn lock(&mut self) -> Parsed<Instruction> {
        let Memory { size, base, offset, .. } = self.memory()?;
        for (symbol, _, operation) in ATOMICS {
            if self.eat(symbol) {
                let (source, _) = self.register()?;
                return Ok(Instruction::Atomic { operation, size, fetch: false, base, offset, source });
            }
        }
        Err("an atomic operation has one of += |= &= ^=".to_owned())
    }

    /// `((u64 *)(r1 + 8), r2)`
    fn fetch(&mut self, operation: AtomicOperation, name: &str) -> Parsed<Instruction> {
        self.expect("((u")?;
        let size = self.size()?;
        self.expect("*)(")?;
        let (base, offset) = self.base_and_offset()?;
        self.expect("),")?;
        let (source, _) = self.register().map_err(|reason| format!("{name}: {reason}"))?;
        self.expect(")")?;
        Ok(Instruction::Atomic { operation, size, fetch: true, base, offset, source })
    }

    /// `64(r1 + 8, r2)`, or with r0 before the last
    fn exchange(&mut self, operation: AtomicOperation) -> Parsed<Instruction> {
        let size = self.size()?;
        self.expect("(")?;
        let (base, offset) = self.base_and_offset()?;
        self.expect(",")?;
        if operation == AtomicOperation::CompareExchange {
            self.register()?;
            self.expect(",")?;
        }
        let (source, _) = self.register()?;
        self.expect(")")?;
        Ok(Instruction::Atomic { operation, size, fetch: true, base, offset, source })
    }

    fn memory(&mut self) -> Parsed<Memory> {
        self.expect("*(")?;
        let signed = self.eat("s");
        if !signed {
            self.expect("u")?;
        }
        let size = self.size()?;
        self.expect("*)(")?;
        let (base, offset) = self.base_and_offset()?;
        self.expect(")")?;
        Ok(Memory { size, signed, base, offset })
    }

    fn base_and_offset(&mut self) -> Parsed<(Register, i32)> {
        let (base, _) = self.register()?;
        let sign = if self.eat("-") { -1 } else { 1 };
        if sign == 1 {
            self.expect("+")?;
        }
        let offset: i64 = self.number()?;
        Ok((base, i32::try_from(sign * offset).map_err(|_| format!("offset {offset} is too far"))?))
    }

    fn size(&mut self) -> Parsed<Size> {
        match self.number()? {
            8 => Ok(Size::B1),
            16 => Ok(Size::B2),
            32 => Ok(Size::B4),
            64 => Ok(Size::B8),
            bits => Err(format!("no access has {bits} bits")),
        }
    }

    fn operand(&mut self) -> Parsed<Operand> {
        match self.peeks("r") || self.peeks("w") {
            true => Ok(Operand::Register(self.register()?.0)),
            false => Ok(Operand::Immediate(self.number()?)),
        }
    }

    /// `r1`, `w1`, or `r6@2` for r6 of a call inlined at depth 2.
    fn register(&mut self) -> Parsed<(Register, Width)> {
        let word = self.word();
        let unknown = || format!("{word:?} is not a register");
        let width = match word.as_bytes().first() {
            Some(b'r') => Width::W64,
            Some(b'w') => Width::W32,
            _ => return Err(unknown()),
        };
        let number = match word[1..].split_once('@') {
            None => word[1..].parse().ok().filter(|number: &usize| *number <= 10),
            Some((number, depth)) => match (number.parse::<usize>(), depth.parse::<usize>()) {
                (Ok(number @ 6..=9), Ok(depth @ 1..)) => depth.checked_mul(4).map(|shift| 11 + shift - 4 + number - 6),
                _ => None,
            },
        };
        let number = number.filter(|number| *number < REGISTERS_MAX).ok_or_else(unknown)?;
        Ok((Register(number as u8), width))
    }

    /// A decimal or hexadecimal number that fits.
    fn number<T: TryFrom<i128>>(&mut self) -> Parsed<T> {
        let negative = self.eat("-");
        let word = self.word();
        let digits = word.strip_prefix("0x");
        let number = match digits {
            Some(digits) => i128::from_str_radix(digits, 16),
            None => word.parse(),
        };
        let number = number.map_err(|_| format!("{word:?} is not a number"))?;
        let number = if negative { number.checked_neg().unwrap_or(number) } else { number };
        T::try_from(number).map_err(|_| format!("{number} does not fit"))
    }

    fn target(&mut self) -> Parsed<u32> {
        let word = self.word();
        match self.labels.get(word) {
            Some(target) => Ok(*target),
            None => word.parse().map_err(|_| format!("{word:?} is neither a label nor an index")),
        }
    }

    fn one_of<T: Copy>(&mut self, table: &[(&str, T)]) -> Parsed<T> {
        let found = table.iter().find(|(symbol, _)| self.peeks(symbol)).ok_or("an operator is missing")?;
        self.expect(found.0)?;
        Ok(found.1)
    }

    fn peeks(&self, text: &str) -> bool {
        self.rest.trim_start().starts_with(text)
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.trim_start().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { Err(format!("{text:?} is missing before {:?}", self.rest)) }
    }

    /// The letters and digits that come next, maybe none.
    fn word(&mut self) -> &'a str {
        let rest = self.rest.trim_start();
        let end = rest
            .find(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '_' | '@')))
            .unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }

    fn eat_word(&mut self, text: &str) -> bool {
        let before = self.rest;
        if self.word() == text {
            return true;
        }
        self.rest = before;
        false
    }
}
