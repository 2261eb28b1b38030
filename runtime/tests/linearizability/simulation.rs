//! MICA's handlers in one thread, each message one UDMA operation further in turns that chance decides: histories of the finest
//! interleavings, and of a `get` that leaves out what makes it correct.

use crate::Histories;
use crate::checker::{Action, Operation, Refusal};
use crate::messages::{Request, TORN};
use naamc::activation::Activation;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use naamc::memory::RegionMemory;
use std::collections::BTreeMap;

/// Messages under way, each on an executor of its own.
const MESSAGES: usize = 10;
/// Few keys: most messages meet others.
const KEYS: u64 = 3;
const OPERATIONS: usize = 1_500;
const SEEDS: std::ops::Range<u64> = 0..12;
/// Regions in the bundle's order, the second one with seven main buckets.
const HEAP_BYTES: usize = 4096 + (1 << 16);
const TABLE_BYTES: usize = 4096 + 8 * 64;
const TABLE: u16 = 1;

/// What `get` does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Get {
    Correct,
    /// Sees the bucket's word as it was in the beginning when it reads it again, whoever has written meanwhile.
    WithoutLookingAgain,
}

struct Message {
    key: u64,
    request: Request,
    called: u64,
    activation: Box<Activation>,
    /// Words of buckets when they were read whole, by offset.
    words: BTreeMap<u64, u64>,
}

struct Surroundings<'a> {
    regions: &'a mut [RegionMemory],
    executor: u32,
    operations_left: u32,
    /// What a `get` remembers that does not look again.
    words: Option<&'a mut BTreeMap<u64, u64>>,
}

impl Environment for Surroundings<'_> {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if self.operations_left == 0 {
            return Issued::Suspend;
        }
        self.operations_left -= 1;
        let region = &mut self.regions[usize::from(operation.region())];
        let (Some(words), Udma::Read { region: TABLE, offset, destination }) = (&mut self.words, &operation) else {
            return Issued::Done(region.execute(operation));
        };
        let (offset, length) = (*offset, destination.len());
        let Udma::Read { destination, .. } = operation else { return Issued::Failed(Failure::EngineFault) };
        if let Some(word) = words.get(&offset).filter(|_| length == 8) {
            destination.copy_from_slice(&word.to_le_bytes());
            return Issued::Done(0);
        }
        let result = region.execute(Udma::Read { region: TABLE, offset, destination: &mut *destination });
        words.insert(offset, u64::from_le_bytes(destination[..8].try_into().expect("a bucket's first word")));
        Issued::Done(result)
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(self.executor)
    }
}

/// The handlers that are simulated, with the sizes of their messages.
type Handlers = BTreeMap<String, (Interpreter, usize)>;

fn handlers() -> Handlers {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers/mica.o");
    let bundle = naamc::build::build(&std::fs::read(path).expect("a readable ELF")).expect("it verifies");
    let meaning = &bundle.bundle().meaning;
    let ready = |(proof, handler): (&std::sync::Arc<_>, &naamc::bundle::Handler)| {
        let interpreter = Interpreter::new(proof, meaning.environment.read_only.clone().into());
        (handler.function.name.clone(), (interpreter, handler.function.entry.body_bytes as usize))
    };
    bundle.proofs().iter().zip(&meaning.handlers).map(ready).collect()
}

/// The histories of all keys in one simulation.
fn simulate(handlers: &Handlers, get: Get, seed: u64) -> Histories {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut regions = [HEAP_BYTES, TABLE_BYTES].map(|bytes| RegionMemory::new(vec![0; bytes]));
    let mut histories = Histories::default();
    let mut under_way: Vec<Option<Message>> = (0..MESSAGES).map(|_| None).collect();
    let (mut now, mut started, mut ended) = (0, 0, 0);
    while ended < OPERATIONS {
        now += 1;
        let slot = random.usize(..MESSAGES);
        let Some(message) = &mut under_way[slot] else {
            if started < OPERATIONS {
                started += 1;
                under_way[slot] = Some(begin(handlers, &mut random, started as u64, now));
            }
            continue;
        };
        let lies = get == Get::WithoutLookingAgain && message.request == Request::Get;
        let words = lies.then_some(&mut message.words);
        let mut surroundings = Surroundings { regions: &mut regions, executor: slot as u32 + 1, operations_left: 1, words };
        match handlers[message.request.handler()].0.run(&mut message.activation, &mut surroundings) {
            Outcome::Suspended => continue,
            Outcome::Failed(failure) => panic!("{failure}"),
            Outcome::Finished(result) => {
                let reply = &message.activation.body()[..message.activation.reply_bytes as usize];
                let Message { key, request, called, .. } = *message;
                if let Some(action) = request.action(key, result as i32, reply) {
                    histories.add(key, Operation { called, answered: Some(now), action });
                }
                under_way[slot] = None;
                ended += 1;
            }
        }
    }
    histories
}

fn begin(handlers: &Handlers, random: &mut fastrand::Rng, number: u64, now: u64) -> Message {
    let key = random.u64(1..=KEYS);
    let request = match random.u32(..8) {
        0..2 => Request::Put(number),
        2 => Request::Insert(number),
        3 => Request::Delete,
        _ => Request::Get,
    };
    let mut activation = Activation::new_boxed();
    let mut body = request.body(key);
    body.resize(handlers[request.handler()].1, 0);
    activation.begin(&body, 1 << 20, 4096);
    Message { key, request, called: now, activation, words: BTreeMap::new() }
}

/// Every key of a table whose messages interleave at each operation is a register.
pub fn interleaved_handlers_are_linearizable() {
    let handlers = handlers();
    let mut operations = 0;
    for seed in SEEDS {
        let histories = simulate(&handlers, Get::Correct, seed);
        operations += histories.operations();
        histories.check().unwrap_or_else(|(key, refusal)| panic!("seed {seed}, key {key}: {refusal:#?}"));
    }
    println!("{operations} operations interleaved");
    assert!(operations > OPERATIONS * SEEDS.count() * 9 / 10, "{operations} operations were answered");
}

/// A `get` that does not look at the bucket again is found out, and not only by records that are torn.
pub fn a_get_that_does_not_look_again_is_refused() {
    let handlers = handlers();
    let refused: Vec<Refusal> = SEEDS
        .filter_map(|seed| simulate(&handlers, Get::WithoutLookingAgain, seed).check().err())
        .map(|(_, refusal)| refusal)
        .collect();
    println!("{} of {} simulations with a broken get are refused", refused.len(), SEEDS.count());
    assert!(!refused.is_empty());
    let is_torn = |refusal: &&Refusal| refusal.stuck.action == Action::Read(Some(TORN));
    assert!(refused.iter().filter(|refusal| !is_torn(refusal)).count() > 0, "some read is whole, and stale or early");
    // It is the history that is refused, not the handler: without reads nothing is left to refuse.
    let mut histories = simulate(&handlers, Get::WithoutLookingAgain, SEEDS.start);
    histories.retain(|operation| !matches!(operation.action, Action::Read(_)));
    assert_eq!(histories.check(), Ok(()));
}
