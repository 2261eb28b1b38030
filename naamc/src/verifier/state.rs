//! What is known between cut points: registers and memory as symbolic words, and facts about the symbols.
//!
//! A word is a symbol plus a constant. Words that differ by a constant share their symbol, so what a branch says of one it says of all;
//! a symbol that was computed from others remembers how, so that a fact about a sum narrows its parts. Between cut points code is acyclic
//! and every symbol is made at most once on a path, so a symbol is one number. At cut points symbols are forgotten.

use super::arithmetic::{alu, sign_extend, zero_extend};
use super::memory::Memory;
use super::value::Scalar;
use crate::abi::REGISTERS_MAX;
use crate::isa::{AluOperation, Register, Width};
use std::collections::HashMap;

/// Facts are passed on to at most this many definitions in a row.
const DEFINITION_DEPTH_MAX: u32 = 4;
/// Pairs of ordered words that a state remembers.
const ORDERS_MAX: usize = 16;
/// A state with more facts than this forgets those that no word needs.
const FACTS_KEPT: usize = 48;

/// A symbol plus a constant, wrapping; without symbol the constant itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Linear {
    pub(super) symbol: Option<u32>,
    pub(super) delta: u64,
}

impl Linear {
    pub(super) fn constant(value: u64) -> Linear {
        Linear { symbol: None, delta: value }
    }

    pub(super) fn plus(self, delta: u64) -> Linear {
        Linear { delta: self.delta.wrapping_add(delta), ..self }
    }
}

/// How a symbol was computed. `Add` and `Subtract` wrap at the width and are zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    Free,
    Add(Width, Linear, Linear),
    Subtract(Width, Linear, Linear),
    ZeroExtend(Linear),
    SignExtend(Linear, u32),
    And(Linear, u64),
    ShiftLeft(Linear, u32),
    ShiftRight(Linear, u32),
    Multiply(Linear, u64),
}

impl Definition {
    /// The symbols that it was computed from.
    pub(super) fn parts(self) -> [Option<u32>; 2] {
        match self {
            Definition::Free => [None, None],
            Definition::Add(_, a, b) | Definition::Subtract(_, a, b) => [a.symbol, b.symbol],
            Definition::ZeroExtend(a)
            | Definition::SignExtend(a, _)
            | Definition::And(a, _)
            | Definition::ShiftLeft(a, _)
            | Definition::ShiftRight(a, _)
            | Definition::Multiply(a, _) => [a.symbol, None],
        }
    }
}

/// All symbols of one pass with what held of them when they were made.
#[derive(Default)]
pub(super) struct Symbols {
    table: Vec<(Definition, Scalar)>,
}

impl Symbols {
    /// A word of which `facts` hold.
    pub(super) fn fresh(&mut self, definition: Definition, facts: Scalar) -> Linear {
        if let Some(constant) = facts.as_constant() {
            return Linear::constant(constant);
        }
        self.table.push((definition, facts));
        Linear { symbol: Some(self.table.len() as u32 - 1), delta: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets all symbols but the first so many.
    pub(super) fn forget(&mut self, count: usize) {
        self.table.truncate(count);
    }

    pub(super) fn definition(&self, symbol: u32) -> Definition {
        self.table[symbol as usize].0
    }
}

/// A set of addresses; as [`super::value::Pointer`], with symbolic offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) null: bool,
    pub(super) stack: Option<Linear>,
    pub(super) body: Option<Linear>,
    pub(super) read_only: Option<Linear>,
    pub(super) regions: u64,
}

impl Address {
    /// Changes the offset in every kind of memory.
    pub(super) fn map(self, mut offset: impl FnMut(Linear) -> Linear) -> Address {
        Address {
            stack: self.stack.map(&mut offset),
            body: self.body.map(&mut offset),
            read_only: self.read_only.map(&mut offset),
            ..self
        }
    }

