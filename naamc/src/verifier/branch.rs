//! What a conditional jump says on each of its two ways.

use super::checker::Checker;
use super::comparison::refine;
use super::state::{Address, Linear, State, Word};
use super::value::Scalar;
use crate::diagnostic::{Code, Finding};
use crate::isa::{Condition, Operand, Register, Width};

/// Offsets within this distance of an object keep the order of addresses: no address lies so near to an end of the address space.
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
                split_null(state, test.condition, test.left, address)
            }
            (number, Word::Pointer(address)) if equality && test.width == Width::W64 && null(number) => match test.right {
                Operand::Register(register) => split_null(state, test.condition, register, address),
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
        let assumed = |mut state: State, (a, b): (Scalar, Scalar)| {
            (state.assume(&self.symbols, left, a) && state.assume(&self.symbols, right, b)).then_some(state)
        };
        let no = refine(width, condition, false, a, b);
        let Some(yes) = refine(width, condition, true, a, b) else {
            return (None, no.and_then(|facts| assumed(state, facts)));
        };
        match no {
            Some(no) => (assumed(state.clone(), yes), assumed(state, no)),
            None => (assumed(state, yes), None),
        }
    }

    /// Addresses into one object are ordered as their offsets are, signed.
    fn split_order(&self, state: State, condition: Condition, left: Linear, right: Linear) -> (Option<State>, Option<State>) {
        let near = |word: Linear| {
            let facts = state.deep_facts(&self.symbols, word);
            facts.signed_min > -ORDERED_OFFSET_MAX && facts.signed_max < ORDERED_OFFSET_MAX
        };
        let condition = match condition {
            Condition::Greater => Condition::SignedGreater,
            Condition::GreaterOrEqual => Condition::SignedGreaterOrEqual,
            Condition::Less => Condition::SignedLess,
            Condition::LessOrEqual => Condition::SignedLessOrEqual,
            condition => condition,
        };
        let equality = matches!(condition, Condition::Equal | Condition::NotEqual);
        if !equality && !(near(left) && near(right)) {
            return (Some(state.clone()), Some(state));
        }
        self.split(state, Width::W64, condition, left, right)
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

/// A pointer is null, or is not.
fn split_null(state: State, condition: Condition, register: Register, address: Address) -> (Option<State>, Option<State>) {
    let something = Address { null: false, ..address };
    let with = |word: Word| {
        let mut state = state.clone();
        state.set(register, word);
        state
    };
    let null = address.null.then(|| with(Word::constant(0)));
    let other = (something != Address::default()).then(|| with(Word::Pointer(something)));
    if condition == Condition::Equal { (null, other) } else { (other, null) }
}
