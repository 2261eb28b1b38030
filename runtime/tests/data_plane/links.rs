//! Links: what is sent arrives, in order, through rings of every size; a hostile peer can break its own link and nothing else.

use naamc::abi::HEADER_BYTES;
use runtime::memory::Mapping;
use runtime::message::{Header, Target};
use runtime::transport::duplicating::Duplicating;
use runtime::transport::shared_memory::{RING_BYTES_MIN, RingLink, RingSizes};
use runtime::transport::wake::{Wake, wait_any};
use runtime::transport::{Broken, Link, WaitFor, body_record_bytes};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn request(sequence: u32, body: &[u8]) -> Header {
    Header::request(Target::default(), 0, sequence, 0, body.len() as u16)
}

fn body(sequence: u32, length: usize) -> Vec<u8> {
    (0..length).map(|index| (sequence as usize * 31 + index) as u8).collect()
}

/// Takes the next message and checks that it is the expected one.
fn expect(link: &mut impl Link, sequence: u32) -> bool {
    let Some(words) = link.next().unwrap() else { return false };
    let header = Header::parse(&words).unwrap();
    assert_eq!(header.sequence, sequence);
    let mut bytes = vec![0xee; usize::from(header.body_bytes) + 5];
    link.copy(0, &mut bytes);
    let (arrived, beyond) = bytes.split_at(usize::from(header.body_bytes));
    assert_eq!(arrived, body(sequence, arrived.len()));
    assert_eq!(beyond, [0; 5], "bytes beyond the message read as zero");
    link.advance();
    true
}

/// Random traffic in both directions, through rings from two records up, with batches of any size: every message once, in order.
#[test]
fn messages_arrive_in_order() {
    for (seed, ring_bytes) in [(1, RING_BYTES_MIN), (2, 256), (3, 1024), (4, 8192), (5, 64 << 10)] {
        let mut random = fastrand::Rng::with_seed(seed);
        let (server, client) = RingLink::pair(RingSizes { request_bytes: ring_bytes, reply_bytes: ring_bytes }).unwrap();
        let mut ends = [server, client];
        let body_bytes_max = (ring_bytes as usize - HEADER_BYTES).min(8000);
        let (mut sent, mut received) = ([0u32; 2], [0u32; 2]);
        for _ in 0..5_000 {
            let side = random.usize(..2);
            for _ in 0..random.usize(..4) {
                let bytes = body(sent[side], random.usize(..=body_bytes_max));
                let record = body_record_bytes(bytes.len());
                if ends[side].room_bytes(record).unwrap() >= record {
                    ends[side].send(&request(sent[side], &bytes).emit(), &bytes, &[]);
                    sent[side] += 1;
                }
            }
            if random.u8(..4) > 0 {
                ends[side].flush();
            }
            while random.u8(..4) > 0 && expect(&mut ends[side], received[1 - side]) {
                received[1 - side] += 1;
            }
        }
        assert!(received[0] > 500 && received[1] > 500, "{ring_bytes} byte rings: {received:?}");
    }
}

/// Without room nothing is sent, and nothing under way is touched.
#[test]
fn full_rings_take_nothing() {
    let (mut server, mut client) = RingLink::pair(RingSizes { request_bytes: 128, reply_bytes: 128 }).unwrap();
    for sequence in 0..5 {
        client.send(&request(sequence, &[]).emit(), &[], &[]);
    }
    client.flush();
    assert!(expect(&mut server, 0) && expect(&mut server, 1) && !expect(&mut server, 2));
    assert_eq!(client.room_bytes(64), Ok(0), "room comes back when the consumer says so, not before");
    server.flush();
    assert_eq!(client.room_bytes(64), Ok(128));
}

