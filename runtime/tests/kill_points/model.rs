//! The handlers of a bundle over plain memory in this process: what regions look like before a message, which effects it has, and what it
//! leaves if nobody dies.

use crate::order::Poke;
use naamc::abi::Helper;
use naamc::activation::Activation;
use naamc::bundle::{Bundle, CheckedBundle};
use naamc::diagnostic::SourceLine;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Observer, Outcome, Udma};
use naamc::memory::RegionMemory;

/// Contents of regions, in the bundle's order.
pub type Memory = Vec<Vec<u8>>;

/// Bytes of regions before what is locked: counts and free lists.
const HEADER_BYTES: u64 = 4096;

/// What other writers do while a message is under way.
pub type Meanwhile<'a> = &'a dyn Fn(&Model, &mut Memory);

pub struct Model {
    pub bundle: CheckedBundle,
    interpreters: Vec<Interpreter>,
}

/// An effect that a message has had.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// The suspension point of its call.
    pub point: u32,
    pub helper: Helper,
}

/// A message that ran to its end.
pub struct Run {
    pub result: i32,
    pub effects: Vec<Effect>,
    /// What others changed in it, word by word.
    pub pokes: Vec<Poke>,
}

impl Model {
    /// Of the ELF `NAME.o`: these handlers of it, with constants set.
    pub fn new(name: &str, handlers: &[&str], constants: &[(&str, u32)]) -> Model {
        let path = format!("{}/../testdata/handlers/{name}.o", env!("CARGO_MANIFEST_DIR"));
        let built = naamc::build::build(&std::fs::read(path).expect("a readable ELF")).expect("it verifies");
        let mut bundle: Bundle = built.bundle().clone();
        let mut debug = std::mem::take(&mut bundle.debug.handlers).into_iter();
        bundle.meaning.handlers.retain(|handler| {
            let lines = debug.next().expect("lines of each handler");
            let chosen = handlers.contains(&handler.function.name.as_str());
            if chosen {
                bundle.debug.handlers.push(lines);
            }
            chosen
        });
        let constants: Vec<_> = constants.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let bundle = bundle.with_constants(&constants).expect("it verifies with any constants").check().expect("it is checked");
        let meaning = &bundle.bundle().meaning;
        let interpreters =
            bundle.proofs().iter().map(|proof| Interpreter::new(proof, meaning.environment.read_only.clone().into())).collect();
        Model { bundle, interpreters }
    }

    /// The bundle as it is deployed: without handlers that only make tables here, and without C lines. Each start of a place checks it.
    pub fn deployed(&self, handler: &str) -> Vec<u8> {
        let mut bundle = self.bundle.bundle().clone();
        let served = [handler, "put", "get", "recover", "count", "lookup"];
        bundle.meaning.handlers.retain(|handler| served.contains(&handler.function.name.as_str()));
        bundle.debug = Default::default();
        bundle.to_bytes()
    }

    pub fn region_names(&self) -> Vec<String> {
        self.bundle.bundle().meaning.environment.regions.iter().map(|region| region.name.clone()).collect()
    }

    /// Bytes of a region as scenarios have it.
    pub fn length_bytes(&self, region: &str) -> u64 {
        match region {
            "heap" => crate::table::HEAP_BYTES as u64,
            "table" => crate::table::TABLE_BYTES as u64,
            "tree" => crate::trees::TREE_BYTES as u64,
            _ => 4096,
        }
    }

    /// The effects that a handler's code has at all, by its manifest.
    pub fn effects_of(&self, handler: &str) -> Vec<Effect> {
        let index = self.bundle.handler(handler).expect("a handler");
        let operations = &self.bundle.bundle().meaning.handlers[index].manifest.operations;
        let effects = (0..).zip(operations).map(|(point, operation)| Effect { point, helper: operation.helper });
        effects.filter(|effect| effect.helper.has_effect()).collect()
    }

    /// The C line of a suspension point.
    pub fn source(&self, handler: &str, point: u32) -> SourceLine {
        let index = self.bundle.handler(handler).expect("a handler");
        let operation = &self.bundle.bundle().meaning.handlers[index].manifest.operations[point as usize];
        self.bundle.bundle().line(index, operation.instruction).expect("the ELF has lines")
    }

