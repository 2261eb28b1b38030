//! Whether a history of one key could have come from a register that changes at one instant in each operation (Herlihy and Wing,
//! "Linearizability: a correctness condition for concurrent objects", TOPLAS 1990).
//!
//! Linearizability is local: a history is linearizable if that of each key is, so keys are checked one by one. The search is that of Wing and
//! Gong ("Testing and verifying concurrent objects", JPDC 1993) with the memory that Lowe gave it ("Testing for linearizability", CCPE
//! 2017): of the operations that were called before the first one that is still missing was answered, one is taken after another; a set
//! of operations that once led to some state is not tried with it again. Sets are told apart by a sum of 128 random bits for each member
//! (Zobrist), which two different ones share as good as never.
//!
//! Four things make it fast. What changes nothing and can be next is next, without a choice. As every written value is another one, reads
//! say how long a write can wait: the one that can wait the shortest is tried first, and is nearly always the right one. For the same
//! reason nothing is written over a value that somebody has still to read. And of writes of
//! one kind that nobody knows the end of, and whose values nobody saw, only the one that was called first is tried: any order with another
//! in its place is one with it, too.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};

/// What an operation did, as it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Found this value, or none.
    Read(Option<u64>),
    /// Wrote a value, whatever was there.
    Put(u64),
    /// Wrote a value where none was.
    Insert(u64),
    /// Found some value, and inserted nothing.
    InsertRefused,
    /// Removed a value.
    Delete,
    /// Found no value to remove.
    DeleteRefused,
}

/// An operation between its call and its answer, in one order of all calls and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub called: u64,
    /// `None` if nobody knows what became of it: it takes effect at any instant after its call, or never.
    pub answered: Option<u64>,
    pub action: Action,
}

/// A history that no register has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Operations that could be put into an order.
    pub ordered: usize,
    /// The operation that then found no place before its answer, and those under way beside it.
    pub stuck: Operation,
    pub beside: Vec<Operation>,
}

impl Action {
    /// Whether it may change the register.
    fn writes(self) -> bool {
        matches!(self, Action::Put(_) | Action::Insert(_) | Action::Delete)
    }

    /// The register after this, if it can happen to it as it is.
    pub fn apply(self, register: Option<u64>) -> Option<Option<u64>> {
        match (self, register) {
            (Action::Read(found), _) => (found == register).then_some(register),
            (Action::Put(value), _) | (Action::Insert(value), None) => Some(Some(value)),
            (Action::InsertRefused, Some(_)) | (Action::DeleteRefused, None) => Some(register),
            (Action::Delete, Some(_)) => Some(None),
            (Action::Insert(_), Some(_))
            | (Action::InsertRefused, None)
            | (Action::Delete, None)
            | (Action::DeleteRefused, Some(_)) => None,
        }
    }
}

/// No event.
const NONE: usize = usize::MAX;

