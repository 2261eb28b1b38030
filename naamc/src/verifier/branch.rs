//! What a conditional jump says on each of its two ways.

use super::checker::Checker;
use super::comparison::refine;
use super::state::{Address, Linear, State, Word};
use super::value::Scalar;
use crate::diagnostic::{Code, Finding};
use crate::isa::{Condition, Operand, Register, Width};

/// Offsets within this distance of an object keep the order of addresses, and none of them is null: no object lies so near to an end of
/// the address space.
const ORDERED_OFFSET_MAX: i64 = 1 << 31;

/// A comparison as an instruction states it.
#[derive(Clone, Copy)]
pub(super) struct Test {
    pub(super) width: Width,
    pub(super) condition: Condition,
    pub(super) left: Register,
    pub(super) right: Operand,
}

impl Checker<'_> {
    /// Splits a state into those in which the comparison holds and does not; none where that cannot be.
    pub(super) fn branch(&mut self, mut state: State, at: u32, test: Test) -> (Option<State>, Option<State>) {
        let left = self.defined(&mut state, at, test.left);
        let right = match test.right {
            Operand::Register(register) => self.defined(&mut state, at, register),
            Operand::Immediate(value) => Word::constant(i64::from(value) as u64),
        };
        let equality = matches!(test.condition, Condition::Equal | Condition::NotEqual);
        let null = |word: Word| word == Word::constant(0);
        match (left, right) {
            (Word::Number(left), Word::Number(right)) => self.split(state, test.width, test.condition, left, right),
            (Word::Reported, _) | (_, Word::Reported) => (Some(state.clone()), Some(state)),
            (Word::Pointer(address), number) if equality && test.width == Width::W64 && null(number) => {
                self.split_null(state, test.condition, test.left, address)
            }
            (number, Word::Pointer(address)) if equality && test.width == Width::W64 && null(number) => match test.right {
                Operand::Register(register) => self.split_null(state, test.condition, register, address),
                Operand::Immediate(_) => (Some(state.clone()), Some(state)),
            },
            (Word::Pointer(left), Word::Pointer(right)) if test.width == Width::W64 && test.condition != Condition::AnySet => {
                match (left.single(), right.single()) {
                    (Some((kind, left)), Some((other, right))) if kind == other => {
                        self.split_order(state, test.condition, left, right)
                    }
                    _ if equality => (Some(state.clone()), Some(state)),
                    _ => self.incomparable(state, at, test),
                }
            }
            _ => self.incomparable(state, at, test),
        }
    }

    fn split(
        &self,
        state: State,
        width: Width,
        condition: Condition,
        left: Linear,
        right: Linear,
    ) -> (Option<State>, Option<State>) {
        let (a, b) = (state.deep_facts(&self.symbols, left), state.deep_facts(&self.symbols, right));
        let plain = |facts: &Scalar| width == Width::W64 || facts.unsigned_max <= u64::from(u32::MAX);
        let comparable = plain(&a) && plain(&b);
        let assumed = |mut state: State, holds: bool, facts: (Scalar, Scalar)| {
            if comparable && let Some((small, large)) = order(condition, holds, (left, &a), (right, &b)) {
                state.assume_order(small, large);
            }
            (state.assume(&self.symbols, left, facts.0) && state.assume(&self.symbols, right, facts.1)).then_some(state)
        };
        let no = refine(width, condition, false, a, b);
        let Some(yes) = refine(width, condition, true, a, b) else {
            return (None, no.and_then(|facts| assumed(state, false, facts)));
        };
        match no {
            Some(no) => (assumed(state.clone(), true, yes), assumed(state, false, no)),
            None => (assumed(state, true, yes), None),
        }
    }

    /// Addresses into one object are ordered as their offsets are, signed.
    fn split_order(&self, state: State, condition: Condition, left: Linear, right: Linear) -> (Option<State>, Option<State>) {
        let near = |word: Linear| self.is_near(&state, word);
        let condition = match condition {
            Condition::Greater => Condition::SignedGreater,
            Condition::GreaterOrEqual => Condition::SignedGreaterOrEqual,
            Condition::Less => Condition::SignedLess,
            Condition::LessOrEqual => Condition::SignedLessOrEqual,
            condition => condition,
        };
        let equality = matches!(condition, Condition::Equal | Condition::NotEqual);
        if !(equality || (near(left) && near(right))) {
            return (Some(state.clone()), Some(state));
        }
        self.split(state, Width::W64, condition, left, right)
    }

    fn is_near(&self, state: &State, offset: Linear) -> bool {
        let facts = state.deep_facts(&self.symbols, offset);
        facts.signed_min > -ORDERED_OFFSET_MAX && facts.signed_max < ORDERED_OFFSET_MAX
    }

    /// A pointer is null, or is not. Arithmetic that is not bounded can make one null, too.
    fn split_null(
        &self,
        state: State,
        condition: Condition,
        register: Register,
        address: Address,
    ) -> (Option<State>, Option<State>) {
        let something = Address { null: false, ..address };
        let offsets = [address.stack, address.body, address.read_only];
        let wraps = offsets.into_iter().flatten().any(|offset| !self.is_near(&state, offset));
        let with = |word: Word| {
            let mut state = state.clone();
            state.set(register, word);
            state
        };
        let null = (address.null || wraps).then(|| with(Word::constant(0)));
        let other = (something != Address::default()).then(|| with(Word::Pointer(something)));
        if condition == Condition::Equal { (null, other) } else { (other, null) }
    }

    fn incomparable(&mut self, mut state: State, at: u32, test: Test) -> (Option<State>, Option<State>) {
        self.report(at, || {
            Finding::new(Code::POINTER_COMPARED, format!("`{}` is compared with something of another kind", test.left))
                .hint("compare addresses with null, or with addresses into the same object; compare indices otherwise")
        });
        if test.left != Register::R10 {
            state.set(test.left, Word::Reported);
        }
        (Some(state.clone()), Some(state))
    }
}

/// Which of two words is at most the other, unsigned, where a comparison of whole words says so.
fn order(condition: Condition, holds: bool, left: (Linear, &Scalar), right: (Linear, &Scalar)) -> Option<(Linear, Linear)> {
    use Condition::{
        Greater, GreaterOrEqual, Less, LessOrEqual, SignedGreater, SignedGreaterOrEqual, SignedLess, SignedLessOrEqual,
    };
    let signed = matches!(condition, SignedGreater | SignedGreaterOrEqual | SignedLess | SignedLessOrEqual);
    let positive = |facts: &Scalar| facts.unsigned_max <= i32::MAX as u64;
    if signed && !(positive(left.1) && positive(right.1)) {
        return None;
    }
    let (left, right) = (left.0, right.0);
    match (condition, holds) {
        (Less | SignedLess, true) | (GreaterOrEqual | SignedGreaterOrEqual, false) => Some((left.plus(1), right)),
        (LessOrEqual | SignedLessOrEqual, true) | (Greater | SignedGreater, false) => Some((left, right)),
        (Greater | SignedGreater, true) | (LessOrEqual | SignedLessOrEqual, false) => Some((right.plus(1), left)),
        (GreaterOrEqual | SignedGreaterOrEqual, true) | (Less | SignedLess, false) => Some((right, left)),
        _ => None,
    }
}