    /// The same as `file:line`.
    pub fn line(&self, handler: &str, point: u32) -> String {
        let line = self.source(handler, point);
        format!("{}:{}", line.file.rsplit('/').next().unwrap_or_default(), line.line)
    }

    pub fn run(&self, handler: &str, request: &[u8], executor: u16, memory: &mut Memory) -> Run {
        self.run_among(handler, request, executor, memory, None)
    }

    /// Others do something just before the message's first attempt to take a lock, a swap of an even word for the next odd one, or just
    /// before it adds to a word, as it takes untouched memory.
    pub fn run_among(
        &self,
        handler: &str,
        request: &[u8],
        executor: u16,
        memory: &mut Memory,
        meanwhile: Option<(Before, Meanwhile<'_>)>,
    ) -> Run {
        let index = self.bundle.handler(handler).expect("a handler");
        let mut activation = Activation::new_boxed();
        let mut body = request.to_vec();
        body.resize(self.bundle.bundle().meaning.handlers[index].function.entry.body_bytes as usize, 0);
        activation.begin(&body, 1 << 20, 4096);
        let regions = memory.drain(..).map(RegionMemory::new).collect();
        let mut surroundings = Surroundings { model: self, regions, executor, effects: 0, meanwhile, pokes: Vec::new() };
        let mut seen = Seen(Vec::new());
        let outcome = self.interpreters[index].observe(&mut activation, &mut surroundings, &mut seen);
        *memory = surroundings.contents();
        let Outcome::Finished(result) = outcome else { panic!("{handler}: {outcome:?}") };
        Run { result: result as i32, effects: seen.0, pokes: surroundings.pokes }
    }
}

/// Before which operation of a message others do something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Lock,
    Addition,
}

struct Surroundings<'a> {
    model: &'a Model,
    regions: Vec<RegionMemory>,
    executor: u16,
    effects: u32,
    meanwhile: Option<(Before, Meanwhile<'a>)>,
    pokes: Vec<Poke>,
}

impl Surroundings<'_> {
    fn contents(&self) -> Memory {
        self.regions.iter().map(|region| region.bytes().to_vec()).collect()
    }

    /// Lets others do what they do.
    fn interfere(&mut self, meanwhile: Meanwhile<'_>) {
        let (before, mut after) = (self.contents(), self.contents());
        meanwhile(self.model, &mut after);
        for (region, (before, after)) in before.iter().zip(&after).enumerate() {
            for (index, (old, new)) in before.chunks_exact(8).zip(after.chunks_exact(8)).enumerate().filter(|(_, (a, b))| a != b) {
                assert_ne!(old, new);
                let value = u64::from_le_bytes(new.try_into().expect("eight bytes"));
                self.pokes.push(Poke { effect: self.effects, region, offset: index as u64 * 8, value });
            }
        }
        assert!(!self.pokes.is_empty(), "others must have changed something");
        self.regions = after.into_iter().map(RegionMemory::new).collect();
    }
}

impl Environment for Surroundings<'_> {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if !matches!(operation, Udma::Read { .. }) {
            self.effects += 1;
        }
        let before = match &operation {
            Udma::CompareSwap { offset, expected, desired, .. }
                if *offset >= HEADER_BYTES && expected % 2 == 0 && *desired as u32 == *expected as u32 + 1 =>
            {
                Some(Before::Lock)
            }
            Udma::FetchAdd { .. } => Some(Before::Addition),
            _ => None,
        };
        if let Some((_, meanwhile)) = self.meanwhile.take_if(|(at, _)| Some(*at) == before) {
            self.interfere(meanwhile);
        }
        Issued::Done(self.regions[usize::from(operation.region())].execute(operation))
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(self.executor.into())
    }
}

/// The effects of a run.
struct Seen(Vec<Effect>);

impl Observer for Seen {
    fn executed(&mut self, point: u32, helper: Helper, _: &Activation, _: i64) {
        if helper.has_effect() {
            self.0.push(Effect { point, helper });
        }
    }
}