/// Calls and answers in their order, as a list that operations are taken out of and put back into.
struct Events {
    /// Operation of each event, and whether it is its call.
    events: Vec<(usize, bool)>,
    /// The event of each operation's call and, if it has one, answer.
    of: Vec<(usize, usize)>,
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Events {
    /// Event 0 is the list's head, and no event.
    fn new(history: &[Operation]) -> Events {
        let calls = history.iter().enumerate().map(|(index, operation)| (operation.called, index, true));
        let answers = history.iter().enumerate().filter_map(|(index, operation)| Some((operation.answered?, index, false)));
        let mut ordered: Vec<(u64, usize, bool)> = calls.chain(answers).collect();
        ordered.sort_unstable();
        assert!(ordered.windows(2).all(|pair| pair[0].0 < pair[1].0), "no two events happen at once");
        let events: Vec<(usize, bool)> =
            std::iter::once((NONE, false)).chain(ordered.into_iter().map(|(_, index, is_call)| (index, is_call))).collect();
        let mut of = vec![(NONE, NONE); history.len()];
        for (event, (index, is_call)) in events.iter().enumerate().skip(1) {
            if *is_call { of[*index].0 = event } else { of[*index].1 = event }
        }
        let count = events.len();
        let next = (1..count).chain([NONE]).collect();
        let previous = std::iter::once(NONE).chain(0..count - 1).collect();
        Events { events, of, next, previous }
    }

    fn unlink(&mut self, event: usize) {
        let (before, behind) = (self.previous[event], self.next[event]);
        self.next[before] = behind;
        if behind != NONE {
            self.previous[behind] = before;
        }
    }

    fn link(&mut self, event: usize) {
        let (before, behind) = (self.previous[event], self.next[event]);
        self.next[before] = event;
        if behind != NONE {
            self.previous[behind] = event;
        }
    }

    fn take(&mut self, operation: usize) {
        let (call, answer) = self.of[operation];
        self.unlink(call);
        if answer != NONE {
            self.unlink(answer);
        }
    }

    /// In the opposite order, so that neighbours are as they were.
    fn put_back(&mut self, operation: usize) {
        let (call, answer) = self.of[operation];
        if answer != NONE {
            self.link(answer);
        }
        self.link(call);
    }
}

/// A state in which some write comes next.
struct Choice {
    /// Operations that were taken before.
    taken: usize,
    /// Writes that could be next, the likeliest last; those that were tried are gone.
    writes: Vec<usize>,
}

/// A search for an order, as far as it is.
struct Search<'a> {
    history: &'a [Operation],
    events: Events,
    /// What each operation adds to the sum of a set.
    names: Vec<u128>,
    /// When each write must have happened at the latest, as far as answers say: reads of its value, else its own.
    latest: Vec<u64>,
    /// Of writes that nobody knows the end of and whose values nobody saw: which kind of write each is.
    unseen: Vec<Option<Discriminant<Action>>>,
    /// Reads of each value that are not taken.
    readers: HashMap<u64, usize>,
    register: Option<u64>,
    sum: u128,
    /// Operations in their order, each with the register before it.
    taken: Vec<(usize, Option<u64>)>,
    /// Operations with answers that are not taken.
    missing: usize,
}

/// Looks for an order of a key's operations in which each does what it did, starting without a value.
///
/// # Errors
/// How far it came, if there is none.
pub fn check(history: &[Operation]) -> Result<(), Refusal> {
    let mut search = Search::new(history);
    let mut tried = HashSet::new();
    let mut choices: Vec<Choice> = Vec::new();
    // How many were ordered, and what then found no place.
    let mut furthest = (0, 0);
    loop {
        let writes = search.take_reads();
        let Some(stuck) = search.first_answered() else { return Ok(()) };
        furthest = furthest.max((search.taken.len(), stuck));
        choices.push(Choice { taken: search.taken.len(), writes });
        loop {
            let Some(choice) = choices.last_mut() else { return Err(refusal(history, furthest)) };
            search.go_back(choice.taken);
            let Some(write) = choice.writes.pop() else {
                choices.pop();
                continue;
            };
            if let Some(after) = history[write].action.apply(search.register)
                && tried.insert((search.sum.wrapping_add(search.names[write]), after))
            {
                search.take(write, after);
                break;
            }
        }
    }
}