    /// The offset, if it points into one kind of memory and cannot be anything else, and which kind.
    pub(super) fn single(&self) -> Option<(Kind, Linear)> {
        if self.null || self.regions != 0 {
            return None;
        }
        match (self.stack, self.body, self.read_only) {
            (Some(offset), None, None) => Some((Kind::Stack, offset)),
            (None, Some(offset), None) => Some((Kind::Body, offset)),
            (None, None, Some(offset)) => Some((Kind::ReadOnly, offset)),
            _ => None,
        }
    }
}

/// Kinds of memory that loads and stores reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stack,
    Body,
    ReadOnly,
}

/// What a register or a memory cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing that may be read.
    Undefined,
    /// An address that was computed with, or an address on one path and a number on another: it can be moved, no more.
    Unusable,
    /// A number.
    Number(Linear),
    /// An address.
    Pointer(Address),
    /// Something that a finding was reported of: nothing more is said of it, nor of what is made of it.
    Reported,
}

impl Word {
    pub(super) fn constant(value: u64) -> Word {
        Word::Number(Linear::constant(value))
    }

    /// Whether its bytes must not become data.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Word::Pointer(_) | Word::Unusable)
    }
}

/// Everything known at one place in the code.
#[derive(Clone)]
pub(super) struct State {
    pub(super) registers: [Word; REGISTERS_MAX],
    pub(super) memory: Memory,
    /// Facts that are stronger than those of the symbol's making, ascending by symbol.
    facts: Vec<(u32, Scalar)>,
    /// Pairs of words of which the first is at most the second, unsigned.
    orders: Vec<(Linear, Linear)>,
}

impl State {
    /// Nothing in registers but r10, and `memory`.
    pub(super) fn new(memory: Memory) -> State {
        let mut registers = [Word::Undefined; REGISTERS_MAX];
        registers[Register::R10.index()] = Word::Pointer(Address { stack: Some(Linear::constant(0)), ..Address::default() });
        State { registers, memory, facts: Vec::new(), orders: Vec::new() }
    }

    pub(super) fn get(&self, register: Register) -> Word {
        self.registers[register.index()]
    }

    pub(super) fn set(&mut self, register: Register, word: Word) {
        self.registers[register.index()] = word;
    }

    /// Known words and facts: what it takes to copy the state, to join it or to keep it.
    pub(super) fn size(&self) -> usize {
        self.memory.cells().len() + self.facts.len()
    }

    /// How many facts there are: what it takes to find out about words together.
    pub(super) fn facts_known(&self) -> usize {
        self.facts.len()
    }

    /// Forgets every register whose bit is not set. r10 stays.
    pub(super) fn keep_registers(&mut self, live: u64) {
        for index in (0..REGISTERS_MAX).filter(|index| live >> index & 1 == 0 && *index != Register::R10.index()) {
            self.registers[index] = Word::Undefined;
        }
    }

    /// Adds that the sum of two words is at most this, without wrapping.
    pub(super) fn assume_sum(&mut self, symbols: &mut Symbols, left: Linear, right: Linear, max: u64) {
        if let Some(symbol) = symbols.fresh(Definition::Add(Width::W64, left, right), Scalar::unsigned(0, max)).symbol {
            // A new symbol is larger than all others.
            self.facts.push((symbol, Scalar::unsigned(0, max)));
        }
    }

    /// Whether something is known of words together.
    pub(super) fn relates(&self, symbols: &Symbols) -> bool {
        !self.orders.is_empty() || self.facts.iter().any(|(symbol, _)| matches!(symbols.definition(*symbol), Definition::Add(..)))
    }

    /// Adds that one word is at most another, unsigned.
    pub(super) fn assume_order(&mut self, small: Linear, large: Linear) {
        if small.symbol.is_some() && large.symbol.is_some() && !self.orders.contains(&(small, large)) {
            if self.orders.len() == ORDERS_MAX {
                self.orders.remove(0);
            }
            self.orders.push((small, large));
        }
    }

