//! The checker against one that tries every order of tiny histories.

use crate::checker::{Action, Operation, check};

const HISTORIES: usize = 30_000;
const OPERATIONS_MAX: usize = 6;
const SEED: u64 = 0x6e61_616d_0001;

/// Whether some order of some of the operations, with all that were answered, is one of a register.
fn is_linearizable(history: &[Operation]) -> bool {
    fn extend(history: &[Operation], taken: &mut Vec<usize>, register: Option<u64>) -> bool {
        let missing = (0..history.len()).filter(|index| !taken.contains(index)).collect::<Vec<_>>();
        if missing.iter().all(|index| history[*index].answered.is_none()) {
            return true;
        }
        missing.iter().any(|index| {
            // Nothing that is still missing may have been answered before it was called.
            let comes_later =
                missing.iter().all(|other| history[*other].answered.is_none_or(|answered| answered > history[*index].called));
            let Some(after) = history[*index].action.apply(register).filter(|_| comes_later) else { return false };
            taken.push(*index);
            let found = extend(history, taken, after);
            taken.pop();
            found
        })
    }
    extend(history, &mut Vec::new(), None)
}

/// A history of a few operations with intervals and results that chance decides; each writes another value.
fn draw(random: &mut fastrand::Rng) -> Vec<Operation> {
    let count = random.usize(1..=OPERATIONS_MAX);
    let mut stamps: Vec<u64> = (0..2 * count as u64).collect();
    random.shuffle(&mut stamps);
    let mut operations = Vec::new();
    for (index, pair) in stamps.chunks_exact(2).enumerate() {
        let value = index as u64;
        let some = |random: &mut fastrand::Rng| random.bool().then(|| random.u64(..count as u64));
        let is_known = random.u32(..5) > 0;
        // What nobody was told the end of has no result.
        let action = match random.u32(..if is_known { 10 } else { 4 }) {
            0 | 1 => Action::Put(value),
            2 => Action::Insert(value),
            3 => Action::Delete,
            4 => Action::InsertRefused,
            5 => Action::DeleteRefused,
            _ => Action::Read(some(random)),
        };
        operations.push(Operation { called: pair[0].min(pair[1]), answered: is_known.then_some(pair[0].max(pair[1])), action });
    }
    operations
}

/// The checker says of tiny histories what trying all orders says; about as many are refused as are not.
pub fn the_checker_agrees_with_trying_everything() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut accepted = 0;
    for number in 0..HISTORIES {
        let history = draw(&mut random);
        let expected = is_linearizable(&history);
        assert_eq!(check(&history).is_ok(), expected, "history {number} of seed {SEED:#x}: {history:#?}");
        accepted += usize::from(expected);
    }
    println!("{accepted} of {HISTORIES} tiny histories are linearizable");
    assert!((HISTORIES / 5..HISTORIES * 4 / 5).contains(&accepted), "{accepted} accepted");
}

/// Histories as people know them.
pub fn the_checker_knows_the_classics() {
    let operation = |called, answered, action| Operation { called, answered, action };
    let put = |called, answered, value| operation(called, Some(answered), Action::Put(value));
    let read = |called, answered, found| operation(called, Some(answered), Action::Read(found));
    let lost = |called, value| operation(called, None, Action::Put(value));
    for (name, history, expected) in [
        ("nothing", vec![], true),
        ("a read of what was never written", vec![put(0, 1, 1), read(2, 3, Some(2))], false),
        ("a stale read", vec![put(0, 1, 1), put(2, 3, 2), read(4, 5, Some(1))], false),
        ("a read beside a write", vec![put(0, 1, 1), put(2, 5, 2), read(3, 4, Some(1))], true),
        ("a read from the future", vec![read(0, 1, Some(1)), put(2, 3, 1)], false),
        // Both reads are beside the write, but the second one is older.
        ("an inversion", vec![put(0, 1, 1), put(2, 9, 2), read(3, 4, Some(2)), read(5, 6, Some(1))], false),
        ("a lost write that is seen", vec![put(0, 1, 1), lost(2, 2), read(3, 4, Some(1)), read(5, 6, Some(2))], true),
        ("a lost write that is undone", vec![put(0, 1, 1), lost(2, 2), read(3, 4, Some(2)), read(5, 6, Some(1))], false),
        ("a lost write that is seen before its call", vec![read(0, 1, Some(2)), lost(2, 2)], false),
        ("two inserts", vec![operation(0, Some(1), Action::Insert(1)), operation(2, Some(3), Action::Insert(2))], false),
        (
            "an insert over a lost delete",
            vec![put(0, 1, 1), operation(2, None, Action::Delete), operation(3, Some(4), Action::Insert(2))],
            true,
        ),
    ] {
        assert_eq!(check(&history).is_ok(), expected, "{name}");
    }
    // The write that can wait the shortest is the wrong one to begin with: that must not be found out once for each set of lost writes.
    let mut history: Vec<Operation> = (0..40).map(|number| lost(number, 1000 + number)).collect();
    history.extend([put(100, 130, 1), put(104, 120, 2), read(105, 131, Some(1)), read(150, 151, Some(2))]);
    assert!(check(&history).is_ok(), "a wrong first choice beside many lost writes");
}
