//! Other processes that messages move to: each decodes a continuation, executes one UDMA operation, and sends on what is left.

use super::corpus::Subject;
use super::drive::{self, Ending};
use naamc::activation::Activation;
use naamc::continuation;
use naamc::interpreter::Outcome;
use runtime::memory::{Region, Regions, SharedMemory};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

/// Names the engine in a worker's environment; its presence makes a process a worker.
const ENGINE: &str = "NAAM_TEST_WORKER_ENGINE";

/// What a worker is told first.
#[derive(Serialize, Deserialize)]
struct Setup {
    subject: String,
    /// Path of each region's memory, and its length.
    regions: Vec<(String, u64)>,
}

/// A message on the move.
#[derive(Serialize, Deserialize)]
pub struct Message {
    handler: usize,
    body: Vec<u8>,
    /// Absent before the start.
    continuation: Option<Vec<u8>>,
    fuel: (u32, u32),
}

/// What became of it.
#[derive(Serialize, Deserialize)]
enum Became {
    Suspended(Message),
    Ended(Ending),
}

/// A worker process.
pub struct Worker {
    child: Child,
    stream: BufReader<UnixStream>,
}

impl Worker {
    /// Starts this test program again as a worker that maps the same regions.
    pub fn start(engine: &str, subject: &str, memories: &[SharedMemory]) -> Worker {
        let (here, there) = UnixStream::pair().expect("a socket pair");
        let child = Command::new(std::env::current_exe().expect("the test program has a path"))
            .args(["--exact", "worker_process", "--nocapture"])
            .env(ENGINE, engine)
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .spawn()
            .expect("a worker starts");
        let regions = memories
            .iter()
            .map(|memory| (format!("/proc/{}/fd/{}", std::process::id(), memory.descriptor().as_raw_fd()), memory.length_bytes()))
            .collect();
        let mut worker = Worker { child, stream: BufReader::new(here) };
        send(worker.stream.get_mut(), &Setup { subject: subject.to_string(), regions });
        worker
    }

    fn step(&mut self, message: &Message) -> Became {
        send(self.stream.get_mut(), message);
        receive(&mut self.stream).expect("a worker answers")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// Runs a message that moves to another worker before every UDMA operation. Returns how often it moved, too.
pub fn run_moving(workers: &mut [Worker], handler: usize, body: &[u8]) -> (Ending, usize) {
    let fuel = (drive::BACK_EDGES, drive::UDMA_OPERATIONS);
    let mut message = Message { handler, body: body.to_vec(), continuation: None, fuel };
    for moves in 0.. {
        match workers[moves % workers.len()].step(&message) {
            Became::Suspended(next) => message = next,
            Became::Ended(ending) => return (ending, moves),
        }
    }
    unreachable!("the loop returns")
}

/// The worker's part. Does nothing in a process that is none.
pub fn serve() {
    let Ok(engine) = std::env::var(ENGINE) else { return };
    let stdin = rustix::io::dup(std::io::stdin()).expect("standard input is the socket");
    let mut stream = BufReader::new(UnixStream::from(stdin));
    let setup: Setup = receive(&mut stream).expect("the first line says what to serve");
    let subject = Subject::load(&setup.subject);
    let region = |(path, length): &(String, u64)| {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the parent's memory can be opened");
        let memory = SharedMemory::from_descriptor(file.into()).expect("it is sealed");
        Region::local(memory.map().expect("it can be mapped"), *length).expect("it is long enough")
    };
    let regions: Regions = setup.regions.iter().map(region).collect();
    let engine = drive::engines().into_iter().find(|known| known.name() == engine).expect("the engine exists");
    let programs = drive::compile(&*engine, &subject.bundle, &regions);
    while let Some(message) = receive::<Message>(&mut stream) {
        let became = serve_one(&subject, &*programs[message.handler], &regions, &message);
        send(stream.get_mut(), &became);
    }
    std::process::exit(0);
}

fn serve_one(subject: &Subject, program: &dyn runtime::engine::Program, regions: &Regions, message: &Message) -> Became {
    let proof = &subject.bundle.proofs()[message.handler];
    let mut activation = Activation::new_boxed();
    // What is not part of the continuation must not matter.
    activation.memory.fill(0xa5);
    activation.registers.fill(0xa5a5_a5a5_a5a5_a5a5);
    let operations = match &message.continuation {
        None => {
            activation.begin(&message.body, message.fuel.0, message.fuel.1);
            0
        }
        Some(bytes) => {
            continuation::decode(proof, bytes, &message.body, &mut activation).expect("an honest continuation is accepted");
            (activation.back_edges_left, activation.udma_operations_left) = message.fuel;
            1
        }
    };
    match drive::turn(program, &mut activation, regions, operations) {
        Outcome::Suspended => {
            let mut bytes = vec![0; naamc::abi::MESSAGE_BYTES_MAX];
            let length = continuation::encode(proof, &activation, &mut bytes).expect("a suspended message has a continuation");
            bytes.truncate(length);
            let body = activation.body()[..message.body.len()].to_vec();
            let fuel = (activation.back_edges_left, activation.udma_operations_left);
            Became::Suspended(Message { handler: message.handler, body, continuation: Some(bytes), fuel })
        }
        outcome => Became::Ended(Ending::of(outcome, &activation)),
    }
}

fn send(stream: &mut UnixStream, value: &impl Serialize) {
    let mut line = serde_json::to_vec(value).expect("plain data has a JSON form");
    line.push(b'\n');
    stream.write_all(&line).expect("the other process reads");
}

fn receive<T: for<'a> Deserialize<'a>>(stream: &mut BufReader<UnixStream>) -> Option<T> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
    Some(serde_json::from_slice(&line).expect("the other process speaks the same JSON"))
}
