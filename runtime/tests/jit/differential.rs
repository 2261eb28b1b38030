//! Runs one handler in many ways that must all come to the same: on either engine, in one turn or suspended before every UDMA call, resumed
//! on the other engine, with calls executed while it was suspended.

use naamc::abi::{Helper, address};
use naamc::activation::Activation;
use naamc::interpreter::{Environment as _, Failure, Issued, Outcome, Udma};
use naamc::isa::Instruction;
use naamc::program::Environment;
use naamc::verifier::Proof;
use runtime::engine::jit::JitEngine;
use runtime::engine::{Engine, InterpreterEngine, Program, Turn};
use runtime::memory::{Region, Regions};
use runtime::udma::{Action, Operation};
use std::sync::Arc;

/// A handler and all that it starts from.
pub struct Case {
    proof: Arc<Proof>,
    read_only: Vec<u8>,
    /// Content of every region.
    regions: Vec<Vec<u8>>,
    body: Vec<u8>,
    back_edges: u32,
    udma_operations: u32,
    /// The handler on each engine.
    programs: Vec<Arc<dyn Program>>,
}

/// Everything that an engine may influence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Result {
    pub outcome: Outcome,
    pub body: Vec<u8>,
    pub regions: Vec<Vec<u8>>,
    pub reply_bytes: u32,
    pub back_edges_left: u32,
    pub udma_operations_left: u32,
    pub udma_operations: u32,
}

/// What a message was before a UDMA call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    point: u32,
    registers: Vec<u64>,
    /// A hash of the live stack bytes.
    stack: u64,
    /// A hash of the body.
    body: u64,
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// How the turns of a run go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// As far as the handler goes.
    Whole,
    /// Suspended before every UDMA call, the first included.
    EveryCall,
    /// The same, but every other call is executed while the message is suspended.
    Completed,
    /// Suspended before every long read of cold memory.
    Prefetch,
}

impl Case {
    /// Compiles a handler for every engine.
    pub fn new(
        proof: Arc<Proof>,
        environment: &Environment,
        regions: Vec<Vec<u8>>,
        body: Vec<u8>,
        back_edges: u32,
        udma_operations: u32,
    ) -> Case {
        let read_only = environment.read_only.clone();
        let mut case = Case { proof, read_only, regions, body, back_edges, udma_operations, programs: Vec::new() };
        let memory = case.memory();
        let engines: [Box<dyn Engine>; 2] = [Box::new(InterpreterEngine), Box::new(JitEngine)];
        case.programs = engines.iter().map(|engine| engine.compile(&case.proof, environment, &memory).expect("compiles")).collect();
        case
    }

    /// The code, for people.
    pub fn listing(&self) -> String {
        let lines =
            self.proof.function().instructions.iter().enumerate().map(|(index, instruction)| format!("{index:4} {instruction}\n"));
        lines.collect()
    }

    fn memory(&self) -> Regions {
        let region = |bytes: &Vec<u8>| {
            let mut region = Region::anonymous(bytes.len() as u64).expect("memory");
            assert_eq!(region.write(0, bytes), 0);
            region.set_cold(true);
            region
        };
        self.regions.iter().map(region).collect()
    }

    /// Runs it, taking the programs in turn.
    pub fn run(&self, order: &[usize], turns: Turns) -> (Result, Vec<Stop>) {
        let regions = self.memory();
        let mut activation = Activation::new_boxed();
        // What an activation held before must not matter.
        activation.memory.fill(0xee);
        activation.registers.fill(0xeeee_eeee_eeee_eeee);
        activation.begin(&self.body, self.back_edges, self.udma_operations);
        activation.body_used = order.iter().map(|program| self.programs[*program].unnoted_bytes()).max().unwrap_or(0);
        let mut stops = Vec::new();
        let mut budget = if matches!(turns, Turns::EveryCall | Turns::Completed) { 0 } else { u32::MAX };
        let mut suspend_reads = u32::from(turns == Turns::Prefetch);
        for program in order.iter().cycle() {
            let mut turn = Turn::new(&regions, 1);
            turn.operations_left = budget;
            turn.hides_latency = u32::from(turns == Turns::Prefetch);
            turn.suspend_reads = suspend_reads;
            let outcome = self.programs[*program].run(&mut activation, &mut turn);
            suspend_reads = 0;
            if outcome == Outcome::Suspended {
                activation.suspensions += 1;
                stops.push(self.stop(&activation));
                assert!(stops.len() < 100_000, "it never ends");
                budget = match turns {
                    Turns::EveryCall => 1,
                    Turns::Completed if stops.len() % 2 == 0 => 1,
                    Turns::Completed => {
                        self.complete(&mut activation, &regions);
                        0
                    }
                    // A compare-and-swap that did not swap ended the turn.
                    _ => u32::MAX,
                };
                continue;
            }
            let (now, before) = (activation.body(), &self.body);
            let untouched = before.iter().chain(std::iter::repeat(&0xee)).zip(now).skip(activation.body_used as usize);
            assert!(untouched.into_iter().all(|(before, now)| before == now), "not noted in\n{}", self.listing());
            let content = |region: &Region| {
                let mut bytes = vec![0; region.length_bytes() as usize];
                assert_eq!(region.read(0, &mut bytes), 0);
                bytes
            };
            let result = Result {
                outcome,
                body: activation.body()[..self.body.len()].to_vec(),
                regions: regions.iter().map(content).collect(),
                reply_bytes: activation.reply_bytes,
                back_edges_left: activation.back_edges_left,
                udma_operations_left: activation.udma_operations_left,
                udma_operations: activation.udma_operations,
            };
            return (result, stops);
        }
        unreachable!("some engine takes a turn")
    }