/// A continuation travels behind the body, at a multiple of 8.
#[test]
fn continuations_follow_the_body() {
    let (mut server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut header = request(0, &[1, 2, 3]);
    header.kind = runtime::message::Kind::Continuation;
    header.continuation_bytes = 4;
    client.send(&header.emit(), &[1, 2, 3], &[9, 8, 7, 6]);
    client.flush();
    let header = Header::parse(&server.next().unwrap().unwrap()).unwrap();
    let mut continuation = [0; 4];
    server.copy(header.continuation_offset(), &mut continuation);
    assert_eq!(continuation, [9, 8, 7, 6]);
}

fn raw_link(sizes: RingSizes) -> (Arc<Mapping>, RingLink, Wake) {
    let mapping = sizes.create().unwrap().map().unwrap();
    let (wake, other) = Wake::pair().unwrap();
    (mapping.clone(), RingLink::server(mapping, sizes, wake).unwrap(), other)
}

/// 20,000 hostile states of the whole shared memory, half of them nearly right: the executor's end never panics, never hands over
/// more than a ring's worth, and what it hands over is a record inside the ring.
#[test]
fn hostile_memory_breaks_only_its_link() {
    let sizes = RingSizes { request_bytes: 512, reply_bytes: 512 };
    let mut random = fastrand::Rng::with_seed(6);
    let (mut broken, mut taken) = (0, 0);
    for round in 0..20_000u32 {
        let (mapping, mut link, _wake) = raw_link(sizes);
        let mut header = request(round, &[]).emit();
        for _ in 0..random.usize(1..6) {
            for word in mapping.words() {
                if round % 2 == 0 {
                    word.store(random.u64(..), Ordering::Relaxed);
                }
            }
            // Cursors close to what is legal, and lengths likewise.
            header.0[0] = header.0[0] & !0xffff_ffff | u64::from(random.u32(60..260));
            if random.u8(..4) > 0 {
                let at = 4096 / 8 + random.usize(..8) * 8;
                mapping.words()[at..at + 8].iter().zip(header.0).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
            }
            let unit = if random.u8(..8) == 0 { 32 } else { 64 };
            mapping.words()[0].store(random.u64(..10) * unit, Ordering::Relaxed);
            mapping.words()[1].store(random.u64(..10) * unit, Ordering::Relaxed);
            let mut bytes_taken = 0;
            loop {
                match link.next() {
                    Err(_) => {
                        broken += 1;
                        break;
                    }
                    Ok(None) => break,
                    Ok(Some(words)) => {
                        let length = words.length_field() as usize;
                        assert!((HEADER_BYTES..=512).contains(&length), "round {round}");
                        let mut body = vec![0; length];
                        link.copy(0, &mut body);
                        link.advance();
                        bytes_taken += length.next_multiple_of(64);
                        taken += 1;
                        assert!(bytes_taken <= 512, "round {round}");
                    }
                }
            }
            let _ = link.room_bytes(64).map(|room| assert!(room <= 512));
            link.send(&request(round, &[]).emit(), &[], &[]);
            link.flush();
            let _ = link.arm(WaitFor::Messages);
            let _ = link.disarm();
        }
    }
    assert!(broken > 1_000 && taken > 1_000, "{broken} broken, {taken} records");
}

/// Cursors that cannot be are an error, each by itself.
#[test]
fn impossible_cursors_are_refused() {
    let sizes = RingSizes { request_bytes: 512, reply_bytes: 512 };
    for tail in [1, 63, 65, 576, u64::MAX, u64::MAX - 63] {
        let (mapping, mut link, _wake) = raw_link(sizes);
        mapping.words()[0].store(tail, Ordering::Relaxed);
        assert_eq!(link.next(), Err(Broken::Cursor), "tail {tail}");
    }
    for head in [1, 64, 512, u64::MAX, u64::MAX - 63] {
        let (mapping, mut link, _wake) = raw_link(sizes);
        mapping.words()[1].store(head, Ordering::Relaxed);
        assert_eq!(link.room_bytes(1 << 20), Err(Broken::Cursor), "head {head}");
    }
    for length in [0, 63, 129, 512, 8193, u32::MAX] {
        let (mapping, mut link, _wake) = raw_link(sizes);
        mapping.words()[512].store(u64::from(length), Ordering::Relaxed);
        mapping.words()[0].store(128, Ordering::Relaxed);
        assert_eq!(link.next(), Err(Broken::Record), "length {length}");
    }
    assert!(RingLink::pair(RingSizes { request_bytes: 192, reply_bytes: 512 }).is_err(), "lengths are powers of two");
    assert!(RingLink::pair(RingSizes { request_bytes: 64, reply_bytes: 512 }).is_err(), "two records fit");
}

/// Two threads that sleep whenever there is nothing to do exchange messages one by one and in bursts: no wake-up is lost.
#[test]
fn sleepers_are_woken() {
    const MESSAGES: u32 = 20_000;
    let (mut server, mut client) = RingLink::pair(RingSizes { request_bytes: 256, reply_bytes: 256 }).unwrap();
    let sleep = |link: &mut RingLink, wait_for| {
        if link.arm(wait_for).unwrap() {
            wait_any(&[link.descriptor().unwrap()], None).unwrap();
        }
        link.disarm().unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut answered = 0;
            while answered < MESSAGES {
                if server.next().unwrap().is_none() {
                    server.flush();
                    sleep(&mut server, WaitFor::Messages);
                } else if server.room_bytes(64).unwrap() < 64 {
                    server.flush();
                    sleep(&mut server, WaitFor::MessagesOrRoom);
                } else {
                    assert!(expect(&mut server, answered));
                    server.send(&request(answered, &[]).emit(), &[], &[]);
                    answered += 1;
                }
            }
            server.flush();
        });
        let mut random = fastrand::Rng::with_seed(7);
        let (mut sent, mut received) = (0, 0);
        while received < MESSAGES {
            for _ in 0..random.u32(..8) {
                let bytes = body(sent, random.usize(..64));
                let record = body_record_bytes(bytes.len());
                if sent < MESSAGES && client.room_bytes(record).unwrap() >= record {
                    client.send(&request(sent, &bytes).emit(), &bytes, &[]);
                    sent += 1;
                }
            }
            client.flush();
            if received < sent && client.next().unwrap().is_none() {
                sleep(&mut client, WaitFor::Messages);
            }
            while expect(&mut client, received) {
                received += 1;
            }
        }
    });
}

