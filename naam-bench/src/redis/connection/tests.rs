//! The connection and the load generator against a server in this process that speaks the protocol, in pieces, and can be told to lie.

use super::*;
use crate::load::{Client, Phase, Shared, Source};
use crate::measurement::Measurement;
use crate::workload::mix::Workload;
use crate::workload::stream::Stream;
use runtime::clock::MonotonicClock;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;

const KEY_BYTES: usize = 13;
const VALUE_BYTES: usize = 61;
const RECORDS: u64 = 500;

/// What a server does to every thousandth command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// Changes a byte of a value.
    Value,
    /// Says that a key is not there.
    Absent,
    /// Loses a write, but says that it was done.
    Lost,
    /// Refuses a command.
    Refusal,
    /// Answers twice.
    Twice,
    /// Sends what is no reply.
    Nonsense,
    /// Closes the connection.
    Close,
}

/// The arguments of the first command, and its bytes, if it is whole. Commands come from this program, so nothing is doubted.
fn parse_command(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut at = 0;
    let length = |kind: u8, at: &mut usize| -> Option<usize> {
        let end = *at + bytes[*at..].iter().position(|byte| *byte == b'\n')?;
        assert_eq!((bytes[*at], bytes[end - 1]), (kind, b'\r'));
        let number = std::str::from_utf8(&bytes[*at + 1..end - 1]).unwrap().parse().unwrap();
        *at = end + 1;
        Some(number)
    };
    let mut arguments = Vec::new();
    for _ in 0..length(b'*', &mut at)? {
        let bytes_of_it = length(b'$', &mut at)?;
        let argument = bytes.get(at..at + bytes_of_it + 2)?;
        arguments.push(argument.strip_suffix(b"\r\n").expect("it ends where it says"));
        at += bytes_of_it + 2;
    }
    Some((arguments, at))
}

/// Serves one connection until it is closed. Replies are sent in pieces of random lengths.
fn serve(mut stream: UnixStream, lie: Lie, lie_from: u32) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut store: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let (mut bytes, mut piece, mut commands) = (Vec::new(), [0; 1000], 0u32);
    loop {
        let Ok(length) = stream.read(&mut piece) else { return };
        if length == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..length]);
        let (mut start, mut out) = (0, Vec::new());
        while start < bytes.len()
            && let Some((arguments, length)) = parse_command(&bytes[start..])
        {
            start += length;
            commands += 1;
            let lie = if commands > lie_from && commands.is_multiple_of(1000) { lie } else { Lie::None };
            match (arguments[0], lie) {
                (_, Lie::Close) => return,
                (_, Lie::Nonsense) => out.extend_from_slice(b"*1\r\n:1\r\n"),
                (_, Lie::Refusal) => out.extend_from_slice(b"-OOM command not allowed\r\n"),
                (b"GET", Lie::Absent) => out.extend_from_slice(b"$-1\r\n"),
                (b"GET", _) => match store.get(arguments[1]) {
                    Some(value) => {
                        let mut value = value.clone();
                        value[VALUE_BYTES - 1] ^= u8::from(lie == Lie::Value);
                        out.extend(format!("${}\r\n", value.len()).bytes());
                        out.extend([&value[..], b"\r\n"].concat());
                    }
                    None => out.extend_from_slice(b"$-1\r\n"),
                },
                (b"SET", _) => {
                    if lie != Lie::Lost {
                        store.insert(arguments[1].to_vec(), arguments[2].to_vec());
                    }
                    out.extend_from_slice(b"+OK\r\n");
                }
                (other, _) => panic!("{:?} was asked", String::from_utf8_lossy(other)),
            }
            if lie == Lie::Twice {
                out.extend_from_slice(b"+OK\r\n".repeat(1000).as_slice());
            }
        }
        bytes.drain(..start);
        let mut rest = &out[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.usize(1..=rest.len()));
            if stream.write_all(now).is_err() {
                return;
            }
            rest = later;
        }
    }
}

