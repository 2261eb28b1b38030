//! Handlers as scripts of UDMA operations: a program that suspends and resumes exactly as engines do, with steps written in Rust.

use naamc::abi::{Helper, STACK_BYTES, address};
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::{Environment, Failure, Issued, Outcome, Udma};
use runtime::deployment::{Handler, Shape};
use runtime::engine::{Program, Turn};
use std::sync::Arc;

/// What follows an operation.
pub enum Next {
    /// This step.
    Step(usize),
    /// The end, with this result.
    Finish(i32),
}

/// One operation: its arguments r1 to r5, and what its result leads to.
#[derive(Clone, Copy)]
pub struct Step {
    pub helper: Helper,
    pub arguments: fn(&Activation) -> [u64; 5],
    pub then: fn(&mut Activation, i64) -> Next,
}

/// A handler made of steps; step `i` is suspension point `i`.
pub struct Script(pub Vec<Step>);

/// A handler of this script, with a body of this size.
pub fn handler(name: &str, body_bytes: u32, steps: &[Step]) -> Handler {
    let claims = steps.iter().any(|step| step.helper.has_effect());
    let operations = steps.iter().map(|step| step.helper).collect();
    let shape = Shape { body_bytes, request_bytes: body_bytes, reply_bytes_max: body_bytes, claims, operations };
    Handler::new(name, shape, Arc::new(Script(steps.to_vec())))
}

/// The address of a byte of the body.
pub fn body_at(offset: u64) -> u64 {
    address::BODY_START + offset
}

/// The handle of a region.
pub fn region(index: u64) -> u64 {
    address::REGION_START + index
}

/// A number in the body.
pub fn number(activation: &Activation, offset: usize) -> u64 {
    u64::from_le_bytes(activation.body()[offset..offset + 8].try_into().unwrap())
}

impl Program for Script {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let mut step = if activation.point == POINT_START { 0 } else { activation.point as usize };
        loop {
            let result = match self.execute(step, activation, turn) {
                Ok(result) => result,
                Err(outcome) => return outcome,
            };
            match (self.0[step].then)(activation, result) {
                Next::Step(next) => step = next,
                Next::Finish(result) => return Outcome::Finished(result as u32 as u64),
            }
        }
    }
}

impl Script {
    fn execute(&self, step: usize, activation: &mut Activation, turn: &mut Turn<'_>) -> Result<i64, Outcome> {
        let result = if std::mem::take(&mut activation.completed) == 1 {
            activation.completion
        } else {
            if activation.udma_operations_left == 0 {
                return Err(Outcome::Failed(Failure::UdmaOperationsExhausted));
            }
            activation.point = step as u32;
            let arguments = (self.0[step].arguments)(activation);
            activation.registers[1..6].copy_from_slice(&arguments);
            match self.issue(step, arguments, activation, turn) {
                Issued::Done(result) => result,
                Issued::Suspend => return Err(Outcome::Suspended),
                Issued::Failed(failure) => return Err(Outcome::Failed(failure)),
            }
        };
        activation.udma_operations_left -= 1;
        activation.udma_operations += 1;
        Ok(result)
    }

    fn issue(&self, step: usize, [r1, offset, r3, r4, r5]: [u64; 5], activation: &mut Activation, turn: &mut Turn<'_>) -> Issued {
        let region = (r1 - address::REGION_START) as u16;
        let range = |at: u64, length: u64| {
            let start = (at - address::STACK_START) as usize;
            start..start + length as usize
        };
        let mut old = 0;
        let (issued, old_at) = match self.0[step].helper {
            Helper::Read => {
                let destination = &mut activation.memory[range(r3, r4)];
                return turn.udma(Udma::Read { region, offset, destination });
            }
            Helper::Write => {
                let source = &activation.memory[range(r3, r4)];
                return turn.udma(Udma::Write { region, offset, source });
            }
            Helper::CompareSwap => (turn.udma(Udma::CompareSwap { region, offset, expected: r3, desired: r4, old: &mut old }), r5),
            _ => (turn.udma(Udma::FetchAdd { region, offset, addend: r3, old: &mut old }), r4),
        };
        if let Issued::Done(_) = issued {
            activation.memory[range(old_at, 8)].copy_from_slice(&old.to_le_bytes());
        }
        issued
    }
}

/// `{ u64 index; u64 old; }`: adds 1 to a counter of region 0 and returns what it was.
pub const ADD: [Step; 1] = [Step {
    helper: Helper::FetchAdd,
    arguments: |activation| [region(0), number(activation, 0) * 8, 1, body_at(8), 0],
    then: |_, result| Next::Finish(result as i32),
}];

/// `{ u64 index; u8 bytes[64]; }`: reads 64 bytes of region 0, suspending before it where the executor hides latency.
pub const READ: [Step; 1] = [Step {
    helper: Helper::Read,
    arguments: |activation| [region(0), number(activation, 0) * 8, body_at(8), 64, 0],
    then: |_, result| Next::Finish(result as i32),
}];

/// `{ u64 index; u64 scratch; u64 lock; u8 pad[64]; }`: takes a spin lock (word 0 of region 0), adds 1 to a counter by a read and a write, gives
/// the lock back. Before the write it reads 64 bytes, so that it suspends while it holds the lock.
pub const LOCKED_ADD: [Step; 5] = [
    Step {
        helper: Helper::CompareSwap,
        arguments: |_| [region(0), 0, 0, 1, body_at(16)],
        then: |activation, _| Next::Step(if number(activation, 16) == 0 { 1 } else { 0 }),
    },
    Step {
        helper: Helper::Read,
        arguments: |activation| [region(0), number(activation, 0) * 8, body_at(8), 8, 0],
        then: |activation, _| {
            let next = number(activation, 8) + 1;
            activation.body_mut()[8..16].copy_from_slice(&next.to_le_bytes());
            Next::Step(2)
        },
    },
    Step { helper: Helper::Read, arguments: |_| [region(0), 0, body_at(24), 64, 0], then: |_, _| Next::Step(3) },
    Step {
        helper: Helper::Write,
        arguments: |activation| [region(0), number(activation, 0) * 8, body_at(8), 8, 0],
        then: |_, _| Next::Step(4),
    },
    Step { helper: Helper::CompareSwap, arguments: |_| [region(0), 0, 1, 0, body_at(16)], then: |_, _| Next::Finish(0) },
];

/// A body of this size that comes back as the handler found it.
pub struct Mirror;

impl Program for Mirror {
    fn run(&self, activation: &mut Activation, _: &mut Turn<'_>) -> Outcome {
        let found = activation.body()[..64].to_vec();
        // What it leaves behind must not be seen by the next.
        activation.memory[STACK_BYTES..].fill(0xaa);
        activation.body_mut()[..64].copy_from_slice(&found);
        Outcome::Finished(0)
    }
}

/// `{ u64 seen; u64 old; }`: adds 1 to the first word of region 0 by compare-and-swap after a look at it, as often as it takes.
pub const SWAP_ADD: [Step; 2] = [
    Step { helper: Helper::Read, arguments: |_| [region(0), 0, body_at(0), 8, 0], then: |_, _| Next::Step(1) },
    Step {
        helper: Helper::CompareSwap,
        arguments: |activation| [region(0), 0, number(activation, 0), number(activation, 0) + 1, body_at(8)],
        then: |activation, _| {
            if number(activation, 0) == number(activation, 8) { Next::Finish(0) } else { Next::Step(0) }
        },
    },
];
