//! Contracts that come with a bundle are an allegation: changed ones are refused, or what they say holds all the same.
//!
//! Random programs are proved and their contracts changed: widened, narrowed, shrunk, exchanged, filled with nonsense. What the check
//! accepts is run from its start, from garbage with every suspension encoded and decoded, and from continuations drawn from the changed
//! contracts; values at cut points lie in the contracts, accesses in their proved ranges, loops keep their bounds.

mod programs;

use fastrand::Rng;
use naamc::abi::{self, STACK_BYTES, address};
use naamc::activation::Activation;
use naamc::cfg::Graph;
use naamc::continuation;
use naamc::interpreter::{Failure, Interpreter, Issued, Observer, Outcome, Udma};
use naamc::isa::{Instruction, Register, Size};
use naamc::manifest::Manifest;
use naamc::memory::RegionMemory;
use naamc::verifier::contract::{Bound, ByteRange, Cell, Contract, Contracts};
use naamc::verifier::value::{Pointer, Scalar, Value};
use naamc::verifier::{Analysis, Proof, Touched};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Programs that are tried, unless the variable `NAAM_PROGRAMS` says more: a long campaign.
const PROGRAMS: u64 = 2_500;
/// Back edges of metered loops in one run.
const BACK_EDGES: u32 = 300;

struct World {
    regions: Vec<RegionMemory>,
    /// Whether every operation is postponed once.
    suspends: bool,
    postponed: bool,
}

impl World {
    fn new(seed: u64, suspends: bool) -> World {
        let mut random = Rng::with_seed(seed);
        let regions = (0..2).map(|_| RegionMemory::new((0..256).map(|_| random.u8(..)).collect())).collect();
        World { regions, suspends, postponed: false }
    }
}

impl naamc::interpreter::Environment for World {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        let postpones = self.suspends && !self.postponed;
        self.postponed = postpones;
        if postpones {
            return Issued::Suspend;
        }
        let region = usize::from(operation.region());
        Issued::Done(self.regions[region].execute(operation))
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.regions[usize::from(region)].length_bytes()
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Ok(7)
    }
}

/// Holds every state of a run against what was proved.
struct Watch<'a> {
    proof: &'a Proof,
    graph: &'a Graph,
    cuts: &'a BTreeMap<u32, Vec<&'a Contract>>,
    previous: Option<u32>,
    trips: BTreeMap<u32, u64>,
    executed: u64,
    cut_points: u64,
}

impl Observer for Watch<'_> {
    fn before(&mut self, at: u32, activation: &Activation) {
        self.executed += 1;
        for contract in self.cuts.get(&at).into_iter().flatten() {
            self.cut_points += 1;
            let broken = violation(contract, activation);
            assert!(
                broken.is_none(),
                "contract at {at}: {}\n{}",
                broken.unwrap_or_default(),
                programs::text(self.proof.function())
            );
        }
        self.watch_loops(at);
        let function = self.proof.function();
        let analysis = self.proof.analysis();
        match function.instructions[at as usize] {
            Instruction::Load { base, offset, size, .. }
            | Instruction::Store { base, offset, size, .. }
            | Instruction::Atomic { base, offset, size, .. } => {
                let found = analysis.accesses.binary_search_by_key(&at, |access| access.instruction);
                let access = found.map(|place| analysis.accesses[place]).expect("a reached access is recorded");
                let address = activation.registers[base.index()].wrapping_add(i64::from(offset) as u64);
                assert!(
                    lies(&access.touched, address, size.bytes() as u64),
                    "access at {at}: {address:#x}\n{}",
                    programs::text(function)
                );
            }
            Instruction::CallHelper { .. } => self.watch_call(at, activation, analysis),
            _ => {}
        }
        self.previous = Some(at);
    }
}

