//! Hostile UDMA operations and continuations from a client: half of them are well-formed. Nothing is accepted beyond the session's grants,
//! and its neighbour is served all the while.

use crate::corpus::{self, Subject};
use naamc::abi::{BODY_BYTES_MAX, Rights};
use naamc::activation::Activation;
use naamc::continuation;
use naamc::interpreter::Outcome;
use runtime::client::Session;
use runtime::deployment::{Binding, Checked, Deployment, Identity, Limits};
use runtime::engine::Turn;
use runtime::engine::jit::JitEngine;
use runtime::executor::{Command, Executor, Options, ServerSession};
use runtime::memory::{Mapping, Region};
use runtime::message::{Header, HeaderWords, Kind, RuntimeError, Target};
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, SlotTable};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::wake::Wake;
use runtime::transport::{Broken, Link, WaitFor, record_bytes};
use runtime::udma::wire::WireOperation;
use runtime::udma::{Action, Local};
use runtime::waiting::Waiting;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const ROUNDS: usize = 10_000;
const GENERATION: u16 = 7;

/// A deployment of the subject's handlers, and its regions.
fn deploy(subject: &Subject, index: u16, rights: Rights, random: &mut fastrand::Rng) -> (Arc<Deployment>, Vec<Region>) {
    let contents = subject.region_contents(random);
    let mut regions: Vec<Region> = corpus::regions(&contents).iter().cloned().collect();
    // As large ones are: before long reads messages suspend.
    regions.iter_mut().for_each(|region| region.set_cold(true));
    let meaning = &subject.bundle.bundle().meaning;
    let handlers = Checked::all_of(&subject.bundle);
    let bindings = regions.iter().map(|region| Binding { region: region.clone(), rights }).collect();
    let identity = Identity { name: subject.name.clone(), index, generation: GENERATION };
    let deployment =
        Deployment::bind(identity, &meaning.environment, &handlers, bindings, &JitEngine, Limits::default()).expect("it binds");
    (Arc::new(deployment), regions)
}

/// A continuation that a run of a handler really has, with its body; `None` if the run does not suspend that often.
fn continuation_of(subject: &Subject, deployment: &Deployment, random: &mut fastrand::Rng) -> Option<(u16, Vec<u8>, Vec<u8>)> {
    let handler = random.usize(..subject.handlers().len());
    let body = subject.body(handler, random);
    let mut activation = Activation::new_boxed();
    activation.begin(&body, 1000, 1000);
    for _ in 0..=random.usize(..4) {
        let mut turn = Turn::new(deployment.regions(), 1);
        turn.operations_left = u32::from(activation.point != naamc::activation::POINT_START);
        if deployment.handlers()[handler].program().run(&mut activation, &mut turn) != Outcome::Suspended {
            return None;
        }
    }
    let mut bytes = vec![0; BODY_BYTES_MAX];
    let length = continuation::encode(&subject.bundle.proofs()[handler], &activation, &mut bytes)?;
    bytes.truncate(length);
    Some((handler as u16, activation.body()[..body.len()].to_vec(), bytes))
}

/// Something that a hostile client sends to a deployment: header fields, body and continuation.
fn hostile(subject: &Subject, deployment: &Deployment, random: &mut fastrand::Rng) -> (Header, Vec<u8>, Vec<u8>) {
    let slot = if random.u8(..16) == 0 { random.u16(..) } else { random.u16(..16) };
    let request = |handler: u16, body: &[u8]| {
        let target = Target { deployment: deployment.index(), generation: GENERATION, handler };
        Header::request(target, slot, random_sequence(), 0, body.len() as u16)
    };
    fn random_sequence() -> u32 {
        fastrand::u32(..)
    }
    if random.bool()
        && let Some((handler, mut body, mut bytes)) = continuation_of(subject, deployment, random)
    {
        if random.bool() {
            for _ in 0..random.usize(1..4) {
                let spoilt = if random.bool() { &mut body } else { &mut bytes };
                let at = random.usize(..spoilt.len());
                spoilt[at] ^= 1 << random.u8(..8);
            }
        }
        let header = request(handler, &body);
        return (Header { kind: Kind::Continuation, continuation_bytes: bytes.len() as u16, ..header }, body, bytes);
    }
    let action = match random.u8(..4) {
        0 => Action::Read,
        1 => Action::Write,
        2 => Action::CompareSwap { expected: random.u64(..4), desired: random.u64(..) },
        _ => Action::FetchAdd { addend: random.u64(..) },
    };
    let offset = if random.u8(..8) == 0 { random.u64(..) } else { random.u64(..2 << 17) };
    let length_bytes = match action {
        Action::Read | Action::Write => random.u32(..600),
        _ => 8,
    };
    let mut body = WireOperation { action, offset, length_bytes }.emit().to_vec();
    if action == Action::Write {
        body.extend((0..length_bytes).map(|_| random.u8(..)));
    }
    if random.bool() {
        let at = random.usize(..body.len());
        body[at] ^= 1 << random.u8(..8);
        body.truncate(random.usize(..=body.len()));
    }
    let header = request(random.u16(..4), &body);
    (Header { kind: Kind::Udma, ..header }, body, Vec::new())
}

