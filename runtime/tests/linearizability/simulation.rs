//! Handlers in one thread, each message one line of a region further in turns that chance decides: histories of the finest interleavings, and
//! of handlers that leave out what makes them correct.

use crate::Histories;
use crate::application::{Application, TORN, bundle};
use crate::cell::Cell;
use crate::checker::{Action, Operation};
use crate::mica::Mica;
use naamc::activation::Activation;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use naamc::memory::RegionMemory;
use std::collections::BTreeMap;
use std::ops::Range;

/// Messages under way, each on an executor of its own.
const MESSAGES: usize = 10;
/// Few keys of a table: most messages meet others.
const KEYS: u64 = 3;
/// Turns for which sixteen keys of a tree are hot.
const TURNS_OF_A_SET: u64 = 128;
/// Every other message gets only one of so many of its turns: much happens between two of them.
const SLOWER: u32 = 12;
const OPERATIONS: usize = 1_500;
const SEEDS: Range<u64> = 0..12;
/// What a region is read and written by, at one instant each.
const LINE_BYTES: usize = 64;
/// Where Cell's tree nodes begin.
const HEADER_BYTES: u64 = 4096;

/// What a handler is told that is not so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// When it reads a first word again, it sees it as it was before, whoever has written meanwhile.
    WordsStay,
    /// Neither do the lines of a tree node differ in their versions.
    NothingDiffers,
    /// Cell's `insert` sees every lock as its own, whoever has taken it.
    LocksAreTaken,
}

/// A lie, and the handler that it is told to.
type Told = (&'static str, Lie);

struct Message<R> {
    request: R,
    called: u64,
    activation: Box<Activation>,
    udma: UnderWay,
}

/// What is between a message and its regions.
#[derive(Default)]
struct UnderWay {
    lie: Option<Lie>,
    /// First words of what was read, by offset.
    words: BTreeMap<u64, u64>,
    /// Of a read or write: bytes that have not been moved, in lines, and those that were read.
    left: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

struct Surroundings<'a> {
    regions: &'a mut [RegionMemory],
    executor: u32,
    lines_left: u32,
    random: &'a mut fastrand::Rng,
    under_way: &'a mut UnderWay,
}

impl Environment for Surroundings<'_> {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if self.lines_left == 0 {
            return Issued::Suspend;
        }
        self.lines_left -= 1;
        let length_bytes = match &operation {
            Udma::Read { destination, .. } => destination.len(),
            Udma::Write { source, .. } => source.len(),
            Udma::CompareSwap { .. } | Udma::FetchAdd { .. } => 8,
        };
        if length_bytes > LINE_BYTES { self.move_a_line(operation, length_bytes) } else { Issued::Done(self.execute(operation)) }
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(self.executor)
    }
}

impl Surroundings<'_> {
    /// Executes what takes one instant, and says what the message is told of it.
    fn execute(&mut self, operation: Udma<'_>) -> i64 {
        let memory = &mut self.regions[usize::from(operation.region())];
        match operation {
            Udma::Read { region, offset, destination } => {
                let result = memory.execute(Udma::Read { region, offset, destination: &mut *destination });
                self.under_way.tell_of_read(offset, destination);
                result
            }
            Udma::CompareSwap { region, offset, expected, desired, old } => {
                let result = memory.execute(Udma::CompareSwap { region, offset, expected, desired, old: &mut *old });
                if self.under_way.lie == Some(Lie::LocksAreTaken) && offset >= HEADER_BYTES && desired % 2 == 1 {
                    *old = expected;
                }
                result
            }
            operation => memory.execute(operation),
        }
    }

    /// Moves one of the lines that are left of a read or write. Lines come in any order.
    fn move_a_line(&mut self, operation: Udma<'_>, length_bytes: usize) -> Issued {
        let memory = &mut self.regions[usize::from(operation.region())];
        let UnderWay { left, bytes, .. } = &mut *self.under_way;
        if left.is_empty() {
            *left = (0..length_bytes).step_by(LINE_BYTES).map(|start| start..length_bytes.min(start + LINE_BYTES)).collect();
            self.random.shuffle(left);
            *bytes = vec![0; length_bytes];
        }
        let Some(line) = left.pop() else { return Issued::Failed(Failure::EngineFault) };
        let start = line.start as u64;
        let result = match &operation {
            Udma::Read { region, offset, .. } => {
                let destination = &mut bytes[line];
                memory.execute(Udma::Read { region: *region, offset: offset.wrapping_add(start), destination })
            }
            Udma::Write { region, offset, source } => {
                memory.execute(Udma::Write { region: *region, offset: offset.wrapping_add(start), source: &source[line] })
            }
            _ => return Issued::Failed(Failure::EngineFault),
        };
        if result != 0 {
            left.clear();
            return Issued::Done(result);
        }
        if !left.is_empty() {
            return Issued::Suspend;
        }
        if let Udma::Read { offset, destination, .. } = operation {
            destination.copy_from_slice(bytes);
            self.under_way.tell_of_read(offset, destination);
        }
        Issued::Done(0)
    }
}