    fn stop(&self, activation: &Activation) -> Stop {
        let contract = &self.proof.contracts().suspensions[activation.point as usize];
        let registers = contract.registers.iter().map(|(register, _)| activation.registers[register.index()]).collect();
        let ranges = contract.live_stack.iter().map(|range| &activation.memory[range.start as usize..range.end as usize]);
        let stack: Vec<u8> = ranges.flatten().copied().collect();
        Stop { point: activation.point, registers, stack: hash(&stack), body: hash(&activation.body()[..self.body.len()]) }
    }

    /// Executes the call before which a message stands, as a UDMA backend would.
    fn complete(&self, activation: &mut Activation, regions: &Regions) {
        let at = self.proof.contracts().suspensions[activation.point as usize].instruction;
        let Instruction::CallHelper { number } = self.proof.function().instructions[at as usize] else { panic!("not a call") };
        let helper = Helper::from_number(number).expect("a helper");
        if activation.udma_operations_left == 0 {
            return;
        }
        let operation = Operation::pending(activation, helper).expect("an operation");
        let mut bytes = vec![0; operation.length_bytes as usize];
        let mut old = 0;
        let mut turn = Turn::new(regions, 1);
        let (region, offset) = (operation.region, operation.offset);
        let issued = turn.udma(match operation.action {
            Action::Read => Udma::Read { region, offset, destination: &mut bytes },
            Action::Write => {
                Udma::Write { region, offset, source: operation.bytes(activation, &self.read_only).expect("proved bytes") }
            }
            Action::CompareSwap { expected, desired } => Udma::CompareSwap { region, offset, expected, desired, old: &mut old },
            Action::FetchAdd { addend } => Udma::FetchAdd { region, offset, addend, old: &mut old },
        });
        let Issued::Done(result) = issued else { panic!("not done") };
        if !matches!(operation.action, Action::Read | Action::Write) {
            bytes = old.to_le_bytes().to_vec();
        }
        operation.complete(activation, result, &bytes);
    }

    /// Runs it in every way and returns what they agree on.
    ///
    /// # Panics
    /// If they do not.
    pub fn agree(&self) -> (Result, usize) {
        let (expected, _) = self.run(&[0], Turns::Whole);
        assert!(!is_fault(expected.outcome), "the interpreter found a fault in\n{}", self.listing());
        let mut suspensions = 0;
        for turns in [Turns::Whole, Turns::EveryCall, Turns::Completed, Turns::Prefetch] {
            let (reference, stops) = self.run(&[0], turns);
            assert_eq!(reference, expected, "interpreter, {turns:?}");
            suspensions += stops.len();
            for order in [&[1][..], &[0, 1], &[1, 0]] {
                let (result, found) = self.run(order, turns);
                let different = found.iter().zip(&stops).position(|(found, expected)| found != expected);
                if let Some(stop) = different {
                    panic!("{turns:?} {order:?} {stop}: {:x?}, not {:x?}\n{}", found[stop], stops[stop], self.listing());
                }
                assert_eq!(found.len(), stops.len(), "{turns:?} {order:?} in\n{}", self.listing());
                assert!(result == expected, "{turns:?} {order:?}: {result:x?}, not {expected:x?}\n{}", self.listing());
            }
        }
        (expected, suspensions)
    }
}

/// A failure that no engine may ever report of a checked handler.
pub fn is_fault(outcome: Outcome) -> bool {
    outcome == Outcome::Failed(Failure::EngineFault)
}

const _: () = assert!(address::STACK_END == address::BODY_START);
