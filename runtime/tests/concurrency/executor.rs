//! Executors that are threads of the test, and the store that they share.

use naamc::activation::Activation;
use naamc::interpreter::{Failure, Outcome};
use naamc::object;
use naamc::verifier::Proof;
use runtime::engine::{Engine, Program, Turn};
use runtime::memory::{Region, Regions};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Messages that an executor has under way.
const UNDER_WAY: usize = 16;
/// Both applications' result for "others kept me from it: try again".
const BUSY: i32 = 5;

/// An application's handlers on one engine, and its regions.
pub struct Store {
    programs: BTreeMap<String, (Arc<dyn Program>, usize)>,
    pub regions: Regions,
    pub names: Vec<String>,
}

impl Store {
    /// With `const volatile` u32 variables set, and regions of the lengths that `length` says.
    pub fn new(engine: &dyn Engine, elf: &str, settings: &[(&str, u32)], length: impl Fn(&str) -> u64) -> Store {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/handlers").join(elf);
        let mut object = object::read(&std::fs::read(path).expect("a readable ELF")).expect("a well-formed ELF");
        for (name, value) in settings {
            let constant = object.environment.constants.iter().find(|constant| constant.name == *name).expect("a constant");
            let offset = constant.offset as usize;
            object.environment.read_only[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let names: Vec<String> = object.environment.regions.iter().map(|region| region.name.clone()).collect();
        let region = |name: &String| {
            let mut region = Region::anonymous(length(name)).expect("memory");
            region.set_cold(true);
            region
        };
        let regions: Regions = names.iter().map(region).collect();
        let programs = object.handlers.iter().map(|handler| {
            let (function, _) = object.flatten(handler).expect("it can be flattened");
            let proof = Arc::new(Proof::prove(function, &object.environment).expect("it verifies"));
            let program = engine.compile(&proof, &object.environment, &regions).expect("it compiles");
            (handler.name.clone(), (program, handler.body_bytes as usize))
        });
        let programs = programs.collect();
        Store { programs, regions, names }
    }

    /// The whole content of a region.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let index = self.names.iter().position(|region| region == name).expect("a region");
        let mut bytes = vec![0; self.regions[index].length_bytes() as usize];
        assert_eq!(self.regions[index].read(0, &mut bytes), 0);
        bytes
    }

    fn begin(&self, handler: &str, mut body: Vec<u8>, activation: &mut Activation) {
        body.resize(self.programs[handler].1, 0);
        activation.begin(&body, 1 << 20, 4096);
    }

    /// Runs one message alone.
    pub fn call(&self, handler: &str, body: &[u8]) -> (i32, Vec<u8>) {
        let mut activation = Activation::new_boxed();
        self.begin(handler, body.to_vec(), &mut activation);
        loop {
            match self.programs[handler].0.run(&mut activation, &mut Turn::new(&self.regions, 1)) {
                Outcome::Suspended => {}
                Outcome::Finished(result) => {
                    return (result as i32, activation.body()[..activation.reply_bytes as usize].to_vec());
                }
                Outcome::Failed(failure) => panic!("{handler}: {failure}"),
            }
        }
    }
}

/// What the executors do.
pub trait Load: Sync {
    /// A request.
    type Request: Send;
    /// What one executor's client remembers.
    type Memory: Default;

    /// The next request of an executor.
    fn draw(&self, random: &mut fastrand::Rng, executor: u32, sequence: u64, memory: &mut Self::Memory) -> Self::Request;

    /// Its handler and message.
    fn message(&self, request: &Self::Request) -> (&'static str, Vec<u8>);

    /// Checks what the answer must be, whatever the others do.
    fn check(&self, request: &Self::Request, result: i32, reply: &[u8], memory: &mut Self::Memory);
}

/// What executors counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// How often a message was suspended.
    pub suspensions: u64,
    /// How often a handler gave up and was asked again.
    pub busy: u64,
}

/// A message under way on an executor.
struct Message<R> {
    request: R,
    handler: &'static str,
    activation: Box<Activation>,
    prefetched: bool,
}

/// Runs so many requests on so many executors.
pub fn execute<L: Load>(store: &Store, load: &L, executors: u32, requests: u64) -> Counts {
    std::thread::scope(|scope| {
        let executor = |number| scope.spawn(move || execute_one(store, load, number, requests / u64::from(executors)));
        let threads: Vec<_> = (1..=executors).map(executor).collect();
        let counts = threads.into_iter().map(|thread| thread.join().expect("no check failed"));
        counts.fold(Counts::default(), |all, one| Counts {
            suspensions: all.suspensions + one.suspensions,
            busy: all.busy + one.busy,
        })
    })
}

fn execute_one<L: Load>(store: &Store, load: &L, number: u32, requests: u64) -> Counts {
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut memory = L::Memory::default();
    let mut counts = Counts::default();
    let mut drawn = 0;
    let mut draw = |memory: &mut L::Memory| {
        drawn += 1;
        (drawn <= requests).then(|| load.draw(&mut random, number, drawn, memory))
    };
    // In an activation that was used before, or a new one.
    let begin = |request: L::Request, mut activation: Box<Activation>| {
        let (handler, body) = load.message(&request);
        store.begin(handler, body, &mut activation);
        Message { request, handler, activation, prefetched: false }
    };
    let mut ready = VecDeque::new();
    while ready.len() < UNDER_WAY
        && let Some(request) = draw(&mut memory)
    {
        ready.push_back(begin(request, Activation::new_boxed()));
    }
    let mut waiting = 0;
    while let Some(mut message) = ready.pop_front() {
        let mut turn = Turn::new(&store.regions, number);
        turn.hides_latency = 1;
        turn.suspend_reads = u32::from(!message.prefetched);
        let outcome = store.programs[message.handler].0.run(&mut message.activation, &mut turn);
        // As an executor does: where nothing but waiting messages is left, others get the core.
        waiting = if turn.contended != 0 { waiting + 1 } else { 0 };
        if waiting > ready.len() {
            std::thread::yield_now();
        }
        match outcome {
            Outcome::Suspended => {
                counts.suspensions += 1;
                message.prefetched = true;
                ready.push_back(message);
            }
            Outcome::Finished(result) if result as i32 == BUSY => {
                counts.busy += 1;
                ready.push_back(begin(message.request, message.activation));
            }
            Outcome::Finished(result) => {
                let reply = &message.activation.body()[..message.activation.reply_bytes as usize];
                load.check(&message.request, result as i32, reply, &mut memory);
                if let Some(request) = draw(&mut memory) {
                    ready.push_back(begin(request, message.activation));
                }
            }
            Outcome::Failed(failure) => {
                assert_ne!(failure, Failure::UdmaOperationsExhausted, "a handler did not give up in time");
                panic!("{}: {failure}", message.handler);
            }
        }
    }
    counts
}