impl UnderWay {
    /// Changes what was read from `offset` on to what the message is told.
    fn tell_of_read(&mut self, offset: u64, read: &mut [u8]) {
        if !matches!(self.lie, Some(Lie::WordsStay | Lie::NothingDiffers)) {
            return;
        }
        match (read.len() == 8, self.words.get(&offset)) {
            (true, Some(word)) => read.copy_from_slice(&word.to_le_bytes()),
            (true, None) => {}
            (false, _) => drop(self.words.insert(offset, word(read))),
        }
        if self.lie == Some(Lie::NothingDiffers) {
            // The version at which the tree node was last whole, if it is one.
            let version = word(read) & u64::from(u32::MAX - 1);
            read.chunks_mut(LINE_BYTES).skip(1).for_each(|line| line[..8].copy_from_slice(&version.to_le_bytes()));
        }
    }
}

/// The first word.
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// An application's handlers, with the sizes of their messages.
struct Simulation<A> {
    application: A,
    handlers: BTreeMap<String, (Interpreter, usize)>,
}

impl<A: Application> Simulation<A> {
    fn new(application: A) -> Simulation<A> {
        let bundle = bundle::<A>();
        let meaning = &bundle.bundle().meaning;
        let declared = meaning.environment.regions.iter().map(|region| region.name.as_str());
        assert!(declared.eq(A::REGIONS.iter().map(|(name, _)| *name)), "regions are named in the bundle's order");
        let ready = |(proof, handler): (&std::sync::Arc<_>, &naamc::bundle::Handler)| {
            let interpreter = Interpreter::new(proof, meaning.environment.read_only.clone().into());
            (handler.function.name.clone(), (interpreter, handler.function.entry.body_bytes as usize))
        };
        let handlers = bundle.proofs().iter().zip(&meaning.handlers).map(ready).collect();
        Simulation { application, handlers }
    }

    /// The histories of all keys in one run, and the regions that it leaves.
    fn run(&self, told: Option<Told>, seed: u64) -> (Histories, Vec<RegionMemory>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut regions: Vec<RegionMemory> =
            A::REGIONS.iter().map(|(_, bytes)| RegionMemory::new(vec![0; *bytes as usize])).collect();
        let mut histories = Histories::default();
        let mut under_way: Vec<Option<Message<A::Request>>> = (0..MESSAGES).map(|_| None).collect();
        let (mut now, mut started, mut ended) = (0, 0, 0);
        while ended < OPERATIONS {
            now += 1;
            let slot = random.usize(..MESSAGES);
            if slot % 2 == 1 && random.u32(..SLOWER) > 0 {
                continue;
            }
            let Some(message) = &mut under_way[slot] else {
                if started < OPERATIONS {
                    started += 1;
                    under_way[slot] = Some(self.begin(told, &mut random, started as u64, now));
                }
                continue;
            };
            let Message { request, called, activation, udma } = message;
            let (executor, random) = (slot as u32 + 1, &mut random);
            let mut surroundings = Surroundings { regions: &mut regions, executor, lines_left: 1, random, under_way: udma };
            match self.handlers[self.application.handler(*request)].0.run(activation, &mut surroundings) {
                Outcome::Suspended => continue,
                Outcome::Failed(failure) => panic!("{failure}"),
                Outcome::Finished(result) => {
                    let reply = &activation.body()[..activation.reply_bytes as usize];
                    for (key, action) in self.application.actions(*request, result as i32, reply) {
                        histories.add(key, Operation { called: *called, answered: Some(now), action });
                    }
                    under_way[slot] = None;
                    ended += 1;
                }
            }
        }
        (histories, regions)
    }

