//! The executor threads of a place, and what they are told.
//!
//! A command goes into every executor's mailbox; orders that need all of them to have obeyed are answered by the last one to say so. A
//! thread that ends unasked takes the process with it: its supervisor then knows for certain that it runs no more.

use super::Answers;
use super::bundles::Prepared;
use crate::clock::MonotonicClock;
use crate::executor::thread::{self, Inbox, Mailbox};
use crate::executor::{Command, Event, Executor, Options, ServerSession};
use crate::memory::Mapping;
use crate::message::Place;
use crate::metrics::{Metrics, MetricsWriter};
use crate::session::{Grants, SlotTable};
use crate::steering::FlowView;
use crate::supervisor::error::ControlError;
use crate::supervisor::protocol::{Answer, Granted, Session, Start};
use crate::transport::shared_memory::RingLink;
use crate::udma::dma::Dma;
use crate::udma::{Backend, Local};
use crate::waiting::Waiting;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// All executors of a place.
pub(crate) struct Executors {
    mailboxes: Vec<Mailbox<RingLink>>,
    pending: Arc<Pending>,
}

/// Orders that are answered when all executors have done something.
struct Pending {
    answers: Answers,
    orders: Mutex<Orders>,
}

#[derive(Default)]
struct Orders {
    last_token: u64,
    /// By token: what remains before the order is answered.
    acknowledgements: HashMap<u64, Acknowledgement>,
    /// Deployments by index and generation that executors may still hold.
    held: HashSet<(u16, u16)>,
    /// By index and generation: executors that still drain a deployment, and the orders that wait for it.
    drains: HashMap<(u16, u16), (usize, Vec<u64>)>,
}

struct Acknowledgement {
    left: usize,
    number: u64,
    answer: Answer,
    descriptors: Vec<OwnedFd>,
}

impl Executors {
    /// Starts the threads.
    pub(crate) fn start(
        start: &Start,
        metrics: Arc<Mapping>,
        flows: &FlowView,
        answers: Answers,
    ) -> Result<Executors, ControlError> {
        let failed = |error: io::Error| ControlError::io("starting executors", &error);
        let metrics = Metrics::new(metrics);
        let pending = Arc::new(Pending { answers, orders: Mutex::default() });
        let waiting = Waiting::with_own_core(start.spins);
        let mut mailboxes = Vec::new();
        for block in 0..start.executors {
            let (mailbox, inbox) = thread::mailbox().map_err(failed)?;
            let number = start.first_executor + block;
            let (options, backend): (_, Box<dyn Backend>) = match start.place {
                Place::Nic => {
                    let options = Options::nic(number, seed());
                    (options, Box::new(Dma::new(start.dma_latency_ns, options.activations)))
                }
                _ => (Options::host(number, seed()), Box::new(Local)),
            };
            let mut executor =
                Executor::new(options, backend, metrics.writer(usize::from(block)).unwrap_or_else(MetricsWriter::nowhere));
            executor.follow(flows.clone());
            let cpu = start.cpus.as_ref().and_then(|cpus| cpus.get(usize::from(block)).copied());
            let pending = pending.clone();
            std::thread::Builder::new()
                .name(format!("executor-{}", options.number))
                .spawn(move || run(executor, cpu, &inbox, waiting, &pending))
                .map_err(failed)?;
            mailboxes.push(mailbox);
        }
        Ok(Executors { mailboxes, pending })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Serves a deployment; order `number` is answered when all do.
    pub(crate) fn deploy(&self, number: u64, prepared: Prepared) {
        self.pending.orders().held.insert((prepared.deployment.index(), prepared.deployment.generation()));
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Deploy(prepared.deployment.clone()));
        }
        self.acknowledge(number, Answer::Deployed(prepared.answer), vec![prepared.bundle]);
    }

    /// Drains a deployment; order `number` is answered when nothing of it is under way.
    pub(crate) fn undeploy(&self, number: u64, index: u16, generation: u16) {
        let first = {
            let mut orders = self.pending.orders();
            if !orders.held.contains(&(index, generation)) {
                drop(orders);
                return self.pending.answers.send(number, Ok(Answer::Done), &[]);
            }
            let (_, waiting) = orders.drains.entry((index, generation)).or_insert_with(|| (self.count(), Vec::new()));
            waiting.push(number);
            waiting.len() == 1
        };
        if first {
            for mailbox in &self.mailboxes {
                mailbox.send(Command::Undeploy(index));
            }
        }
    }

    /// Serves a session.
    pub(crate) fn attach(&self, session: &Session, links: Vec<RingLink>, slots: &SlotTable) {
        for (mailbox, link) in self.mailboxes.iter().zip(links) {
            let grants = grants(&session.grants);
            mailbox.send(Command::Attach(ServerSession { id: session.number, link, slots: slots.clone(), grants }));
        }
    }

    /// Changes what a session may do; order `number` is answered when all know.
    pub(crate) fn grant(&self, number: u64, session: u32, granted: &Granted) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Grant(session, grants(granted)));
        }
        self.acknowledge(number, Answer::Done, Vec::new());
    }

    /// Forgets a session; order `number` is answered when nobody takes anything more from it: what its client may have left in regions is
    /// recovered after that.
    pub(crate) fn detach(&self, number: u64, session: u32) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Detach(session));
        }
        self.acknowledge(number, Answer::Done, Vec::new());
    }

    fn acknowledge(&self, number: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        let token = {
            let mut orders = self.pending.orders();
            orders.last_token += 1;
            let token = orders.last_token;
            orders.acknowledgements.insert(token, Acknowledgement { left: self.count(), number, answer, descriptors });
            token
        };
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Acknowledge(token));
        }
    }
}