impl Search<'_> {
    fn new(history: &[Operation]) -> Search<'_> {
        let mut random = fastrand::Rng::with_seed(history.len() as u64);
        let (mut first_read, mut readers) = (HashMap::new(), HashMap::new());
        for Operation { answered, action, .. } in history {
            if let (Action::Read(Some(value)), Some(answered)) = (action, answered) {
                *readers.entry(*value).or_default() += 1;
                first_read.entry(*value).and_modify(|first: &mut u64| *first = *answered.min(first)).or_insert(*answered);
            }
        }
        let latest = |operation: &Operation| {
            let read = match operation.action {
                Action::Put(value) | Action::Insert(value) => first_read.get(&value).copied(),
                _ => None,
            };
            read.unwrap_or(u64::MAX).min(operation.answered.unwrap_or(u64::MAX))
        };
        let latest: Vec<u64> = history.iter().map(latest).collect();
        // Without an answer or a reader, a write can wait for ever.
        let unseen = |(operation, latest): (&Operation, &u64)| (*latest == u64::MAX).then(|| discriminant(&operation.action));
        let unseen = history.iter().zip(&latest).map(unseen).collect();
        Search {
            history,
            events: Events::new(history),
            names: history.iter().map(|_| random.u128(..)).collect(),
            latest,
            unseen,
            readers,
            register: None,
            sum: 0,
            taken: Vec::new(),
            missing: history.iter().filter(|operation| operation.answered.is_some()).count(),
        }
    }

    /// Operations that were called before the first missing one was answered: one of them is next.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let following = |event: &usize| Some(self.events.next[*event]).filter(|next| *next != NONE);
        let events = std::iter::successors(following(&0), following).map(|event| self.events.events[event]);
        events.take_while(|(_, is_call)| *is_call).map(|(operation, _)| operation)
    }

    /// The operation that is answered first of those that are missing.
    fn first_answered(&self) -> Option<usize> {
        if self.missing == 0 {
            return None;
        }
        let mut event = self.events.next[0];
        while self.events.events[event].1 {
            event = self.events.next[event];
        }
        Some(self.events.events[event].0)
    }

    /// Takes all that can be next and changes nothing: whatever order there is, there is one in which these come now. Returns the writes
    /// that can follow, the likeliest last.
    fn take_reads(&mut self) -> Vec<usize> {
        let can_be_next = |search: &Search<'_>| {
            search.candidates().find(|operation| {
                let action = search.history[*operation].action;
                !action.writes() && action.apply(search.register).is_some()
            })
        };
        while let Some(read) = can_be_next(self) {
            self.take(read, self.register);
        }
        if self.register.is_some_and(|value| self.readers.get(&value).is_some_and(|left| *left > 0)) {
            return Vec::new();
        }
        // Candidates come in the order of their calls.
        let mut kinds_unseen = HashSet::new();
        let mut is_first_unseen = |operation: usize| self.unseen[operation].is_none_or(|kind| kinds_unseen.insert(kind));
        let mut writes: Vec<usize> =
            self.candidates().filter(|write| self.history[*write].action.writes() && is_first_unseen(*write)).collect();
        writes.sort_by_key(|write| std::cmp::Reverse(self.latest[*write]));
        writes
    }

    fn take(&mut self, operation: usize, after: Option<u64>) {
        self.taken.push((operation, self.register));
        self.register = after;
        self.sum = self.sum.wrapping_add(self.names[operation]);
        self.missing -= usize::from(self.history[operation].answered.is_some());
        if let Some(left) = self.readers_of(operation) {
            *left -= 1;
        }
        self.events.take(operation);
    }

    /// The count that an operation belongs to, if it is an answered read of a value.
    fn readers_of(&mut self, operation: usize) -> Option<&mut usize> {
        match self.history[operation] {
            Operation { action: Action::Read(Some(value)), answered: Some(_), .. } => self.readers.get_mut(&value),
            _ => None,
        }
    }

    /// Puts back what was taken last, until so many are left.
    fn go_back(&mut self, taken: usize) {
        while self.taken.len() > taken
            && let Some((operation, before)) = self.taken.pop()
        {
            self.events.put_back(operation);
            self.missing += usize::from(self.history[operation].answered.is_some());
            if let Some(left) = self.readers_of(operation) {
                *left += 1;
            }
            self.sum = self.sum.wrapping_sub(self.names[operation]);
            self.register = before;
        }
    }
}

fn refusal(history: &[Operation], (ordered, stuck): (usize, usize)) -> Refusal {
    let stuck = history[stuck];
    let overlaps = |operation: &&Operation| {
        operation.answered.is_none_or(|answered| answered > stuck.called)
            && Some(operation.called) < stuck.answered
            && **operation != stuck
    };
    Refusal { ordered, stuck, beside: history.iter().filter(overlaps).copied().collect() }
}