/// A peer that is gone is noticed; a peer that is woken too often does not hold up the one that wakes it.
#[test]
fn wake_ends_are_independent() {
    let (one, other) = Wake::pair().unwrap();
    (0..100_000).for_each(|_| one.wake());
    assert!(other.drain());
    drop(one);
    // A flood is taken in bounded portions, and the end is seen behind it.
    assert!((0..100_000).any(|_| !other.drain()));
    other.wake();
}

/// The duplicating link delivers every message at least once, some of them more often, each with its own bytes.
#[test]
fn duplicates_are_copies() {
    let (server, mut client) = RingLink::pair(RingSizes::default()).unwrap();
    let mut server = Duplicating::new(server, 100, 8);
    let mut seen: HashMap<u32, u32> = HashMap::new();
    for sequence in 0..3_000 {
        let bytes = body(sequence, sequence as usize % 90);
        assert!(client.room_bytes(256).unwrap() >= 256);
        client.send(&request(sequence, &bytes).emit(), &bytes, &[]);
        client.flush();
        for _ in 0..2 {
            let Some(words) = server.next().unwrap() else { break };
            let number = Header::parse(&words).unwrap().sequence;
            assert_eq!(server.next().unwrap(), Some(words), "the message stays until it is taken");
            assert!(expect(&mut server, number));
            *seen.entry(number).or_default() += 1;
        }
        server.flush();
    }
    while server.next().unwrap().is_some() {
        let number = Header::parse(&server.next().unwrap().unwrap()).unwrap().sequence;
        assert!(expect(&mut server, number));
        *seen.entry(number).or_default() += 1;
    }
    assert_eq!(seen.len(), 3_000);
    assert_eq!(u64::from(seen.values().sum::<u32>()), 3_000 + server.duplicates());
    assert!(server.duplicates() > 500);
}