impl Watch<'_> {
    fn watch_loops(&mut self, at: u32) {
        let Some(found) = self.proof.analysis().loops.iter().find(|found| found.head == at) else { return };
        let back = self.previous.is_some_and(|previous| self.graph.is_retreating(previous, at));
        // A run that begins inside the loop enters it at its first arrival.
        let trips = self.trips.entry(at).and_modify(|trips| *trips = if back { *trips + 1 } else { 0 }).or_default();
        if let Some(max) = found.trips_max {
            assert!(*trips <= max, "loop at {at}: {trips} trips, {max} proved\n{}", programs::text(self.proof.function()));
        }
    }

    fn watch_call(&self, at: u32, activation: &Activation, analysis: &Analysis) {
        let found = analysis.calls.binary_search_by_key(&at, |call| call.instruction);
        let call = found.map(|place| &analysis.calls[place]).expect("a reached call is recorded");
        for (register, number) in &call.numbers {
            let word = activation.registers[register.index()];
            let truncated = call.helper.parameters()[register.index() - 1] == abi::Parameter::U32;
            assert!(number.admits(if truncated { u64::from(word as u32) } else { word }), "{register} of call at {at}");
        }
        for (register, touched) in &call.memory {
            let length = match call.helper.parameters()[register.index() - 1] {
                abi::Parameter::Source(abi::Extent::Parameter(index))
                | abi::Parameter::Destination(abi::Extent::Parameter(index)) => u64::from(activation.registers[index + 1] as u32),
                _ => 8,
            };
            let address = activation.registers[register.index()];
            assert!(lies(touched, address, length), "{register} of call at {at}\n{}", programs::text(self.proof.function()));
        }
    }
}

/// Whether the bytes lie in one of the ranges.
fn lies(touched: &Touched, address: u64, bytes: u64) -> bool {
    let within = |range: Option<naamc::verifier::contract::ByteRange>, start: u64| {
        let offset = address.wrapping_sub(start);
        range.is_some_and(|range| offset >= range.start.into() && offset.saturating_add(bytes) <= range.end.into())
    };
    within(touched.stack, address::STACK_START)
        || within(touched.body, address::STACK_START)
        || within(touched.read_only, address::READ_ONLY_START)
}

fn violation(contract: &Contract, activation: &Activation) -> Option<String> {
    for (register, value) in &contract.registers {
        let word = activation.registers[register.index()];
        if !value.admits(word) {
            return Some(format!("{register} = {word:#x} is not in {value:?}"));
        }
    }
    if let Some(bound) = contract.bounds.iter().find(|bound| !bound.admits(&activation.registers)) {
        return Some(format!("{bound:?} is broken"));
    }
    for cell in &contract.cells {
        let mut word = [0; 8];
        let at = cell.offset as usize;
        word[..cell.size.bytes()].copy_from_slice(&activation.memory[at..at + cell.size.bytes()]);
        if !cell.value.admits(u64::from_le_bytes(word)) {
            return Some(format!("cell {} = {word:?} is not in {:?}", cell.offset, cell.value));
        }
    }
    None
}

/// What a run leaves behind.
#[derive(Debug, PartialEq)]
struct Left {
    outcome: Outcome,
    body: Vec<u8>,
    regions: Vec<Vec<u8>>,
    reply_bytes: u32,
}

struct Case<'a> {
    proof: &'a Proof,
    graph: &'a Graph,
    cuts: BTreeMap<u32, Vec<&'a Contract>>,
    interpreter: Interpreter,
}

