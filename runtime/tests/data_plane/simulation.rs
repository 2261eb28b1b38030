//! A seeded simulation of clients, links that duplicate and delay, and executors that share slot records: effects at most once.
//!
//! Clients here do what a lossy transport's client would: they send the same request again, through the same executor or another one,
//! while the first is waiting, running or done. Executors, slot records and links are the real ones.

use crate::executors::{ADD_HANDLER, LOCKED_HANDLER, READ_HANDLER, cold_region, deployment, executor, target, word};
use runtime::deployment::Limits;
use runtime::executor::{Command, Executor, ServerSession};
use runtime::memory::Region;
use runtime::message::Header;
use runtime::session::{Grants, SlotTable};
use runtime::transport::duplicating::Duplicating;
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::{Link, body_record_bytes};

const SLOTS: u16 = 4;
const EXECUTORS: usize = 2;

/// A request under way in a client's slot.
#[derive(Clone)]
struct Request {
    header: Header,
    body: Vec<u8>,
    /// The answer, once there is one: execution id and body.
    answer: Option<(u64, Vec<u8>)>,
}

struct Client {
    links: Vec<Duplicating<RingLink>>,
    requests: Vec<Option<Request>>,
    sequences: Vec<u32>,
}

/// What the counters must be in the end, and what additions have said they found.
struct Expected {
    additions: [u64; 16],
    found: Vec<(u64, u64)>,
}

impl Client {
    /// Sends a request through some executor, if there is room.
    fn send(&mut self, slot: usize, random: &mut fastrand::Rng) {
        let Some(request) = &self.requests[slot] else { return };
        let link = &mut self.links[random.usize(..EXECUTORS)];
        let record = body_record_bytes(request.body.len());
        if link.room_bytes(record).unwrap() >= record {
            link.send(&request.header.emit(), &request.body, &[]);
        }
    }

    /// Starts a request in a free slot: most of them change counters.
    fn start(&mut self, slot: usize, random: &mut fastrand::Rng, expected: &mut Expected) {
        let handler = [ADD_HANDLER, ADD_HANDLER, LOCKED_HANDLER, READ_HANDLER][random.usize(..4)];
        let counter = random.u64(1..8);
        // The lock protects its own counters.
        let counter = if handler == LOCKED_HANDLER { counter + 8 } else { counter };
        if handler != READ_HANDLER {
            expected.additions[counter as usize] += 1;
        }
        self.sequences[slot] += 1;
        let header = Header::request(target(handler), slot as u16, self.sequences[slot], random.u16(..1024), 8);
        self.requests[slot] = Some(Request { header, body: counter.to_le_bytes().to_vec(), answer: None });
    }

    /// Takes replies. All answers to one claimed request come from one execution.
    fn receive(&mut self, random: &mut fastrand::Rng, expected: &mut Expected) {
        for link in &mut self.links {
            while let Some(words) = link.next().unwrap() {
                let reply = Header::parse(&words).unwrap();
                let mut body = vec![0; usize::from(reply.body_bytes)];
                link.copy(0, &mut body);
                link.advance();
                let Some(request) = &mut self.requests[usize::from(reply.slot)] else { continue };
                if reply.sequence != request.header.sequence {
                    continue;
                }
                assert_eq!((reply.error, reply.result), (None, 0));
                let claimed = reply.target.handler != READ_HANDLER;
                match &request.answer {
                    None => {
                        if reply.target.handler == ADD_HANDLER {
                            let number = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap());
                            expected.found.push((number(0), number(8)));
                        }
                        request.answer = Some((reply.execution, body));
                    }
                    Some(answer) if claimed => assert_eq!(*answer, (reply.execution, body), "one execution answers"),
                    Some(_) => {}
                }
                if random.u8(..4) == 0 {
                    break;
                }
            }
            link.flush();
        }
    }
}

