//! Between states and contracts: what a contract says of a state, what a state promises, and whether it keeps a contract.

use super::arithmetic::truncate;
use super::contract::{Bound, ByteRange, Cell, Contract};
use super::memory::{Memory, StackBytes};
use super::state::{Address, Definition, Linear, State, Symbols, Word};
use super::value::{Pointer, Scalar, Value};
use crate::abi::STACK_BYTES;
use crate::isa::{Register, Size};

/// Bounds of one contract.
const BOUNDS_MAX: usize = 16;

/// All that may be assumed after a cut point.
pub(super) fn state_of(contract: &Contract, symbols: &mut Symbols) -> State {
    let mut state = State::new(Memory::of_live(&contract.live_stack));
    for (register, value) in &contract.registers {
        state.set(*register, word_of(value, symbols));
    }
    for cell in &contract.cells {
        state.memory.put(cell.offset, cell.size, word_of(&cell.value, symbols));
    }
    for bound in &contract.bounds {
        if let (Word::Number(left), Word::Number(right)) = (state.get(bound.left), state.get(bound.right)) {
            state.assume_sum(symbols, left, right, bound.max);
        }
    }
    state
}

fn word_of(value: &Value, symbols: &mut Symbols) -> Word {
    let mut number = |scalar: Scalar| symbols.fresh(Definition::Free, scalar.reduce().unwrap_or(scalar));
    match value {
        Value::Scalar(scalar) => Word::Number(number(*scalar)),
        Value::Pointer(pointer) => Word::Pointer(Address {
            null: pointer.null,
            stack: pointer.stack.map(&mut number),
            body: pointer.body.map(&mut number),
            read_only: pointer.read_only.map(&mut number),
            regions: pointer.regions,
        }),
    }
}

/// The strongest contract that a state keeps, with the registers whose bits are set.
pub(super) fn project(state: &State, symbols: &Symbols, instruction: u32, live_registers: u64) -> Contract {
    let listed = |index: &u8| live_registers >> index & 1 == 1 && Register(*index) != Register::R10;
    let registers: Vec<(Register, Value)> = (0..state.registers.len() as u8)
        .filter(listed)
        .filter_map(|index| Some((Register(index), value_of(state, symbols, state.get(Register(index)))?)))
        .collect();
    let bounds = bounds(state, symbols, &registers);
    let bytes = state.memory.presentable();
    let cells = state
        .memory
        .cells()
        .iter()
        .filter(|cell| bytes.contains(cell.range()))
        .filter_map(|cell| Some(Cell { offset: cell.offset, size: cell.size, value: value_of(state, symbols, cell.word)? }))
        .filter(says_something)
        .collect();
    Contract { instruction, registers, live_stack: bytes.ranges(), cells, bounds }
}

/// Whether more is known of a cell than "any bytes". Contracts list no others, so what holds is written in one way.
fn says_something(cell: &Cell) -> bool {
    let any = truncate(Scalar::ANY, cell.size.bytes());
    !matches!(cell.value, Value::Scalar(scalar) if scalar.reduce().is_none_or(|scalar| scalar == any))
}

/// Sums of two registers of which more is known than of each alone.
fn bounds(state: &State, symbols: &Symbols, registers: &[(Register, Value)]) -> Vec<Bound> {
    let mut bounds = Vec::new();
    if !state.relates(symbols) {
        return bounds;
    }
    let variable = |(register, _): &(Register, Value)| match state.get(*register) {
        Word::Number(word) if word.symbol.is_some() => Some((*register, word)),
        _ => None,
    };
    let numbers: Vec<(Register, Linear)> = registers.iter().filter_map(variable).collect();
    for (index, (left, left_word)) in numbers.iter().enumerate() {
        for (right, right_word) in &numbers[index + 1..] {
            let alone = alone_max(state, symbols, *left_word, *right_word);
            let together = sum_max(state, symbols, *left_word, *right_word);
            if let Some(max) = together.filter(|max| alone.is_some_and(|alone| *max < alone))
                && bounds.len() < BOUNDS_MAX
            {
                bounds.push(Bound { left: *left, right: *right, max });
            }
        }
    }
    bounds
}

/// The largest sum of two words as far as it follows from each alone; none if it may wrap.
fn alone_max(state: &State, symbols: &Symbols, left: Linear, right: Linear) -> Option<u64> {
    state.deep_facts(symbols, left).unsigned_max.checked_add(state.deep_facts(symbols, right).unsigned_max)
}

/// The largest sum of two words that are not negative.
fn sum_max(state: &State, symbols: &Symbols, left: Linear, right: Linear) -> Option<u64> {
    let positive = |word: Linear| state.facts(symbols, word).signed_min >= 0;
    if !positive(left) || !positive(right) {
        return None;
    }
    let either = [state.sum_max(symbols, left, right), state.sum_max(symbols, right, left)];
    either.into_iter().flatten().filter_map(|max| u64::try_from(max).ok()).min()
}