    /// Whether one word is known to be at most another, unsigned.
    fn is_ordered(&self, small: Linear, large: Linear) -> bool {
        small == large || self.orders.contains(&(small, large))
    }

    /// The largest value of `offset + length`, where that is known of the sum though not of its parts: because a sum of both was compared, or
    /// because the length is at most a constant minus the offset. Both must be small numbers, the offset possibly negative.
    pub(super) fn sum_max(&self, symbols: &Symbols, offset: Linear, length: Linear) -> Option<i64> {
        const SMALL: i64 = 1 << 30;
        let small = |facts: &Scalar| facts.signed_min > -SMALL && facts.signed_max < SMALL;
        if !small(&self.facts(symbols, offset)) || !small(&self.facts(symbols, length)) {
            return None;
        }
        let (left, right) = (offset.symbol?, length.symbol?);
        let by = |word: Linear, part: Linear| word.delta.wrapping_sub(part.delta);
        let compared = self.facts.iter().filter_map(|(symbol, facts)| {
            let Definition::Add(width, a, b) = symbols.definition(*symbol) else { return None };
            let (a, b) = if a.symbol == Some(left) { (a, b) } else { (b, a) };
            if a.symbol != Some(left) || b.symbol != Some(right) {
                return None;
            }
            // The sum is this modulo 2^64 or 2^32, and small: so it is this.
            let rest = Scalar::constant(by(offset, a).wrapping_add(by(length, b)));
            let sum = alu(width, AluOperation::Add, *facts, rest);
            Some(if width == Width::W64 { sum.signed_max } else { sum.low_signed_max.into() })
        });
        let bounded = self.orders.iter().filter_map(|(least, most)| {
            let Definition::Subtract(_, total, part) = symbols.definition(most.symbol?) else { return None };
            let (total, facts) = (self.facts(symbols, total).as_constant()?, self.facts(symbols, part));
            let exact =
                facts.unsigned_max <= total && total <= SMALL as u64 && part.symbol == Some(left) && least.symbol == Some(right);
            let rest = [by(offset, part), by(length, *least), most.delta].map(|delta| delta as i64);
            let limit = self.facts(symbols, *most);
            // A limit that is not negative has a smaller number below it, unsigned or not.
            let plain = rest.iter().all(|delta| (-SMALL..SMALL).contains(delta)) && limit.signed_min >= 0 && small(&limit);
            (exact && plain).then(|| total as i64 + rest.iter().sum::<i64>())
        });
        compared.chain(bounded).min()
    }

    fn symbol_facts(&self, symbols: &Symbols, symbol: u32) -> Scalar {
        match self.facts.binary_search_by_key(&symbol, |(symbol, _)| *symbol) {
            Ok(place) => self.facts[place].1,
            Err(_) => symbols.table[symbol as usize].1,
        }
    }

    /// What is known of a word.
    pub(super) fn facts(&self, symbols: &Symbols, word: Linear) -> Scalar {
        match word.symbol {
            None => Scalar::constant(word.delta),
            Some(symbol) => plus(self.symbol_facts(symbols, symbol), word.delta),
        }
    }

    /// What is known of a word, computed anew from what is known by now of the words it was made of.
    pub(super) fn deep_facts(&self, symbols: &Symbols, word: Linear) -> Scalar {
        match word.symbol {
            None => Scalar::constant(word.delta),
            Some(symbol) => plus(self.recompute(symbols, symbol, DEFINITION_DEPTH_MAX), word.delta),
        }
    }