/// Loads, runs the workload until so many requests were answered, and sweeps.
fn run(workload: Workload, lie: Lie) -> Result<[Measurement; 3], String> {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let capacity = RECORDS * 20;
    let (shared, clock) =
        (&Shared::new(workload.stamp(), capacity, KEY_BYTES, VALUE_BYTES, None).overwriting(), &MonotonicClock::new());
    // It ends with our end of the connection.
    std::thread::spawn(move || serve(theirs, lie, RECORDS as u32));
    let mut connection = RedisConnection::new(ours, 32, KEY_BYTES, VALUE_BYTES, Waiting::with_own_core(false)).unwrap();
    let loaded = Client::new(&mut connection, shared, clock, 32).run(Source::Load(RECORDS))?;
    let mut stream = Stream::draw(&workload.mix(), workload.distribution(), RECORDS, (0, 1), 9, |_| {});
    let client = Client::new(&mut connection, shared, clock, 32);
    let measured = std::thread::scope(|scope| {
        let measuring = scope.spawn(|| client.run(Source::Stream(&mut stream, workload.distribution())));
        let mut answered = RECORDS;
        for (phase, requests) in [(Phase::Measure, 1_000), (Phase::Stop, 20_000)] {
            // Counted from the last phase on: whoever measures has then seen it.
            while shared.answered.load(Ordering::Relaxed) < answered + requests && !measuring.is_finished() {
                std::thread::yield_now();
            }
            answered = shared.answered.load(Ordering::Relaxed);
            shared.enter(phase);
        }
        measuring.join().unwrap()
    })?;
    let swept = Client::new(&mut connection, shared, clock, 32).run(Source::Sweep { next: 0, step: 1 })?;
    Ok([loaded, measured, swept])
}

/// Every workload, with replies in pieces: all that is loaded is there, every answer is right, and each read was checked. A
/// read-modify-write is one request.
#[test]
fn honest_servers_are_believed() {
    for workload in [Workload::A, Workload::B, Workload::C, Workload::D, Workload::F] {
        let [loaded, measured, swept] = run(workload, Lie::None).unwrap();
        assert_eq!(loaded.results, [(mica::OK, RECORDS)].into());
        for run in [&measured, &swept] {
            assert_eq!((run.values_wrong, &run.wrong_examples, run.errors.len()), (0, &Vec::new(), 0), "{workload:?}");
            assert_eq!(run.results, [(mica::OK, run.requests())].into(), "{workload:?}");
        }
        let mix = workload.mix();
        let checked = measured.values_checked as f64 / measured.requests() as f64;
        let expected = f64::from(mix.read_percent + mix.read_modify_write_percent) / 100.0;
        assert!((checked - expected).abs() < 0.02, "{workload:?}: {checked} of the answers were checked");
        assert!(swept.values_checked >= RECORDS);
    }
}

/// Each kind of lie is found: as a wrong value, as a result or error that counts, or as the end of the connection.
#[test]
fn lies_are_found() {
    for (workload, lie) in
        [(Workload::B, Lie::Value), (Workload::F, Lie::Value), (Workload::A, Lie::Lost), (Workload::F, Lie::Lost)]
    {
        let [_, measured, swept] = run(workload, lie).unwrap();
        assert!(measured.values_wrong + swept.values_wrong > 0, "{workload:?}, {lie:?}");
    }
    for workload in [Workload::C, Workload::F] {
        let [_, measured, _] = run(workload, Lie::Absent).unwrap();
        assert!(measured.results[&mica::ABSENT] > 2, "{workload:?}");
        let [_, measured, _] = run(workload, Lie::Refusal).unwrap();
        assert!(measured.errors["Redis: OOM command not allowed"] > 2, "{workload:?}");
    }
    for (lie, reason) in [
        (Lie::Twice, "reply"),
        (Lie::Nonsense, "the server sent a reply that begins with byte 0x2a"),
        (Lie::Close, "the server closed the connection"),
    ] {
        let error = run(Workload::C, lie).expect_err("the connection cannot be used any more");
        assert!(error.contains(reason), "{lie:?}: {error}");
    }
}
