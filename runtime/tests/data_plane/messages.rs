//! Headers: legal ones survive a round trip; nothing else is ever taken for one.

use naamc::abi::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use runtime::message::{FLOWS, Header, HeaderWords, Kind, Malformed, Origin, Place, RuntimeError, Target};

fn random_header(random: &mut fastrand::Rng) -> Header {
    let kind = random.choice([Kind::Request, Kind::Reply, Kind::Continuation]).unwrap();
    let continuation_bytes = if kind == Kind::Continuation { random.u16(1..=4000) } else { 0 };
    Header {
        kind,
        target: Target { deployment: random.u16(..), generation: random.u16(..), handler: random.u16(..) },
        session: random.u32(..),
        slot: random.u16(..),
        sequence: random.u32(..),
        execution: random.u64(..),
        body_bytes: random.u16(..=4000),
        continuation_bytes,
        result: random.i32(..),
        error: if random.bool() { random.choice(RuntimeError::ALL) } else { None },
        executor: random.u16(..),
        place: random.choice([Place::None, Place::Client, Place::Nic, Place::Host]).unwrap(),
        flow: random.u16(..FLOWS as u16),
        back_edges_left: random.u32(..),
        udma_operations_left: random.u32(..),
        suspensions: random.u32(..),
        udma_operations: random.u32(..),
    }
}

/// What is emitted parses to the same, as words and as bytes.
#[test]
fn headers_survive() {
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..10_000 {
        let header = random_header(&mut random);
        let words = header.emit();
        assert_eq!(Header::parse(&words), Ok(header));
        assert_eq!(HeaderWords::from_bytes(&words.to_bytes()), words);
        assert_eq!(words.length_field() as usize, header.message_bytes());
        let unknown = Origin::of_unknown(&words);
        assert_eq!((unknown.slot(), unknown.sequence()), (header.slot, header.sequence));
    }
}

/// The byte table of the format, field by field: a header with known values has these bytes.
#[test]
fn headers_have_the_documented_bytes() {
    let header = Header {
        kind: Kind::Reply,
        target: Target { deployment: 0x0102, generation: 0x0304, handler: 0x0506 },
        session: 0x0708_090a,
        slot: 0x0b0c,
        sequence: 0x0d0e_0f10,
        execution: 0x1112_1314_1516_1718,
        body_bytes: 0x0101,
        continuation_bytes: 0,
        result: -2,
        error: Some(RuntimeError::Busy),
        executor: 0x191a,
        place: Place::Host,
        flow: 0x03ff,
        back_edges_left: 0x1b1c_1d1e,
        udma_operations_left: 0x1f20_2122,
        suspensions: 0x2324_2526,
        udma_operations: 0x2728_292a,
    };
    let expected: [u8; HEADER_BYTES] = [
        0x41, 0x01, 0, 0, 0, 2, 0x02, 0x01, 0x04, 0x03, 0x06, 0x05, 0x0a, 0x09, 0x08,
        0x07, // length, version, kind, target, session
        0x0c, 0x0b, 0x01, 0x01, 0x10, 0x0f, 0x0e, 0x0d, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12,
        0x11, // slot, body, sequence, execution
        0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 21, 0, 0x1a, 0x19, 3, 0, 0xff,
        0x03, // continuation, result, error, executor, place, flow
        0x1e, 0x1d, 0x1c, 0x1b, 0x22, 0x21, 0x20, 0x1f, 0x26, 0x25, 0x24, 0x23, 0x2a, 0x29, 0x28,
        0x27, // fuel, suspensions, operations
    ];
    assert_eq!(header.emit().to_bytes(), expected);
}

/// Random bytes and damaged headers are either refused or mean exactly what their bytes say; lengths always agree with the message limit.
#[test]
fn damaged_headers_are_refused_or_legal() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut refused, mut legal) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = random_header(&mut random).emit().to_bytes();
        if round % 4 == 0 {
            random.fill(&mut bytes);
        }
        for _ in 0..random.usize(1..3) {
            bytes[random.usize(..HEADER_BYTES)] ^= 1 << random.u32(..8);
        }
        match Header::parse(&HeaderWords::from_bytes(&bytes)) {
            Err(_) => refused += 1,
            Ok(header) => {
                legal += 1;
                assert_eq!(header.emit().to_bytes(), bytes, "round {round}");
                assert!(header.message_bytes() <= MESSAGE_BYTES_MAX, "round {round}");
            }
        }
    }
    assert!(refused > 5_000 && legal > 3_000, "{refused} refused, {legal} legal");
}

/// A request is told by masks exactly where it is told field by field, and its fields are the same.
#[test]
fn requests_are_told_the_same_in_both_ways() {
    let mut random = fastrand::Rng::with_seed(4);
    let (mut requests, mut others) = (0, 0);
    for round in 0..50_000 {
        let mut header = random_header(&mut random);
        if round % 8 != 0 {
            (header.kind, header.continuation_bytes) = (Kind::Request, 0);
        }
        let mut words = header.emit();
        for _ in 0..random.usize(..3) {
            words.0[random.usize(..words.0.len())] ^= 1 << random.u32(..64);
        }
        let parsed = Header::parse(&words).ok().filter(|header| header.kind == Kind::Request);
        let origin = Origin::of_request(&words);
        assert_eq!(origin.is_some(), parsed.is_some(), "round {round}: {words:?}");
        let (Some(origin), Some(header)) = (origin, parsed) else {
            others += 1;
            continue;
        };
        requests += 1;
        assert_eq!(origin, Origin::of_header(&words), "round {round}");
        let (own, parsed) = ((origin.target(), origin.flow()), (header.target, header.flow));
        assert_eq!(own, parsed, "round {round}");
        let (own, parsed) =
            ((origin.slot(), origin.sequence(), origin.body_bytes()), (header.slot, header.sequence, header.body_bytes));
        assert_eq!(own, parsed, "round {round}");
        assert_eq!(words.fuel(), (header.back_edges_left, header.udma_operations_left), "round {round}");
    }
    assert!(requests > 10_000 && others > 10_000, "{requests} requests, {others} others");
}

/// Each rule of a header, broken alone, is named.
#[test]
fn each_rule_is_checked() {
    let good = Header::request(Target::default(), 1, 2, 3, 100);
    let broken = |at: usize, value: u8| {
        let mut bytes = good.emit().to_bytes();
        bytes[at] = value;
        Header::parse(&HeaderWords::from_bytes(&bytes))
    };
    assert!(Header::parse(&good.emit()).is_ok());
    assert_eq!(broken(4, 1), Err(Malformed::Version(1)));
    for (at, value) in [(5, 0), (5, 5), (34, 1), (35, 1), (40, 99), (44, 4), (45, 1), (47, 4)] {
        assert_eq!(broken(at, value), Err(Malformed::Field), "byte {at}");
    }
    for (at, value) in [(0, 0), (3, 1), (18, 99), (5, Kind::Continuation as u8), (32, 8)] {
        assert_eq!(broken(at, value), Err(Malformed::Length), "byte {at}");
    }
}