    fn recompute(&self, symbols: &Symbols, symbol: u32, depth: u32) -> Scalar {
        let known = self.symbol_facts(symbols, symbol);
        if depth == 0 {
            return known;
        }
        let of = |word: Linear| match word.symbol {
            None => Scalar::constant(word.delta),
            Some(symbol) => plus(self.recompute(symbols, symbol, depth - 1), word.delta),
        };
        let by = Scalar::constant;
        let computed = match symbols.definition(symbol) {
            Definition::Free => return known,
            Definition::Add(width, a, b) => alu(width, AluOperation::Add, of(a), of(b)),
            Definition::Subtract(width, a, b) => alu(width, AluOperation::Subtract, of(a), of(b)),
            Definition::ZeroExtend(a) => zero_extend(of(a)),
            Definition::SignExtend(a, bits) => sign_extend(of(a), bits),
            Definition::And(a, mask) => alu(Width::W64, AluOperation::And, of(a), by(mask)),
            Definition::ShiftLeft(a, count) => alu(Width::W64, AluOperation::ShiftLeft, of(a), by(count.into())),
            Definition::ShiftRight(a, count) => alu(Width::W64, AluOperation::ShiftRight, of(a), by(count.into())),
            Definition::Multiply(a, factor) => alu(Width::W64, AluOperation::Multiply, of(a), by(factor)),
        };
        known.meet(computed).unwrap_or(known)
    }

    /// Adds what a branch says of a word; false if that contradicts what is known, so that this path cannot be.
    pub(super) fn assume(&mut self, symbols: &Symbols, word: Linear, facts: Scalar) -> bool {
        self.assume_deep(symbols, word, facts, DEFINITION_DEPTH_MAX)
    }

    fn assume_deep(&mut self, symbols: &Symbols, word: Linear, facts: Scalar, depth: u32) -> bool {
        let Some(symbol) = word.symbol else { return facts.admits(word.delta) };
        let old = self.symbol_facts(symbols, symbol);
        let Some(new) = old.meet(plus(facts, word.delta.wrapping_neg())) else { return false };
        if new == old {
            return true;
        }
        match self.facts.binary_search_by_key(&symbol, |(symbol, _)| *symbol) {
            Ok(place) => self.facts[place].1 = new,
            Err(place) => self.facts.insert(place, (symbol, new)),
        }
        depth == 0 || self.assume_parts(symbols, symbols.definition(symbol), new, depth - 1)
    }

    /// What a fact about a computed word says of its parts. Every rule is an inverse that holds modulo 2^64 (or 2^32 in the low half).
    fn assume_parts(&mut self, symbols: &Symbols, definition: Definition, whole: Scalar, depth: u32) -> bool {
        let by = Scalar::constant;
        match definition {
            Definition::Free => true,
            Definition::Add(width, a, b) => {
                let (facts_a, facts_b) = (self.facts(symbols, a), self.facts(symbols, b));
                self.assume_part(symbols, width, a, alu(width, AluOperation::Subtract, whole, facts_b), depth)
                    && self.assume_part(symbols, width, b, alu(width, AluOperation::Subtract, whole, facts_a), depth)
            }
            Definition::Subtract(width, a, b) => {
                let (facts_a, facts_b) = (self.facts(symbols, a), self.facts(symbols, b));
                self.assume_part(symbols, width, a, alu(width, AluOperation::Add, whole, facts_b), depth)
                    && self.assume_part(symbols, width, b, alu(width, AluOperation::Subtract, facts_a, whole), depth)
            }
            Definition::ZeroExtend(a) | Definition::SignExtend(a, 32) => self.assume_part(symbols, Width::W32, a, whole, depth),
            Definition::SignExtend(..) => true,
            Definition::And(a, mask) => {
                let facts = self.facts(symbols, a);
                let mut part = Scalar { ones: whole.ones & mask, zeros: whole.zeros & mask, ..Scalar::ANY };
                part.unsigned_min = whole.unsigned_min;
                if facts.zeros | mask == u64::MAX {
                    part = whole;
                }
                part.reduce().is_some_and(|part| self.assume_deep(symbols, a, part, depth))
            }
            Definition::ShiftLeft(a, count) => {
                let lost = self.facts(symbols, a).unsigned_max > u64::MAX >> count;
                lost || self.assume_deep(symbols, a, alu(Width::W64, AluOperation::ShiftRight, whole, by(count.into())), depth)
            }
            Definition::ShiftRight(a, count) => {
                let max = (whole.unsigned_max << count) | ((1u64 << count) - 1);
                self.assume_deep(symbols, a, Scalar::unsigned(whole.unsigned_min << count, max), depth)
            }
            Definition::Multiply(a, factor) => {
                let wraps = self.facts(symbols, a).unsigned_max.checked_mul(factor).is_none();
                if wraps || factor == 0 {
                    return true;
                }
                let (min, max) = (whole.unsigned_min.div_ceil(factor), whole.unsigned_max / factor);
                min <= max && self.assume_deep(symbols, a, Scalar::unsigned(min, max), depth)
            }
        }
    }

