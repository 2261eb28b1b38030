//! A reader that is broken on purpose: now and then it gives the first answer to the same request again.

use naamc::activation::Activation;
use naamc::interpreter::{Interpreter, Outcome};
use naamc::verifier::Proof;
use runtime::engine::{Program, Turn};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Of so many answers one is an old one.
const STALE_ONE_IN: u64 = 8;

/// A result and a reply.
type Answer = (u64, Vec<u8>);

pub struct StaleReader {
    reader: Interpreter,
    /// The bytes of a request that say what is read: those before the handler's end are still as they were in the beginning.
    asked: Range<usize>,
    answers: AtomicU64,
    /// The first answer to each request.
    first: Mutex<HashMap<Vec<u8>, Answer>>,
}

impl StaleReader {
    pub fn new(proof: &Proof, read_only: Arc<[u8]>, asked: Range<usize>) -> StaleReader {
        StaleReader { reader: Interpreter::new(proof, read_only), asked, answers: AtomicU64::new(0), first: Mutex::default() }
    }
}

impl Program for StaleReader {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let asked = activation.body()[self.asked.clone()].to_vec();
        let outcome = Interpreter::run(&self.reader, activation, turn);
        let Outcome::Finished(result) = outcome else { return outcome };
        let answer = (result, activation.body()[..activation.reply_bytes as usize].to_vec());
        let mut first = self.first.lock().expect("nobody panics while it holds this");
        let (old_result, old) = first.entry(asked).or_insert(answer);
        if self.answers.fetch_add(1, Ordering::Relaxed) % STALE_ONE_IN < STALE_ONE_IN - 1 {
            return Outcome::Finished(result);
        }
        activation.body_mut()[..old.len()].copy_from_slice(old);
        activation.reply_bytes = old.len() as u32;
        Outcome::Finished(*old_result)
    }
}