    fn begin(&self, told: Option<Told>, random: &mut fastrand::Rng, number: u64, now: u64) -> Message<A::Request> {
        let is_writer = random.bool();
        let request = self.application.draw(random, is_writer, number, number - 1);
        let mut activation = Activation::new_boxed();
        let handler = self.application.handler(request);
        let mut body = self.application.body(request);
        body.resize(self.handlers[handler].1, 0);
        activation.begin(&body, 1 << 20, 4096);
        let lie = told.filter(|(to, _)| *to == handler).map(|(_, lie)| lie);
        Message { request, called: now, activation, udma: UnderWay { lie, ..UnderWay::default() } }
    }

    /// Every key is a register.
    fn is_linearizable(&self) {
        let mut operations = 0;
        for seed in SEEDS {
            let (histories, regions) = self.run(None, seed);
            operations += histories.operations();
            histories.check().unwrap_or_else(|(key, refusal)| panic!("{}, seed {seed}, key {key}: {refusal:#?}", A::NAME));
            let region = |name: &str| A::REGIONS.iter().position(|(region, _)| *region == name).expect("a region");
            self.application.check_regions(&|name| regions[region(name)].bytes().to_vec());
        }
        println!("{}: {operations} operations interleaved", A::NAME);
        assert!(operations > OPERATIONS * SEEDS.count() * 9 / 10, "{operations} operations were answered");
    }

    /// Who is told a lie is found out, also if nobody looked at torn records.
    fn is_refused(&self, told: Told) {
        let (mut refused, mut refused_without_torn) = (0, 0);
        for seed in SEEDS {
            let (mut histories, _) = self.run(Some(told), seed);
            refused += usize::from(histories.check().is_err());
            histories.retain(|operation| operation.action != Action::Read(Some(TORN)));
            refused_without_torn += usize::from(histories.check().is_err());
        }
        let (all, handler) = (SEEDS.count(), told.0);
        println!("{refused} of {all} simulations with a broken {handler} are refused, {refused_without_torn} without torn records");
        assert!(refused_without_torn > 0, "some read is whole, and stale or early");
    }

    /// It is the history that is refused, not the handler: without the reads that were lied to nothing is left to refuse.
    fn is_accepted_without_reads(&self, told: Told) {
        let (mut histories, _) = self.run(Some(told), SEEDS.start);
        histories.retain(|operation| !matches!(operation.action, Action::Read(_)));
        assert_eq!(histories.check(), Ok(()));
    }
}

fn table() -> Mica {
    Mica { keys: KEYS }
}

fn tree() -> Cell {
    Cell::new(OPERATIONS as u64, TURNS_OF_A_SET)
}

/// A table whose messages interleave at each line.
pub fn interleaved_handlers_of_a_table_are_linearizable() {
    Simulation::new(table()).is_linearizable();
}

/// A tree, likewise.
pub fn interleaved_handlers_of_a_tree_are_linearizable() {
    Simulation::new(tree()).is_linearizable();
}

/// A `get` that does not look at the bucket again.
pub fn a_get_that_does_not_look_again_is_refused() {
    let (simulation, told) = (Simulation::new(table()), ("get", Lie::WordsStay));
    simulation.is_refused(told);
    simulation.is_accepted_without_reads(told);
}

/// Lookups and scans that neither compare the versions of lines nor look again.
pub fn readers_that_compare_nothing_are_refused() {
    let simulation = Simulation::new(tree());
    for told in [("lookup", Lie::NothingDiffers), ("scan", Lie::NothingDiffers)] {
        simulation.is_refused(told);
        simulation.is_accepted_without_reads(told);
    }
}

/// An `insert` that does not see that another one has the lock.
pub fn an_insert_that_takes_no_lock_is_refused() {
    Simulation::new(tree()).is_refused(("insert", Lie::LocksAreTaken));
}