/// The contract of what keeps either: that of the union of states.
pub(super) fn join(one: &Contract, other: &Contract) -> Contract {
    if one == other {
        return one.clone();
    }
    let mut symbols = Symbols::default();
    let (left, right) = (state_of(one, &mut symbols), state_of(other, &mut symbols));
    let joined = left.join(&right, &mut symbols);
    let mut contract = project(&joined, &symbols, one.instruction, u64::MAX);
    // Words of the two have different symbols, so what relates them is joined here.
    let mut bounds: Vec<Bound> = Vec::new();
    for (bound, other) in one.bounds.iter().map(|bound| (bound, other)).chain(other.bounds.iter().map(|bound| (bound, one))) {
        let known = bounds.iter().any(|known| (known.left, known.right) == (bound.left, bound.right));
        if let Some(max) = implied(other, bound).filter(|_| !known && lists(&contract, bound)) {
            bounds.push(Bound { max: max.max(bound.max), ..*bound });
        }
    }
    contract.bounds = bounds;
    contract.bounds.sort_by_key(|bound| (bound.left, bound.right));
    contract
}

/// Whether a contract lists both registers of a bound as numbers.
fn lists(contract: &Contract, bound: &Bound) -> bool {
    number(contract, bound.left).is_some() && number(contract, bound.right).is_some()
}

fn number(contract: &Contract, register: Register) -> Option<&Scalar> {
    match contract.registers.iter().find(|(other, _)| *other == register) {
        Some((_, Value::Scalar(scalar))) => Some(scalar),
        _ => None,
    }
}

/// The largest sum of a bound's registers that a contract allows, if it says anything of it.
fn implied(contract: &Contract, bound: &Bound) -> Option<u64> {
    let known = contract.bounds.iter().find(|other| (other.left, other.right) == (bound.left, bound.right)).map(|other| other.max);
    let alone = number(contract, bound.left)?.unsigned_max.checked_add(number(contract, bound.right)?.unsigned_max);
    known.into_iter().chain(alone).min()
}

fn value_of(state: &State, symbols: &Symbols, word: Word) -> Option<Value> {
    let facts = |offset: Linear| state.deep_facts(symbols, offset);
    match word {
        Word::Undefined | Word::Unusable | Word::Reported => None,
        Word::Number(number) => Some(Value::Scalar(facts(number))),
        Word::Pointer(address) => Some(Value::Pointer(Pointer {
            null: address.null,
            stack: address.stack.map(facts),
            body: address.body.map(facts),
            read_only: address.read_only.map(facts),
            regions: address.regions,
        })),
    }
}

/// Why a state does not keep a contract; none if it does. Stack bytes that the contract promises and that may still be unwritten are
/// added to `zeroed`.
pub(super) fn violation(state: &State, symbols: &mut Symbols, contract: &Contract, zeroed: &mut StackBytes) -> Option<String> {
    for (register, value) in &contract.registers {
        let word = state.get(*register);
        if word != Word::Reported && !keeps(state, symbols, word, value) {
            return Some(format!("`{register}` can be more than the contract says"));
        }
    }
    for bound in &contract.bounds {
        if !keeps_bound(state, symbols, bound) {
            return Some(format!("the sum of `{}` and `{}` can be more than {}", bound.left, bound.right, bound.max));
        }
    }
    for range in &contract.live_stack {
        let unlisted = |cell: &&super::memory::KnownCell| {
            let place = contract.cells.binary_search_by_key(&cell.offset, |other| other.offset);
            cell.word.is_secret() && !place.is_ok_and(|place| matches!(contract.cells[place].value, Value::Pointer(_)))
        };
        if !state.memory.is_readable(*range) || state.memory.overlapping(*range).iter().any(|cell| unlisted(&cell)) {
            return Some(format!("stack bytes {} to {} are not plain data on every path", range.start, range.end - 1));
        }
        zeroed.insert_except(*range, state.memory.written());
    }
    let broken = contract.cells.iter().find(|cell| !keeps_cell(state, symbols, cell))?;
    Some(format!("the {} bytes at {} can be more than the contract says", broken.size.bytes(), broken.offset))
}

fn keeps(state: &State, symbols: &Symbols, word: Word, value: &Value) -> bool {
    let within = |offset: Linear, scalar: &Scalar| state.deep_facts(symbols, offset).is_within(scalar);
    match (word, value) {
        (Word::Number(number), Value::Scalar(scalar)) => within(number, scalar),
        // A number that is only now known to be zero is null as well: contracts, when joined, say no more of it than its value.
        (Word::Number(number), Value::Pointer(pointer)) => pointer.null && within(number, &Scalar::constant(0)),
        (Word::Pointer(address), Value::Pointer(pointer)) => {
            let part = |offset: Option<Linear>, allowed: &Option<Scalar>| match (offset, allowed) {
                (None, _) => true,
                (Some(offset), Some(allowed)) => within(offset, allowed),
                (Some(_), None) => false,
            };
            (!address.null || pointer.null)
                && part(address.stack, &pointer.stack)
                && part(address.body, &pointer.body)
                && part(address.read_only, &pointer.read_only)
                && address.regions & !pointer.regions == 0
        }
        _ => false,
    }
}

