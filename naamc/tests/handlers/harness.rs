//! Handlers in the interpreter, and how messages travel.

use naamc::activation::Activation;
use naamc::continuation;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use naamc::memory::RegionMemory;
use naamc::object;
use naamc::verifier::Proof;
use std::collections::BTreeMap;
use std::path::Path;

pub const EXECUTOR: u32 = 7;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journey {
    Through,
    Suspended,
    Moved,
}

pub const JOURNEYS: [Journey; 3] = [Journey::Through, Journey::Suspended, Journey::Moved];

/// Regions of one bundle, and how many operations may be executed in this turn.
pub struct Surroundings {
    pub regions: Vec<RegionMemory>,
    pub executor: u32,
    pub operations_left: u64,
}

impl Environment for Surroundings {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if self.operations_left == 0 {
            return Issued::Suspend;
        }
        self.operations_left -= 1;
        Issued::Done(self.regions[usize::from(operation.region())].execute(operation))
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(self.executor)
    }
}

/// All handlers of an ELF, proved.
pub struct Handlers {
    pub regions: Vec<String>,
    pub proved: BTreeMap<String, (Proof, Interpreter)>,
}

impl Handlers {
    /// With `const volatile` u32 variables set.
    pub fn load(name: &str, settings: &[(&str, u32)]) -> Handlers {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/handlers").join(name).with_extension("o");
        let mut object = object::read(&std::fs::read(path).expect("a readable ELF")).expect("a well-formed ELF");
        for (name, value) in settings {
            let constant = object.environment.constants.iter().find(|constant| constant.name == *name).expect("a constant");
            let offset = constant.offset as usize;
            object.environment.read_only[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        let proved = object.handlers.iter().map(|handler| {
            let (function, _) = object.flatten(handler).expect("it can be flattened");
            let proof = Proof::prove(function, &object.environment).expect("it verifies");
            let interpreter = Interpreter::new(&proof, object.environment.read_only.clone().into());
            (handler.name.clone(), (proof, interpreter))
        });
        let proved = proved.collect();
        Handlers { regions: object.environment.regions.iter().map(|region| region.name.clone()).collect(), proved }
    }

    /// An activation for a request; a body that is short ends with zeros.
    pub fn start(&self, handler: &str, request: &[u8]) -> Box<Activation> {
        let mut activation = Activation::new_boxed();
        let body_bytes = self.proved[handler].0.function().entry.body_bytes as usize;
        let mut body = request.to_vec();
        body.resize(body_bytes, 0);
        activation.begin(&body, 1 << 20, 4096);
        activation
    }

    /// Lets a message execute so many operations at most. Its result, once it has ended.
    pub fn step(
        &self,
        handler: &str,
        activation: &mut Activation,
        surroundings: &mut Surroundings,
        operations: u64,
    ) -> Option<i32> {
        surroundings.operations_left = operations;
        self.run(handler, activation, surroundings)
    }

    /// One turn in any surroundings.
    pub fn run(&self, handler: &str, activation: &mut Activation, surroundings: &mut dyn Environment) -> Option<i32> {
        match self.proved[handler].1.run(activation, surroundings) {
            Outcome::Finished(result) => Some(result as i32),
            Outcome::Suspended => None,
            Outcome::Failed(failure) => panic!("{handler}: {failure}"),
        }
    }

    /// Takes a suspended message to another activation, by way of its continuation.
    pub fn move_away(&self, handler: &str, activation: &mut Box<Activation>) {
        let proof = &self.proved[handler].0;
        let body_bytes = proof.function().entry.body_bytes as usize;
        let mut bytes = vec![0; 8192];
        let length = continuation::encode(proof, activation, &mut bytes).expect("it stands before a UDMA call");
        let mut other = Activation::new_boxed();
        other.memory.fill(0xa5);
        other.registers.fill(0xa5a5_a5a5_a5a5_a5a5);
        continuation::decode(proof, &bytes[..length], &activation.body()[..body_bytes], &mut other).expect("our own continuation");
        other.back_edges_left = activation.back_edges_left;
        other.udma_operations_left = activation.udma_operations_left;
        *activation = other;
    }

    /// Runs a request to its end: result and reply.
    pub fn call(&self, handler: &str, request: &[u8], surroundings: &mut Surroundings, journey: Journey) -> (i32, Vec<u8>) {
        let mut activation = self.start(handler, request);
        let mut operations = if journey == Journey::Through { u64::MAX } else { 0 };
        loop {
            if let Some(result) = self.step(handler, &mut activation, surroundings, operations) {
                let reply = activation.body()[..activation.reply_bytes as usize].to_vec();
                return (result, reply);
            }
            if journey == Journey::Moved {
                self.move_away(handler, &mut activation);
            }
            operations = 1;
        }
    }
}

/// A seeded generator (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