impl Case<'_> {
    fn watch(&self) -> Watch<'_> {
        Watch {
            proof: self.proof,
            graph: self.graph,
            cuts: &self.cuts,
            previous: None,
            trips: BTreeMap::new(),
            executed: 0,
            cut_points: 0,
        }
    }

    fn left(&self, outcome: Outcome, activation: &Activation, world: &World) -> Left {
        assert_ne!(outcome, Outcome::Failed(Failure::EngineFault), "{}", programs::text(self.proof.function()));
        if let Outcome::Finished(result) = outcome {
            let proved = self.proof.analysis().result;
            assert!(
                proved.is_some_and(|proved| proved.admits(result)),
                "result {result:#x}\n{}",
                programs::text(self.proof.function())
            );
            assert!(activation.reply_bytes <= self.proof.analysis().reply_bytes_max);
        }
        Left {
            outcome,
            body: activation.body()[..self.proof.function().entry.body_bytes as usize].to_vec(),
            regions: world.regions.iter().map(|region| region.bytes().to_vec()).collect(),
            reply_bytes: activation.reply_bytes,
        }
    }

    /// One run without suspension, from zeroed memory.
    fn plain(&self, body: &[u8], seed: u64) -> (Left, u64, u64) {
        let mut world = World::new(seed, false);
        let mut activation = Activation::new_boxed();
        activation.begin(body, BACK_EDGES, 200);
        let mut watch = self.watch();
        let outcome = self.interpreter.observe(&mut activation, &mut world, &mut watch);
        let (executed, cut_points) = (watch.executed, watch.cut_points);
        (self.left(outcome, &activation, &world), executed, cut_points)
    }

    /// A run that starts in garbage and, at every suspension, moves into other garbage.
    fn moving(&self, body: &[u8], seed: u64, random: &mut Rng) -> Left {
        let mut world = World::new(seed, true);
        let mut activation = garbage(random);
        activation.begin(body, BACK_EDGES, 200);
        loop {
            let outcome = self.interpreter.observe(&mut activation, &mut world, &mut self.watch());
            if outcome != Outcome::Suspended {
                return self.left(outcome, &activation, &world);
            }
            let mut bytes = vec![0; abi::MESSAGE_BYTES_MAX];
            let length = continuation::encode(self.proof, &activation, &mut bytes).expect("a real state keeps its contract");
            let mut next = garbage(random);
            next.back_edges_left = activation.back_edges_left;
            next.udma_operations_left = activation.udma_operations_left;
            let body = activation.body()[..body.len()].to_vec();
            continuation::decode(self.proof, &bytes[..length], &body, &mut next).expect("a real continuation decodes");
            activation = next;
        }
    }

    /// Runs from a continuation that nobody made, if one can be drawn.
    fn forged(&self, point: usize, random: &mut Rng) -> bool {
        let contract = &self.proof.contracts().suspensions[point];
        let mut activation = garbage(random);
        activation.point = point as u32;
        activation.reply_bytes = 0;
        for (register, value) in &contract.registers {
            activation.registers[register.index()] = draw(value, random);
        }
        for cell in &contract.cells {
            let word = draw(&cell.value, random).to_le_bytes();
            let at = cell.offset as usize;
            activation.memory[at..at + cell.size.bytes()].copy_from_slice(&word[..cell.size.bytes()]);
        }
        let mut bytes = vec![0; abi::MESSAGE_BYTES_MAX];
        let Some(length) = continuation::encode(self.proof, &activation, &mut bytes) else { return false };
        let body = activation.body()[..self.proof.function().entry.body_bytes as usize].to_vec();
        let mut next = garbage(random);
        if continuation::decode(self.proof, &bytes[..length], &body, &mut next).is_err() {
            return false;
        }
        (next.back_edges_left, next.udma_operations_left) = (BACK_EDGES, 200);
        let mut world = World::new(random.u64(..), false);
        let outcome = self.interpreter.observe(&mut next, &mut world, &mut self.watch());
        self.left(outcome, &next, &world);
        true
    }
}

fn garbage(random: &mut Rng) -> Box<Activation> {
    let mut activation = Activation::new_boxed();
    random.fill(&mut activation.memory);
    activation.registers.fill_with(|| random.u64(..));
    activation
}

/// A word that a value admits, most likely.
fn draw(value: &Value, random: &mut Rng) -> u64 {
    let number = |scalar: &Scalar, random: &mut Rng| {
        let steps = (scalar.signed_max.abs_diff(scalar.signed_min)) / scalar.stride.max(1);
        let step = match random.u8(0..4) {
            0 => 0,
            1 => steps,
            _ => random.u64(0..=steps),
        };
        ((scalar.signed_min as u64).wrapping_add(step.wrapping_mul(scalar.stride)) | scalar.ones) & !scalar.zeros
    };
    match value {
        Value::Scalar(scalar) => number(scalar, random),
        Value::Pointer(pointer) => {
            let mut all: Vec<u64> = Vec::new();
            all.extend(pointer.null.then_some(0));
            all.extend(pointer.stack.map(|offset| address::STACK_END.wrapping_add(number(&offset, random))));
            all.extend(pointer.body.map(|offset| address::BODY_START.wrapping_add(number(&offset, random))));
            all.extend(pointer.read_only.map(|offset| address::READ_ONLY_START.wrapping_add(number(&offset, random))));
            all.extend((0..64).filter(|region| pointer.regions >> region & 1 == 1).map(|region| address::REGION_START + region));
            all[random.usize(0..all.len())]
        }
    }
}