impl Pending {
    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.orders.lock().expect("nothing panics while it holds this lock")
    }

    /// Hears what one executor has to say.
    fn hear(&self, event: Event) {
        let mut orders = self.orders();
        match event {
            // The supervisor learns of a client's end from its own connection.
            Event::SessionClosed(_) => {}
            Event::Acknowledged(token) => {
                let Some(acknowledgement) = orders.acknowledgements.get_mut(&token) else { return };
                acknowledgement.left -= 1;
                if acknowledgement.left == 0
                    && let Some(done) = orders.acknowledgements.remove(&token)
                {
                    let descriptors: Vec<_> = done.descriptors.iter().map(AsFd::as_fd).collect();
                    self.answers.send(done.number, Ok(done.answer), &descriptors);
                }
            }
            Event::Drained(index, generation) => {
                let Some((left, _)) = orders.drains.get_mut(&(index, generation)) else { return };
                *left -= 1;
                if *left == 0
                    && let Some((_, waiting)) = orders.drains.remove(&(index, generation))
                {
                    orders.held.remove(&(index, generation));
                    for number in waiting {
                        self.answers.send(number, Ok(Answer::Done), &[]);
                    }
                }
            }
        }
    }
}

/// The body of an executor's thread, which never ends before the process.
fn run(mut executor: Executor<RingLink>, cpu: Option<u32>, inbox: &Inbox<RingLink>, waiting: Waiting, pending: &Pending) {
    /// Ends the process when the thread ends, by a panic too.
    struct Fatal;
    impl Drop for Fatal {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let _fatal = Fatal;
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu as usize);
        // Unpinned is slower, not wrong: the CPU may have been taken away since it was chosen.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    let ended = thread::run(&mut executor, inbox, &MonotonicClock::new(), waiting, &mut |event| pending.hear(event));
    // Without an error nobody is left to give it commands: the place ends.
    if let Err(error) = ended {
        eprintln!("executor {} ended: {error}", executor.number());
    }
}

