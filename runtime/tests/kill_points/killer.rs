//! What runs in places: the handlers of a bundle in the interpreter, each of which can be ordered to kill its own process at one of its
//! effects.
//!
//! An effect is a UDMA write, compare-and-swap or fetch-and-add. At the host the interpreter performs it; on the NIC the message suspends
//! before it, and comes back when the DMA engine has performed it.

use crate::order::{Directory, Moment, Order, Side};
use naamc::abi::Helper;
use naamc::activation::{Activation, POINT_START};
use naamc::bundle::Bundle;
use naamc::interpreter::{Environment, Failure, Interpreter, Issued, Outcome, Udma};
use runtime::engine::{Program, Turn};
use runtime::place::NativePrograms;
use rustix::process::{Signal, getpid, kill_process};
use std::sync::{Arc, Mutex};

/// A handler that obeys orders.
struct Killer {
    handler: String,
    interpreter: Interpreter,
    operations: Vec<Helper>,
    directory: Directory,
    /// Of the message that began last: a place has no more than one that is under an order.
    progress: Mutex<Progress>,
}

/// How far a message is, and what it is to do.
#[derive(Default)]
struct Progress {
    order: Option<Order>,
    /// Effects that were performed.
    done: u32,
    /// The last effect before which other writers were played.
    prepared: u32,
}

/// The programs of this process, if it is a place of a cluster that has orders.
pub fn programs() -> NativePrograms {
    let mut programs = NativePrograms::default();
    // A place's first argument is the name of its cluster.
    let Some(directory) = std::env::args().nth(1).map(|cluster| Directory::of(&cluster)) else { return programs };
    let Some(bundle) = directory.bundle() else { return programs };
    let checked = Bundle::parse(&bundle).expect("the test wrote a bundle").check().expect("the test wrote a checked bundle");
    let meaning = &checked.bundle().meaning;
    for (proof, handler) in checked.proofs().iter().zip(&meaning.handlers).filter(|(_, handler)| handler.manifest.has_effects) {
        let operations: Vec<Helper> = handler.manifest.operations.iter().map(|operation| operation.helper).collect();
        let killer = Arc::new(Killer {
            handler: handler.function.name.clone(),
            interpreter: Interpreter::new(proof, meaning.environment.read_only.clone().into()),
            operations: operations.clone(),
            directory: directory.clone(),
            progress: Mutex::default(),
        });
        let region = &meaning.environment.regions.first().expect("what has effects has regions").name;
        programs = programs.with(region, &handler.function.name, operations, move |_| killer.clone());
    }
    programs
}

impl Program for Killer {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let mut progress = self.progress.lock().expect("whoever held it has not panicked");
        let mut watched = Watched { killer: self, progress: &mut progress, turn };
        if activation.point == POINT_START {
            watched.begin(activation);
        } else if activation.completed == 1 && self.operations[activation.point as usize].has_effect() {
            watched.performed();
        }
        self.interpreter.run(activation, &mut watched)
    }
}

/// A turn in which effects are counted.
struct Watched<'a, 'r> {
    killer: &'a Killer,
    progress: &'a mut Progress,
    turn: &'a mut Turn<'r>,
}

impl Watched<'_, '_> {
    fn begin(&mut self, activation: &Activation) {
        let Killer { handler, directory, .. } = self.killer;
        let message = activation.body();
        if handler == "recover" && message[8..16] == [0; 8] {
            directory.tell_recovery(u32::from_le_bytes(message[..4].try_into().expect("four bytes")));
        }
        let own = self.turn.executor;
        let is_meant = |order: &Order| order.executor.is_none_or(|executor| u32::from(executor) == own);
        *self.progress = Progress { order: directory.read(handler).filter(is_meant), ..Progress::default() };
        self.obey(Moment { effect: 0, side: Side::After });
    }

    /// The next effect is about to be performed.
    fn prepare(&mut self) {
        let effect = self.progress.done + 1;
        let Some(order) = &self.progress.order else { return };
        if self.progress.prepared < effect {
            self.progress.prepared = effect;
            for poke in order.pokes.iter().filter(|poke| poke.effect == effect) {
                assert_eq!(self.turn.regions()[poke.region].write(poke.offset, &poke.value.to_le_bytes()), 0);
            }
        }
        if order.moment == (Moment { effect, side: Side::Before }) {
            // As whoever performs an effect does first: from here on the message is nobody else's.
            self.turn.claim().expect("nobody else has it");
            self.obey(order.moment);
        }
    }

    fn performed(&mut self) {
        self.progress.done += 1;
        self.obey(Moment { effect: self.progress.done, side: Side::After });
    }

    /// Kills this process, if that is what is ordered for this moment.
    fn obey(&self, moment: Moment) {
        if self.progress.order.as_ref().is_none_or(|order| order.moment != moment) {
            return;
        }
        self.killer.directory.take(&self.killer.handler);
        kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        loop {
            std::thread::park();
        }
    }
}

impl Environment for Watched<'_, '_> {
    fn udma(&mut self, operation: Udma<'_>) -> Issued {
        if matches!(operation, Udma::Read { .. }) {
            return self.turn.udma(operation);
        }
        self.prepare();
        let issued = self.turn.udma(operation);
        if matches!(issued, Issued::Done(_)) {
            self.performed();
        }
        issued
    }

    fn length_bytes(&mut self, region: u16) -> u64 {
        self.turn.length_bytes(region)
    }

    fn executor(&mut self) -> Result<u32, Failure> {
        Environment::executor(self.turn)
    }
}