/// Changes something about one contract.
fn distort(contracts: &mut Contracts, random: &mut Rng) {
    let suspension = !contracts.suspensions.is_empty() && (contracts.loops.is_empty() || random.bool());
    let list = if suspension { &mut contracts.suspensions } else { &mut contracts.loops };
    if list.is_empty() {
        return;
    }
    let place = random.usize(0..list.len());
    if random.u8(0..12) == 0 {
        match random.bool() {
            true => drop(list.remove(place)),
            false => list.swap(0, place),
        }
        return;
    }
    let contract = &mut list[place];
    match random.u8(0..11) {
        7 => {
            let (left, right) = (Register(random.u8(6..9)), Register(random.u8(7..10)));
            contract.bounds.push(Bound { left, right, max: random.u64(0..200) });
        }
        0 => contract.instruction = contract.instruction.wrapping_add(random.u32(0..4)).wrapping_sub(1),
        1 if !contract.registers.is_empty() => drop(contract.registers.remove(random.usize(0..contract.registers.len()))),
        2 => {
            let register = Register(random.u8(0..45));
            let at = contract.registers.partition_point(|(other, _)| *other < register);
            contract.registers.insert(at, (register, any_value(random)));
        }
        3 if !contract.cells.is_empty() => drop(contract.cells.remove(random.usize(0..contract.cells.len()))),
        4 => {
            let size = [Size::B1, Size::B2, Size::B4, Size::B8][random.usize(0..4)];
            let offset = STACK_BYTES as u32 - 64 + random.u32(0..170);
            let at = contract.cells.partition_point(|cell| cell.offset < offset);
            contract.cells.insert(at, Cell { offset, size, value: any_value(random) });
        }
        5 if !contract.live_stack.is_empty() => {
            let range = random.usize(0..contract.live_stack.len());
            match random.u8(0..3) {
                0 => drop(contract.live_stack.remove(range)),
                1 => contract.live_stack[range].end = contract.live_stack[range].end.wrapping_add(random.u32(0..9)).wrapping_sub(4),
                _ => {
                    contract.live_stack[range].start =
                        contract.live_stack[range].start.wrapping_add(random.u32(0..9)).wrapping_sub(4)
                }
            }
        }
        6 => contract.live_stack = vec![ByteRange { start: 0, end: STACK_BYTES as u32 }],
        _ => {
            let values =
                contract.registers.iter_mut().map(|(_, value)| value).chain(contract.cells.iter_mut().map(|cell| &mut cell.value));
            let mut values: Vec<&mut Value> = values.collect();
            if values.is_empty() {
                return;
            }
            let chosen = random.usize(0..values.len());
            distort_value(values[chosen], random);
        }
    }
}

fn any_value(random: &mut Rng) -> Value {
    let scalar = match random.u8(0..3) {
        0 => Scalar::ANY,
        1 => Scalar::constant(random.u64(0..100)),
        _ => Scalar { unsigned_max: random.u64(..), stride: random.u64(0..5), ones: random.u64(..) & 3, ..Scalar::ANY },
    };
    match random.u8(0..4) {
        0 => Value::Pointer(Pointer { stack: Some(scalar), ..Pointer::default() }),
        1 => Value::Pointer(Pointer { regions: random.u64(0..5), null: random.bool(), ..Pointer::default() }),
        _ => Value::Scalar(scalar),
    }
}