/// Sends hostile messages to the first deployment from a session with these grants. Returns how each was answered, and whether regions of the
/// first deployment and of the second have changed.
fn attack(grants: &Grants, rights: Rights) -> (BTreeMap<String, usize>, [bool; 2]) {
    let mut random = fastrand::Rng::with_seed(0x6e61_616d_0005);
    let subject = Subject::load("mica");
    let (first, first_regions) = deploy(&subject, 1, rights, &mut random);
    let (second, second_regions) = deploy(&subject, 2, Rights::ALL, &mut random);
    let before = [corpus::contents(&first_regions), corpus::contents(&second_regions)];
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(first.clone()));
    executor.apply(Command::Deploy(second));
    let attach = |executor: &mut Executor<RingLink>, id, grants| {
        let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
        executor.apply(Command::Attach(ServerSession { id, link: server, slots: SlotTable::anonymous(16).unwrap(), grants }));
        client
    };
    let mut hostile_link = attach(&mut executor, 5, grants.clone());
    let mut invoking = Grants::none();
    invoking.allow_invoke(2);
    let neighbour_link = attach(&mut executor, 6, invoking);
    let mut neighbour = Session::new(6, 16, vec![(1, neighbour_link)], None, Waiting { spin_us: 0 });
    let mut answers = BTreeMap::new();
    for round in 0..ROUNDS {
        let (header, body, bytes) = hostile(&subject, &first, &mut random);
        assert!(hostile_link.room_bytes(8192).unwrap() >= 8192, "there is room for any message");
        hostile_link.send(&header.emit(), &body, &bytes);
        hostile_link.flush();
        neighbour.submit(Target { deployment: 2, generation: GENERATION, handler: 0 }, None, &[0; 8], round as u64).unwrap();
        neighbour.flush();
        let mut served = 0;
        for _ in 0..10_000 {
            executor.turn(0);
            served += neighbour.poll(|_| ()).unwrap();
            while let Some(words) = hostile_link.next().expect("the link holds") {
                let reply = Header::parse(&words).expect("an executor sends headers");
                let how = reply.error.map_or("a result".to_owned(), |error| error.to_string());
                *answers.entry(how).or_insert(0) += 1;
                hostile_link.advance();
            }
            if served == 1 && executor.under_way() == 0 {
                break;
            }
        }
        assert_eq!(served, 1, "round {round}: the neighbour was not served");
    }
    assert_eq!(executor.under_way(), 0, "something is left under way");
    let changed = [corpus::contents(&first_regions) != before[0], corpus::contents(&second_regions) != before[1]];
    (answers, changed)
}

/// Without a direct grant nothing is resumed and no region is reached, however well-formed the message.
#[test]
fn without_a_direct_grant_nothing_is_accepted() {
    let mut invoking = Grants::none();
    invoking.allow_invoke(1);
    for grants in [Grants::none(), invoking] {
        let (answers, changed) = attack(&grants, Rights::ALL);
        assert_eq!(changed, [false, false]);
        let only: Vec<&str> = answers.keys().map(String::as_str).collect();
        assert_eq!(only, [RuntimeError::NotGranted.to_string()], "{answers:?}");
        assert_eq!(answers.values().sum::<usize>(), ROUNDS);
    }
}

/// With one, what is well-formed is served, on that deployment alone, and nothing else is.
#[test]
fn a_direct_grant_reaches_its_own_deployment_only() {
    let mut direct = Grants::none();
    direct.allow_direct(1);
    let (answers, changed) = attack(&direct, Rights::ALL);
    println!("{answers:?}");
    assert_eq!(changed, [true, false]);
    let count = |error: RuntimeError| answers.get(&error.to_string()).copied().unwrap_or(0);
    assert!(count(RuntimeError::BadContinuation) > 100 && count(RuntimeError::Malformed) > 1000, "{answers:?}");
    assert!(answers["a result"] > 1000, "{answers:?}");
}