    /// At 32 bits only the part's low half is known.
    fn assume_part(&mut self, symbols: &Symbols, width: Width, part: Linear, facts: Scalar, depth: u32) -> bool {
        match width {
            Width::W64 => self.assume_deep(symbols, part, facts, depth),
            Width::W32 => match self.facts(symbols, part).meet_low(facts) {
                None => false,
                Some(both) => self.assume_deep(symbols, part, both, depth),
            },
        }
    }

    /// Forgets facts that no word needs any more, and says how many words it looked at.
    pub(super) fn collect(&mut self, symbols: &Symbols) -> usize {
        if self.facts.len() <= FACTS_KEPT {
            return 0;
        }
        let mut needed: Vec<(u32, u32)> = Vec::new();
        let mut need = |word: Linear| needed.extend(word.symbol.map(|symbol| (symbol, 0)));
        for word in self.registers.iter().chain(self.memory.cells().iter().map(|cell| &cell.word)) {
            match word {
                Word::Number(word) => need(*word),
                Word::Pointer(address) => {
                    [address.stack, address.body, address.read_only].into_iter().flatten().for_each(&mut need);
                }
                Word::Undefined | Word::Unusable | Word::Reported => {}
            }
        }
        let mut index = 0;
        while index < needed.len() {
            let (symbol, depth) = needed[index];
            index += 1;
            if depth == DEFINITION_DEPTH_MAX {
                continue;
            }
            let parts = symbols.definition(symbol).parts();
            needed.extend(parts.into_iter().flatten().map(|part| (part, depth + 1)));
        }
        let looked_at = needed.len() + self.facts.len();
        let mut needed: Vec<u32> = needed.into_iter().map(|(symbol, _)| symbol).collect();
        needed.sort_unstable();
        needed.dedup();
        let is_needed = |word: Linear| word.symbol.is_none_or(|symbol| needed.binary_search(&symbol).is_ok());
        self.facts.retain(|(symbol, _)| match symbols.definition(*symbol) {
            _ if needed.binary_search(symbol).is_ok() => true,
            // What was found out about the sum of two words says something of both.
            Definition::Add(_, a, b) => is_needed(a) && is_needed(b),
            _ => false,
        });
        looked_at
    }

    /// What holds if either state does.
    pub(super) fn join(self, other: &State, symbols: &mut Symbols) -> State {
        let mut join = Join { left: &self, right: other, symbols, made: HashMap::new() };
        let mut registers = [Word::Undefined; REGISTERS_MAX];
        for (index, word) in registers.iter_mut().enumerate() {
            *word = join.word(self.registers[index], other.registers[index]);
        }
        let memory = self.memory.join(&other.memory, |left, right| join.word(left, right));
        let mut facts = Vec::new();
        for (symbol, left) in &self.facts {
            if let Ok(place) = other.facts.binary_search_by_key(symbol, |(symbol, _)| *symbol) {
                facts.push((*symbol, left.join(other.facts[place].1)));
            }
        }
        let orders = join.orders();
        State { registers, memory, facts, orders }
    }
}

fn plus(facts: Scalar, delta: u64) -> Scalar {
    if delta == 0 { facts } else { alu(Width::W64, AluOperation::Add, facts, Scalar::constant(delta)) }
}