/// A random number: keys of the standard library's hash maps are seeded by the system.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn grants(granted: &Granted) -> Grants {
    match granted {
        Granted::All => Grants::all(),
        Granted::Some { invoke, direct } => {
            let mut grants = Grants::none();
            invoke.iter().for_each(|index| grants.allow_invoke(*index));
            direct.iter().for_each(|index| grants.allow_direct(*index));
            grants
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use crate::deployment::{Deployment, Handler, Identity, Limits, Shape};
    use crate::engine::{Program, Turn};
    use crate::memory::{Pages, SharedMemory};
    use crate::message::{Header, Target};
    use crate::steering::FLOW_TABLE_BYTES;
    use crate::supervisor::protocol::{Deployed, EngineChoice, Reply, VERSION};
    use crate::transport::Link;
    use crate::transport::shared_memory::RingSizes;
    use naamc::activation::Activation;
    use naamc::interpreter::Outcome;
    use rustix::io::Errno;
    use rustix::net::RecvFlags;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const ROUNDS: u32 = 20;

    /// Counts messages, and stops at those whose first byte is not 0 until it is let go.
    struct Counting {
        runs: Arc<AtomicUsize>,
        gate: Arc<Barrier>,
    }

    impl Program for Counting {
        fn run(&self, activation: &mut Activation, _: &mut Turn<'_>) -> Outcome {
            if activation.body()[0] != 0 {
                self.gate.wait();
                self.gate.wait();
            }
            self.runs.fetch_add(1, Ordering::Relaxed);
            Outcome::Finished(0)
        }
    }

    /// What a client has left in regions is recovered once the order to forget it is answered: by then nothing more of it is taken, though
    /// its rings are full.
    #[test]
    fn nothing_is_taken_from_a_session_that_is_forgotten() {
        let (ours, theirs) = channel::pair().unwrap();
        let answer = |number: u64| {
            let (reply, _): (Reply, _) = channel::receive(&ours).unwrap();
            assert_eq!((reply.number, reply.content.is_ok()), (number, true));
        };
        let metrics = SharedMemory::create("naam-metrics", Metrics::bytes(1), Pages::Ordinary).unwrap().map().unwrap();
        let (engine, place) = (EngineChoice::Interpreter, Place::Host);
        let (version, first_executor, executors) = (VERSION, 1, 1);
        let start = Start {
            version,
            place,
            first_executor,
            executors,
            incarnation: 1,
            engine,
            cpus: None,
            spins: false,
            dma_latency_ns: 0,
        };
        let flows = SharedMemory::create("naam-flows", FLOW_TABLE_BYTES, Pages::Ordinary).unwrap().map_read_only().unwrap();
        let flows = FlowView::new(flows).unwrap();
        let executors = Executors::start(&start, metrics, &flows, Answers(Arc::new(theirs))).unwrap();
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
        let shape = Shape { body_bytes: 8, request_bytes: 8, reply_bytes_max: 0, claims: false, operations: vec![] };
        let handler = Handler::new("count", shape, Arc::new(Counting { runs: runs.clone(), gate: gate.clone() }));
        let identity = Identity { name: "test".into(), index: 0, generation: 1 };
        let deployment = Arc::new(Deployment::new(identity, vec![handler], vec![], Limits::default()));
        let deployed = Deployed { bundle: String::new(), regions: vec![], handlers: vec![] };
        let bundle = crate::supervisor::sealed_file(b"").unwrap();
        executors.deploy(1, Prepared { deployment, answer: deployed, bundle });
        answer(1);
        let mut served = 0;
        for round in 0..ROUNDS {
            let (server, mut client) = RingLink::pair(RingSizes { request_bytes: 4096, reply_bytes: 4096 }).unwrap();
            let session = Session {
                number: round,
                slots: 1,
                rings: RingSizes { request_bytes: 4096, reply_bytes: 4096 },
                grants: Granted::All,
            };
            executors.attach(&session, vec![server], &SlotTable::anonymous(1).unwrap());
            let target = Target { deployment: 0, generation: 1, handler: 0 };
            let mut sequence = 0;
            let mut send = |client: &mut RingLink| {
                while client.room_bytes(128).unwrap() >= 128 {
                    sequence += 1;
                    let stops = u64::from(sequence == 1).to_le_bytes();
                    client.send(&Header::request(target, 0, sequence, 0, 8).emit(), &stops, &[]);
                }
                client.flush();
            };
            send(&mut client);
            let number = u64::from(round) + 2;
            gate.wait();
            executors.detach(number, round);
            let early = rustix::net::recv(&ours, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            assert_eq!(early.unwrap_err(), Errno::AGAIN, "it is forgotten while it is served");
            gate.wait();
            answer(number);
            let before = runs.load(Ordering::Relaxed);
            send(&mut client);
            // The executor has looked for commands once more when this is answered.
            executors.grant(number, round, &Granted::All);
            answer(number);
            assert_eq!(runs.load(Ordering::Relaxed), before, "round {round}: it is served on");
            served += before;
        }
        assert!(served > 0, "nothing was served before");
        // Its threads end the process when they end.
        std::mem::forget(executors);
    }
}