/// What the deployment may not do with a region, nobody may do through it.
#[test]
fn rights_of_a_binding_hold_on_the_wire() {
    let subject = Subject::load("chase");
    let mut random = fastrand::Rng::with_seed(3);
    let (deployment, regions) = deploy(&subject, 1, Rights::READ, &mut random);
    let before = corpus::contents(&regions);
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment));
    let (server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
    let operations = [Action::Read, Action::Write, Action::CompareSwap { expected: 0, desired: 1 }, Action::FetchAdd { addend: 1 }];
    let outcomes = (1..).zip(operations).map(|(sequence, action)| {
        let mut body = WireOperation { action, offset: 0, length_bytes: 8 }.emit().to_vec();
        body.extend(if action == Action::Write { &[1; 8][..] } else { &[] });
        let target = Target { deployment: 1, generation: GENERATION, handler: 0 };
        let header = Header { kind: Kind::Udma, ..Header::request(target, 0, sequence, 0, body.len() as u16) };
        client.send(&header.emit(), &body, &[]);
        client.flush();
        executor.turn(0);
        let reply = Header::parse(&client.next().unwrap().expect("a reply")).unwrap();
        client.advance();
        (reply.error, reply.body_bytes)
    });
    let denied = (Some(RuntimeError::NotGranted), 0);
    assert_eq!(outcomes.collect::<Vec<_>>(), [(None, 8), denied, denied, denied]);
    assert_eq!(corpus::contents(&regions), before);
}

/// What a message has cost so far is its sender's word: it goes into the reply, and nothing is counted, nor decided, by it. With every number
/// that there is a suspension more does not overflow, and no message leaves a server.
#[test]
fn what_a_continuation_has_cost_is_only_its_senders_word() {
    let subject = Subject::load("mica");
    let mut random = fastrand::Rng::with_seed(11);
    let (deployment, _) = deploy(&subject, 1, Rights::ALL, &mut random);
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment.clone()));
    let (server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link: server, slots, grants: Grants::all() }));
    let (mut suspended, mut sequence) = (0, 0);
    while sequence < 500 {
        let Some((handler, body, bytes)) = continuation_of(&subject, &deployment, &mut random) else { continue };
        sequence += 1;
        let before = executor.counters();
        let target = Target { deployment: 1, generation: GENERATION, handler };
        let header = Header {
            kind: Kind::Continuation,
            continuation_bytes: bytes.len() as u16,
            suspensions: u32::MAX,
            udma_operations: u32::MAX,
            ..Header::request(target, 0, sequence, 0, body.len() as u16)
        };
        assert!(client.room_bytes(8192).unwrap() >= 8192, "there is room for any message");
        client.send(&header.emit(), &body, &bytes);
        client.flush();
        let reply = loop {
            executor.turn(0);
            if let Some(words) = client.next().unwrap() {
                break Header::parse(&words).unwrap();
            }
        };
        client.advance();
        assert_eq!((reply.kind, reply.suspensions, reply.udma_operations), (Kind::Reply, u32::MAX, u32::MAX), "message {sequence}");
        let counters = executor.counters();
        let (suspensions, operations) =
            (counters.suspensions - before.suspensions, counters.udma_operations - before.udma_operations);
        // None is counted of a message whose number cannot be told from what it brought.
        assert!(suspensions <= 1000 && operations <= 1000, "{suspensions} suspensions and {operations} operations");
        suspended += u64::from(executor.counters().turns - before.turns > 1);
    }
    assert!(suspended > 0, "no message was suspended");
}

/// Recovering from an executor that lives would open its locks: only who may write to the regions anyhow may ask for it.
#[test]
fn recovery_is_not_for_everybody() {
    let subject = Subject::load("mica");
    let mut random = fastrand::Rng::with_seed(4);
    let (deployment, _) = deploy(&subject, 1, Rights::ALL, &mut random);
    let recover = deployment.handler("recover").expect("MICA recovers");
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment));
    let (mut invoking, mut direct) = (Grants::none(), Grants::none());
    invoking.allow_invoke(1);
    direct.allow_direct(1);
    for (id, grants, expected) in [(5, invoking, Err(RuntimeError::NotGranted)), (6, direct, Ok(()))] {
        let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let slots = SlotTable::anonymous(16).unwrap();
        executor.apply(Command::Attach(ServerSession { id, link: server, slots, grants }));
        let mut session = Session::new(id, 16, vec![(1, client)], None, Waiting { spin_us: 0 });
        session.submit(Target { deployment: 1, generation: GENERATION, handler: recover }, None, &[9; 16], 0).unwrap();
        session.flush();
        let mut outcome = None;
        while outcome.is_none() {
            executor.turn(0);
            session.poll(|completion| outcome = Some(completion.outcome.map(|_| ()))).unwrap();
        }
        assert_eq!(outcome, Some(expected));
    }
}

/// An executor's end of a link whose client changes the header at the front between two looks at it.
struct Fickle {
    link: RingLink,
    memory: Arc<Mapping>,
    sizes: RingSizes,
    taken: u64,
    record_bytes: u64,
    random: fastrand::Rng,
}