/// A pair of words, up to a constant that is added to both.
type Pair = (Option<u32>, Option<u32>, u64);

/// One union of two states. Pairs of words that differ by the same constants on both sides stay equal up to a constant.
struct Join<'a> {
    left: &'a State,
    right: &'a State,
    symbols: &'a mut Symbols,
    made: HashMap<Pair, (Linear, u64)>,
}

impl Join<'_> {
    fn linear(&mut self, left: Linear, right: Linear) -> Linear {
        if left == right {
            return left;
        }
        let pair = (left.symbol, right.symbol, left.delta.wrapping_sub(right.delta));
        if let Some((word, delta)) = self.made.get(&pair) {
            return word.plus(left.delta.wrapping_sub(*delta));
        }
        let facts = self.left.deep_facts(self.symbols, left).join(self.right.deep_facts(self.symbols, right));
        let word = self.symbols.fresh(Definition::Free, facts);
        self.made.insert(pair, (word, left.delta));
        word
    }

    /// The offset of an address that only one side may be. It gets a symbol of its own: on the other side its number means nothing.
    fn one_sided(&mut self, state: &State, offset: Linear) -> Linear {
        let facts = state.deep_facts(self.symbols, offset);
        self.symbols.fresh(Definition::Free, facts)
    }

    fn offset(&mut self, left: Option<Linear>, right: Option<Linear>) -> Option<Linear> {
        match (left, right) {
            (None, None) => None,
            (Some(left), Some(right)) => Some(self.linear(left, right)),
            (Some(left), None) => Some(self.one_sided(self.left, left)),
            (None, Some(right)) => Some(self.one_sided(self.right, right)),
        }
    }

    /// Orders that hold on both sides, of words that are the same on both or were joined.
    fn orders(&self) -> Vec<(Linear, Linear)> {
        let mut orders: Vec<(Linear, Linear)> =
            self.left.orders.iter().filter(|(small, large)| self.right.is_ordered(*small, *large)).copied().collect();
        let mut joined: Vec<(&Pair, &(Linear, u64))> = self.made.iter().collect();
        joined.sort_unstable();
        for ((left_symbol, right_symbol, difference), (word, delta)) in joined {
            let left = Linear { symbol: *left_symbol, delta: *delta };
            let right = Linear { symbol: *right_symbol, delta: delta.wrapping_sub(*difference) };
            for (small, large) in self.left.orders.iter().chain(&self.right.orders) {
                let fits = (*small == left || *small == right)
                    && self.left.is_ordered(left, *large)
                    && self.right.is_ordered(right, *large);
                if fits && orders.len() < ORDERS_MAX && !orders.contains(&(*word, *large)) {
                    orders.push((*word, *large));
                }
            }
        }
        orders
    }

    fn word(&mut self, left: Word, right: Word) -> Word {
        let null = Address { null: true, ..Address::default() };
        match (left, right) {
            (Word::Reported, _) | (_, Word::Reported) => Word::Reported,
            (Word::Undefined, _) | (_, Word::Undefined) => Word::Undefined,
            (Word::Number(left), Word::Number(right)) => Word::Number(self.linear(left, right)),
            (Word::Pointer(left), Word::Pointer(right)) => Word::Pointer(self.address(left, right)),
            (Word::Pointer(left), Word::Number(Linear { symbol: None, delta: 0 })) => Word::Pointer(self.address(left, null)),
            (Word::Number(Linear { symbol: None, delta: 0 }), Word::Pointer(right)) => Word::Pointer(self.address(null, right)),
            _ => Word::Unusable,
        }
    }

    fn address(&mut self, left: Address, right: Address) -> Address {
        if left == right {
            return left;
        }
        Address {
            null: left.null || right.null,
            stack: self.offset(left.stack, right.stack),
            body: self.offset(left.body, right.body),
            read_only: self.offset(left.read_only, right.read_only),
            regions: left.regions | right.regions,
        }
    }
}