/// Runs one world and returns how many requests it answered and how many duplicates its executors saw.
fn simulate(seed: u64, ring_bytes: u32, requests_max: u64) -> (u64, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let region: Region = cold_region(64);
    let deployment = deployment(region.clone(), Limits { udma_operations: u32::MAX, ..Limits::default() });
    let activations = random.usize(1..9);
    let mut executors: Vec<Executor<Duplicating<RingLink>>> =
        (1..=EXECUTORS as u16).map(|number| executor(number, &deployment, activations)).collect();
    let sizes = RingSizes { request_bytes: ring_bytes, reply_bytes: ring_bytes };
    let mut clients: Vec<Client> = (0..3)
        .map(|id| {
            let slots = SlotTable::anonymous(SLOTS).unwrap();
            let links = executors.iter_mut().map(|executor| {
                let (server, client) = RingLink::pair(sizes).unwrap();
                let link = Duplicating::new(server, 60, random.u64(..));
                executor.apply(Command::Attach(ServerSession { id, link, slots: slots.clone(), grants: Grants::all() }));
                Duplicating::new(client, 60, random.u64(..))
            });
            Client { links: links.collect(), requests: vec![None; SLOTS.into()], sequences: vec![0; SLOTS.into()] }
        })
        .collect();
    let mut expected = Expected { additions: [0; 16], found: Vec::new() };
    let (mut started, mut answered, mut steps) = (0, 0, 0u64);
    while answered < requests_max {
        steps += 1;
        assert!(steps < 2_000_000, "seed {seed}: no progress after {answered} answers");
        if random.bool() {
            executors[random.usize(..EXECUTORS)].turn(steps);
            continue;
        }
        let client = &mut clients[random.usize(..3)];
        for slot in 0..usize::from(SLOTS) {
            match &client.requests[slot] {
                None if started < requests_max => {
                    client.start(slot, &mut random, &mut expected);
                    client.send(slot, &mut random);
                    started += 1;
                }
                // Done, and sometimes asked for once more before the slot goes on.
                Some(request) if request.answer.is_some() && random.u8(..3) == 0 => {
                    client.requests[slot] = None;
                    answered += 1;
                }
                Some(_) if random.u8(..6) == 0 => client.send(slot, &mut random),
                _ => {}
            }
        }
        client.receive(&mut random, &mut expected);
    }
    // What is still under way are duplicates: they must not change anything any more.
    for step in 0..500 {
        executors.iter_mut().for_each(|executor| {
            executor.turn(steps + step);
        });
        clients.iter_mut().for_each(|client| client.receive(&mut random, &mut expected));
    }
    for (counter, additions) in expected.additions.iter().enumerate().skip(1) {
        assert_eq!(word(&region, counter as u64), *additions, "seed {seed}: counter {counter}");
        if counter > 8 {
            continue;
        }
        let mut found: Vec<u64> = expected.found.iter().filter(|(at, _)| *at == counter as u64).map(|(_, old)| *old).collect();
        found.sort_unstable();
        assert_eq!(found, (0..*additions).collect::<Vec<_>>(), "seed {seed}: every value is found once");
    }
    assert_eq!(word(&region, 0), 0, "seed {seed}: the lock is free");
    (answered, executors.iter().map(|executor| executor.counters().duplicates).sum())
}

/// Requests sent again and again, through two executors, have their effect once and one answer.
#[test]
fn effects_happen_once() {
    let mut duplicates = 0;
    for seed in 0..40 {
        let (answered, seen) = simulate(seed, 4096, 400);
        assert_eq!(answered, 400);
        duplicates += seen;
    }
    assert!(duplicates > 10_000, "only {duplicates} duplicates were seen");
}

/// The same with rings that hold two records: nobody waits for a peer's queue, so nothing stops.
#[test]
fn tiny_rings_do_not_deadlock() {
    for seed in 100..120 {
        assert_eq!(simulate(seed, 256, 200).0, 200);
    }
}