fn keeps_bound(state: &State, symbols: &Symbols, bound: &Bound) -> bool {
    match (state.get(bound.left), state.get(bound.right)) {
        (Word::Number(left), Word::Number(right)) => {
            let known = alone_max(state, symbols, left, right).into_iter().chain(sum_max(state, symbols, left, right)).min();
            known.is_some_and(|max| max <= bound.max)
        }
        (Word::Reported, _) | (_, Word::Reported) => true,
        _ => false,
    }
}

fn keeps_cell(state: &State, symbols: &mut Symbols, cell: &Cell) -> bool {
    let range = ByteRange::of(cell.offset, cell.size);
    match (state.memory.overlapping(range), &cell.value) {
        ([known], _) if known.offset == cell.offset && known.size == cell.size => {
            known.word == Word::Reported || keeps(state, symbols, known.word, &cell.value)
        }
        (_, Value::Pointer(_)) => false,
        (overlapping, Value::Scalar(scalar)) => {
            // A number in pieces, or a piece of one: what a load would give.
            let plain = overlapping.iter().all(|known| matches!(known.word, Word::Number(_)));
            plain && super::transfer::composed(state, symbols, range).is_within(scalar)
        }
    }
}

/// Why a contract makes no sense, wherever it comes from.
pub(super) fn malformed(contract: &Contract, body_bytes: u32, regions: usize) -> Option<String> {
    let mut last_register = None;
    for (register, value) in &contract.registers {
        let known = register.index() < crate::abi::REGISTERS_MAX && *register != Register::R10;
        if !known || last_register.is_some_and(|last| last >= *register) {
            return Some(format!("register {} does not belong there", register.0));
        }
        last_register = Some(*register);
        if !makes_sense(value, regions) {
            return Some(format!("the value of `{register}` is impossible"));
        }
    }
    let mut last_bound = None;
    for bound in &contract.bounds {
        let place = (bound.left, bound.right);
        if bound.left >= bound.right || !lists(contract, bound) || last_bound.is_some_and(|last| last >= place) {
            return Some(format!("a bound of registers {} and {} does not belong there", bound.left.0, bound.right.0));
        }
        last_bound = Some(place);
    }
    let mut free = 0;
    for range in &contract.live_stack {
        // Ranges do not touch: between two of them there is a byte that is not live.
        if range.start >= range.end || range.end as usize > STACK_BYTES || range.start < free {
            return Some(format!("live stack bytes {} to {} do not belong there", range.start, range.end));
        }
        free = range.end + 1;
    }
    let mut free = 0;
    let memory_end = STACK_BYTES as u64 + u64::from(body_bytes);
    for cell in &contract.cells {
        let end = u64::from(cell.offset) + cell.size.bytes() as u64;
        if u64::from(cell.offset) < free || end > memory_end || !cell_makes_sense(cell, contract, regions) {
            return Some(format!("the cell at {} does not belong there", cell.offset));
        }
        free = end;
    }
    None
}

fn cell_makes_sense(cell: &Cell, contract: &Contract, regions: usize) -> bool {
    let range = ByteRange::of(cell.offset, cell.size);
    let on_stack = range.end as usize <= STACK_BYTES;
    let before = contract.live_stack.partition_point(|live| live.start <= range.start);
    let live = before.checked_sub(1).is_some_and(|place| contract.live_stack[place].covers(range));
    let placed = if on_stack { live } else { cell.offset as usize >= STACK_BYTES };
    let kind = match &cell.value {
        Value::Pointer(_) => on_stack && cell.size == Size::B8 && cell.offset.is_multiple_of(8),
        Value::Scalar(scalar) => cell.size == Size::B8 || scalar.unsigned_max >> (8 * cell.size.bytes()) == 0,
    };
    placed && kind && says_something(cell) && makes_sense(&cell.value, regions)
}

fn makes_sense(value: &Value, regions: usize) -> bool {
    match value {
        Value::Scalar(scalar) => scalar.reduce().is_some(),
        Value::Pointer(pointer) => {
            let offsets = [&pointer.stack, &pointer.body, &pointer.read_only];
            let possible = offsets.iter().all(|offset| offset.is_none_or(|offset| offset.reduce().is_some()));
            let any = pointer.null || pointer.regions != 0 || offsets.iter().any(|offset| offset.is_some());
            let known = if regions >= 64 { u64::MAX } else { (1 << regions) - 1 };
            possible && any && pointer.regions & !known == 0
        }
    }
}