impl Link for Fickle {
    fn next(&mut self) -> Result<Option<HeaderWords>, Broken> {
        let header = self.link.next()?;
        let Some(HeaderWords(words)) = header else { return Ok(None) };
        self.record_bytes = record_bytes(words[0] as u32 as usize) as u64;
        // For the next look: any bit, and lengths with which the next record begins where it does.
        let first = (4096 + self.taken % u64::from(self.sizes.request_bytes)) as usize / 8;
        let index = self.random.usize(..8);
        let changed = match (self.random.u8(..4), index) {
            (0, 0) => words[0] >> 32 << 32 | self.random.u64(self.record_bytes - 63..=self.record_bytes).max(64),
            (0, _) => words[index] ^ 1 << self.random.u8(..64),
            (1, 2) => words[2] & !0xffff | u64::from(self.random.u16(..)),
            _ => words[index],
        };
        self.memory.words()[first + index].store(changed, Ordering::Relaxed);
        Ok(header)
    }

    fn advance(&mut self) {
        self.taken += std::mem::take(&mut self.record_bytes);
        self.link.advance();
    }

    fn copy(&mut self, offset: usize, destination: &mut [u8]) {
        self.link.copy(offset, destination);
    }

    fn room_bytes(&mut self, wanted: usize) -> Result<usize, Broken> {
        self.link.room_bytes(wanted)
    }

    fn capacity_bytes(&self) -> usize {
        self.link.capacity_bytes()
    }

    fn send(&mut self, header: &HeaderWords, body: &[u8], continuation: &[u8]) {
        self.link.send(header, body, continuation);
    }

    fn flush(&mut self) {
        self.link.flush();
    }

    fn arm(&mut self, wait_for: WaitFor) -> Result<bool, Broken> {
        self.link.arm(wait_for)
    }

    fn disarm(&mut self) -> Result<(), Broken> {
        self.link.disarm()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.link.descriptor()
    }
}

/// Headers change between two looks: duplicates that were answered, messages of every kind, and such that wait for room. Nothing panics, nothing
/// is left under way, and replies are well-formed.
#[test]
fn headers_that_change_between_two_looks_harm_nobody() {
    let mut random = fastrand::Rng::with_seed(0x6e61_616d_0006);
    let subject = Subject::load("mica");
    let (deployment, _) = deploy(&subject, 1, Rights::ALL, &mut random);
    let mut executor = Executor::new(Options::host(1, 1), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(deployment.clone()));
    let sizes = RingSizes { request_bytes: 32 << 10, reply_bytes: 16 << 10 };
    let memory = sizes.create().unwrap().map().unwrap();
    let (server_wake, client_wake) = Wake::pair().unwrap();
    let link = RingLink::server(memory.clone(), sizes, server_wake).unwrap();
    let mut client = RingLink::client(memory.clone(), sizes, client_wake).unwrap();
    let link = Fickle { link, memory, sizes, taken: 0, record_bytes: 0, random: fastrand::Rng::with_seed(7) };
    let slots = SlotTable::anonymous(16).unwrap();
    executor.apply(Command::Attach(ServerSession { id: 5, link, slots, grants: Grants::all() }));
    let mut outcomes = BTreeMap::new();
    for round in 0..ROUNDS as u32 {
        let (header, body, bytes) = if random.u8(..4) == 0 {
            hostile(&subject, &deployment, &mut random)
        } else {
            // Each number several times: most are duplicates of what was answered.
            let handler = random.usize(..subject.handlers().len());
            let body = subject.body(handler, &mut random);
            let target = Target { deployment: 1, generation: GENERATION, handler: handler as u16 };
            (Header::request(target, random.u16(..16), round / 64 + 1, 0, body.len() as u16), body, Vec::new())
        };
        if client.room_bytes(8192).unwrap() >= 8192 {
            client.send(&header.emit(), &body, &bytes);
        }
        client.flush();
        executor.turn(0);
        // Seldom enough that replies find no room now and then.
        while random.u8(..4) == 0 {
            let Some(words) = client.next().unwrap() else { break };
            let reply = Header::parse(&words).expect("an executor sends headers");
            *outcomes.entry(format!("{:?} {:?}", reply.kind, reply.error)).or_insert(0) += 1;
            client.advance();
        }
    }
    for _ in 0..10_000 {
        executor.turn(0);
        while client.next().unwrap().is_some() {
            client.advance();
        }
        client.flush();
    }
    assert_eq!(executor.under_way(), 0, "something is left under way");
    assert_eq!(executor.take_events(), [], "the session is served to the end");
    assert!(executor.counters().duplicates > 100 && outcomes.len() > 4, "{:?} {outcomes:?}", executor.counters());
}