fn distort_value(value: &mut Value, random: &mut Rng) {
    let pick = random.u8(0..3);
    let scalar = match value {
        Value::Scalar(scalar) => scalar,
        Value::Pointer(Pointer { stack: Some(offset), .. }) | Value::Pointer(Pointer { body: Some(offset), .. }) if pick != 0 => {
            offset
        }
        Value::Pointer(pointer) => {
            match pick {
                0 => pointer.null ^= true,
                1 => pointer.regions ^= random.u64(0..8),
                _ => pointer.read_only = Some(Scalar::unsigned(0, random.u64(0..80))),
            }
            return;
        }
    };
    let by = random.u64(0..17);
    match random.u8(0..8) {
        0 => *scalar = Scalar::ANY,
        1 => scalar.signed_max = scalar.signed_max.wrapping_add(by as i64).wrapping_sub(8),
        2 => scalar.unsigned_max = scalar.unsigned_max.wrapping_add(by).wrapping_sub(8),
        3 => scalar.stride = scalar.stride.wrapping_add(by).wrapping_sub(8),
        4 => scalar.ones ^= 1 << random.u8(0..64),
        5 => scalar.zeros ^= 1 << random.u8(0..64),
        6 => scalar.low_unsigned_max = scalar.low_unsigned_max.wrapping_add(by as u32).wrapping_sub(8),
        _ => {
            // A set that is really wider, as somebody would forge it.
            let (min, max) = (scalar.signed_min.saturating_sub(by as i64), scalar.signed_max.saturating_add(by as i64));
            *scalar = Scalar::signed(min, max);
        }
    }
}

#[test]
fn changed_contracts_are_refused_or_hold() {
    let environment = programs::environment();
    let read_only: Arc<[u8]> = environment.read_only.clone().into();
    let programs = std::env::var("NAAM_PROGRAMS").map_or(PROGRAMS, |count| count.parse().expect("a number"));
    let (mut accepted, mut refused, mut finished, mut cut_points, mut forged) = (0, 0, 0, 0, 0);
    for seed in 0..programs {
        let mut random = Rng::with_seed(seed);
        let Ok(original) = Proof::prove(programs::generate(&mut random), &environment) else { continue };
        let graph = Graph::new(&original.function().instructions).unwrap();
        for _ in 0..6 {
            let mut contracts = original.contracts().clone();
            for _ in 0..random.usize(1..3) {
                distort(&mut contracts, &mut random);
            }
            if contracts == *original.contracts() {
                continue;
            }
            let Ok(proof) = Proof::check(original.function().clone(), &environment, contracts) else {
                refused += 1;
                continue;
            };
            accepted += 1;
            let mut cuts: BTreeMap<u32, Vec<&Contract>> = BTreeMap::new();
            for contract in proof.contracts().loops.iter().chain(&proof.contracts().suspensions) {
                cuts.entry(contract.instruction).or_default().push(contract);
            }
            let manifest = Manifest::of(&proof, &environment);
            let case = Case { proof: &proof, graph: &graph, cuts, interpreter: Interpreter::new(&proof, read_only.clone()) };
            let body: Vec<u8> = (0..proof.function().entry.body_bytes).map(|_| random.u8(0..12) * random.u8(0..2)).collect();
            let world = random.u64(..);
            let (left, executed, watched) = case.plain(&body, world);
            cut_points += watched;
            finished += u64::from(matches!(left.outcome, Outcome::Finished(_)));
            assert!(
                manifest.instructions_max.is_none_or(|max| executed <= max),
                "seed {seed}: {executed} {:?}",
                manifest.instructions_max
            );
            assert_eq!(left, case.moving(&body, world, &mut random), "seed {seed}\n{}", programs::text(proof.function()));
            for point in 0..proof.contracts().suspensions.len() {
                for _ in 0..4 {
                    forged += u64::from(case.forged(point, &mut random));
                }
            }
        }
    }
    println!("{accepted} accepted, {refused} refused, {finished} runs finished, {cut_points} cut points, {forged} forged runs");
    assert!(accepted > 300 && refused > 1_000, "{accepted} {refused}");
    assert!(finished > 200 && cut_points > 2_000 && forged > 1_000, "{finished} {cut_points} {forged}");
}
