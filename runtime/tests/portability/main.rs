//! Portability: the same messages give the same replies and leave the same regions on every engine, with a suspension forced at every
//! UDMA call, and when every message is encoded, decoded and resumed in another process at every suspension. And: whatever
//! continuation the contracts admit, no engine leaves its memory.

mod contracts;
mod corpus;
mod drive;
mod samples;
mod worker;

use corpus::Subject;
use drive::Ending;
use runtime::deployment::Shape;
use runtime::memory::{Pages, Region, Regions, SharedMemory};
use worker::Worker;

/// Messages for each ELF.
const MESSAGES: usize = 400;
/// Of these, how many also move between processes.
const MESSAGES_MOVING: usize = 120;
const SEED: u64 = 0x6e61_616d_0001;

/// Another process when it is started by [`Worker::start`]; nothing otherwise.
#[test]
fn worker_process() {
    worker::serve();
}

/// What a stream of messages leaves behind: each message's ending, and the regions.
type Trail = (Vec<Ending>, Vec<Vec<u8>>);

/// A handler's index and a body for it.
type Message = (usize, Vec<u8>);

/// Contents of regions to start from, and messages.
fn stream(subject: &Subject, count: usize) -> (Vec<Vec<u8>>, Vec<Message>) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let contents = subject.region_contents(&mut random);
    let messages = (0..count)
        .map(|_| {
            let handler = random.usize(..subject.handlers().len());
            (handler, subject.body(handler, &mut random))
        })
        .collect();
    (contents, messages)
}

fn trail(subject: &Subject, engine: &dyn runtime::engine::Engine, count: usize, operations: u32) -> Trail {
    let (contents, messages) = stream(subject, count);
    let regions = corpus::regions(&contents);
    let programs = drive::compile(engine, &subject.bundle, &regions);
    let endings = messages.iter().map(|(handler, body)| drive::run(&*programs[*handler], body, &regions, operations)).collect();
    (endings, corpus::contents(&regions))
}

/// The same through a DMA engine.
fn trail_behind_dma(subject: &Subject, engine: &dyn runtime::engine::Engine, count: usize) -> Trail {
    let (contents, messages) = stream(subject, count);
    let behind = |content: &Vec<u8>| {
        let memory = SharedMemory::create("naam-test", content.len() as u64, Pages::Ordinary).expect("memory");
        let region = Region::behind_dma(memory.map().expect("it can be mapped"), content.len() as u64).expect("it is long enough");
        corpus::filled(region, content)
    };
    let regions: Regions = contents.iter().map(behind).collect();
    let programs = drive::compile(engine, &subject.bundle, &regions);
    let read_only = &subject.bundle.bundle().meaning.environment.read_only;
    let run = |(handler, body): &Message| {
        let operations = Shape::of(&subject.handlers()[*handler].manifest, 0).operations;
        drive::run_behind_dma(&*programs[*handler], body, &regions, &operations, read_only)
    };
    (messages.iter().map(run).collect(), corpus::contents(&regions))
}

fn assert_same(subject: &Subject, way: &str, expected: &Trail, found: &Trail) {
    let (_, messages) = stream(subject, expected.0.len());
    for (index, (handler, body)) in messages.iter().enumerate() {
        let name = &subject.handlers()[*handler].function.name;
        assert_eq!(
            expected.0[index], found.0[index],
            "{way}: message {index} of seed {SEED:#x}, {}/{name} with body {body:02x?}",
            subject.name
        );
    }
    assert!(expected.1 == found.1, "{way}: the regions of {} differ after seed {SEED:#x}", subject.name);
}

#[test]
fn every_engine_and_suspension_gives_the_same() {
    for subject in Subject::all() {
        let [interpreter, jit] = drive::engines();
        let expected = trail(&subject, &*interpreter, MESSAGES, u32::MAX);
        let finished = expected.0.iter().filter(|ending| ending.result.is_ok()).count();
        assert!(finished > MESSAGES / 2, "most messages of {} should end with a result, {finished} did", subject.name);
        assert_same(&subject, "interpreter, suspended at every call", &expected, &trail(&subject, &*interpreter, MESSAGES, 1));
        assert_same(&subject, "JIT", &expected, &trail(&subject, &*jit, MESSAGES, u32::MAX));
        assert_same(&subject, "JIT, suspended at every call", &expected, &trail(&subject, &*jit, MESSAGES, 1));
        assert_same(&subject, "interpreter, behind DMA", &expected, &trail_behind_dma(&subject, &*interpreter, MESSAGES));
        assert_same(&subject, "JIT, behind DMA", &expected, &trail_behind_dma(&subject, &*jit, MESSAGES));
    }
}

#[test]
fn moving_to_another_process_at_every_suspension_gives_the_same() {
    let mut moves_total = 0;
    for subject in Subject::all() {
        let [interpreter, _] = drive::engines();
        let expected = trail(&subject, &*interpreter, MESSAGES_MOVING, u32::MAX);
        let (contents, messages) = stream(&subject, MESSAGES_MOVING);
        let memory = |content: &Vec<u8>| SharedMemory::create("naam-test", content.len() as u64, Pages::Ordinary).expect("memory");
        let memories: Vec<SharedMemory> = contents.iter().map(memory).collect();
        let region = |(memory, content): (&SharedMemory, &Vec<u8>)| {
            let region = Region::local(memory.map().expect("it can be mapped"), content.len() as u64).expect("it is long enough");
            corpus::filled(region, content)
        };
        let regions: Regions = memories.iter().zip(&contents).map(region).collect();
        let mut workers = ["interpreter", "jit", "jit"].map(|engine| Worker::start(engine, &subject.name, &memories));
        let mut endings = Vec::new();
        for (handler, body) in &messages {
            let (ending, moves) = worker::run_moving(&mut workers, *handler, body);
            endings.push(ending);
            moves_total += moves;
        }
        assert_same(&subject, "moving between processes", &expected, &(endings, corpus::contents(&regions)));
    }
    println!("{moves_total} moves between processes");
    assert!(moves_total > 1000, "messages should move, {moves_total} moves were made");
}
