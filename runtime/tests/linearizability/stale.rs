//! A `get` that is broken on purpose: now and then it gives a record that it has seen before.

use naamc::activation::Activation;
use naamc::interpreter::{Interpreter, Outcome};
use naamc::verifier::Proof;
use runtime::engine::{Program, Turn};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Of so many records that are found one is an old one.
const STALE_ONE_IN: u64 = 200;

pub struct StaleGet {
    get: Interpreter,
    found: AtomicU64,
    /// The first record that was found under each key.
    first: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl StaleGet {
    pub fn new(proof: &Proof, read_only: Arc<[u8]>) -> StaleGet {
        StaleGet { get: Interpreter::new(proof, read_only), found: AtomicU64::new(0), first: Mutex::default() }
    }
}

impl Program for StaleGet {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let outcome = Interpreter::run(&self.get, activation, turn);
        if outcome != Outcome::Finished(0) {
            return outcome;
        }
        let record = activation.body()[..activation.reply_bytes as usize].to_vec();
        let mut first = self.first.lock().expect("nobody panics while it holds this");
        let first = first.entry(record[8..16].to_vec()).or_insert(record);
        if self.found.fetch_add(1, Ordering::Relaxed) % STALE_ONE_IN == STALE_ONE_IN - 1 {
            activation.body_mut()[..first.len()].copy_from_slice(first);
            activation.reply_bytes = first.len() as u32;
        }
        outcome
    }
}
