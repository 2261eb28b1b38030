//! Measures the data plane without engines, in requests per second (what a tenth of all windows of 2 ms reach): of bare links, of an
//! executor whose handler does nothing, and of one that looks a key up as a key-value store does.
//!
//! `cargo run --release -p runtime --example message_rate [SECONDS [REQUESTS]]`. With 0 seconds it only measures client and executor
//! alternating on one core, which other programs disturb least; tables that are large beside the number of requests are left out.

use naamc::abi::{Helper, address};
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::{Issued, Outcome};
use runtime::client::Session;
use runtime::clock::MonotonicClock;
use runtime::deployment::{Deployment, Handler, Identity, Limits, Shape};
use runtime::engine::{Program, Turn};
use runtime::executor::{Command, Executor, Options, ServerSession, thread};
use runtime::memory::Region;
use runtime::message::{Header, Target};
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, SlotTable};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::transport::{Link, body_record_bytes};
use runtime::udma::Local;
use runtime::waiting::Waiting;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcomes = Result<(), Box<dyn std::error::Error>>;

const SPIN: u32 = 1_000;

fn main() -> Outcomes {
    let seconds = std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse())?;
    let requests = std::env::args().nth(2).map_or(Ok(1_000_000), |text| text.parse())?;
    let duration = Duration::from_secs_f64(seconds);
    let nothing = Handler::new("nothing", shape(80, 80, vec![]), Arc::new(Nothing));
    alternating(&nothing, vec![], 80, 128, requests, |_, _| {})?;
    for (body_bytes, window) in [(0, 64), (64, 64), (192, 64), (64, 1)] {
        if duration.is_zero() {
            break;
        }
        let rate = bare_links(body_bytes, window, duration)?;
        println!("bare links, {:4} B messages, window {window:3}: {:6.2} M/s", 64 + body_bytes, rate / 1e6);
    }
    if !duration.is_zero() {
        let rate = served(&nothing, vec![], 80, 128, duration, |_, _| {})?;
        println!("executor, empty handler, 144 B each way, window 128: {:6.2} M/s", rate / 1e6);
    }
    for records in [10_000u64, 1_000_000, 8_000_000].into_iter().take_while(|records| *records / 20 <= requests) {
        let regions = table(records)?;
        let lookup = Handler::new("lookup", shape(1120, 1120, vec![Helper::Read, Helper::Read, Helper::Read]), Arc::new(Lookup));
        let mut random = fastrand::Rng::with_seed(1);
        alternating(&lookup, regions.clone(), 80, 128, requests, |body, _| {
            body[..8].copy_from_slice(&random.u64(..records).to_le_bytes());
        })?;
        if duration.is_zero() {
            continue;
        }
        let rate = served(&lookup, regions, 80, 128, duration, |body, _| {
            body[..8].copy_from_slice(&random.u64(..records).to_le_bytes());
        })?;
        println!("executor, lookup among {records:8} records, uniform, window 128: {:6.2} M/s", rate / 1e6);
    }
    Ok(())
}

fn shape(body_bytes: u32, reply_bytes_max: u32, operations: Vec<Helper>) -> Shape {
    Shape { body_bytes, request_bytes: 80, reply_bytes_max, claims: false, operations }
}

/// Echoes messages between two threads.
fn bare_links(body_bytes: usize, window: usize, duration: Duration) -> Result<f64, Box<dyn std::error::Error>> {
    let (mut server, mut client) = RingLink::pair(RingSizes::default())?;
    let record = body_record_bytes(body_bytes);
    let echo = std::thread::spawn(move || {
        let mut body = vec![0; body_bytes];
        while let Ok(bytes) = server.next() {
            let Some(bytes) = bytes else {
                server.flush();
                std::thread::yield_now();
                continue;
            };
            let Ok(header) = Header::parse(&bytes) else { break };
            if header.sequence == u32::MAX {
                break;
            }
            while server.room_bytes(record).unwrap_or(0) < record {
                server.flush();
            }
            server.copy(0, &mut body);
            server.send(&header.emit(), &body, &[]);
            server.advance();
        }
    });
    let mut body = vec![7; body_bytes];
    let (mut sent, mut received) = (0u64, 0u64);
    let mut windows = Windows::new();
    while windows.elapsed() < duration {
        for _ in 0..16 {
            while sent - received < window as u64 && client.room_bytes(record)? >= record {
                client.send(&Header::request(Target::default(), 0, sent as u32 / 2, 0, body_bytes as u16).emit(), &body, &[]);
                sent += 1;
            }
            client.flush();
            while let Some(bytes) = client.next()? {
                Header::parse(&bytes)?;
                client.copy(0, &mut body);
                client.advance();
                received += 1;
            }
        }
        windows.count(received);
    }
    let rate = windows.rate();
    while client.room_bytes(64)? < 64 {
        client.flush();
    }
    client.send(&Header::request(Target::default(), 0, u32::MAX, 0, 0).emit(), &[], &[]);
    client.flush();
    echo.join().map_err(|_| "the echo thread failed")?;
    Ok(rate)
}

/// Serves one handler on this very thread, and tells the time of the executor's share and of the client's.
fn alternating(
    handler: &Handler,
    regions: Vec<Region>,
    body_bytes: usize,
    window: u16,
    requests: u64,
    mut fill: impl FnMut(&mut [u8], u64),
) -> Outcomes {
    let (server_link, client_link) = RingLink::pair(RingSizes::default())?;
    let identity = Identity { name: "measured".into(), index: 0, generation: 1 };
    let mut executor = Executor::new(Options::host(1, 42), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(Arc::new(Deployment::new(identity, vec![handler.clone()], regions, Limits::default()))));
    let slots = SlotTable::anonymous(window)?;
    executor.apply(Command::Attach(ServerSession { id: 1, link: server_link, slots, grants: Grants::all() }));
    let mut session = Session::new(1, window, vec![(1, client_link)], None, Waiting { spin_us: SPIN });
    let target = Target { deployment: 0, generation: 1, handler: 0 };
    let mut body = vec![0; body_bytes];
    let (mut sent, mut received) = (0u64, 0u64);
    let (mut client_ns, mut executor_ns) = (Vec::new(), Vec::new());
    while received < requests {
        let start = Instant::now();
        let before = sent;
        received += session.poll(|reply| assert_eq!(reply.outcome, Ok(0)))? as u64;
        while session.under_way() < session.window() {
            fill(&mut body, sent);
            session.submit(target, None, &body, sent)?;
            sent += 1;
        }
        session.flush();
        let middle = Instant::now();
        for _ in 0..8 {
            executor.turn(0);
        }
        let requests = (sent - before).max(1) as f64;
        client_ns.push((middle - start).as_nanos() as f64 / requests);
        executor_ns.push(middle.elapsed().as_nanos() as f64 / requests);
    }
    let (client, executor) = (median(&mut client_ns), median(&mut executor_ns));
    println!("    alternating on one core: client {client:.0} ns, executor {executor:.0} ns a request");
    Ok(())
}

/// The median does not see the rounds in which another program had the core.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Serves one handler on another thread.
fn served(
    handler: &Handler,
    regions: Vec<Region>,
    body_bytes: usize,
    window: u16,
    duration: Duration,
    mut fill: impl FnMut(&mut [u8], u64),
) -> Result<f64, Box<dyn std::error::Error>> {
    let (server_link, client_link) = RingLink::pair(RingSizes::default())?;
    let (mailbox, inbox) = thread::mailbox()?;
    let identity = Identity { name: "measured".into(), index: 0, generation: 1 };
    mailbox.send(Command::Deploy(Arc::new(Deployment::new(identity, vec![handler.clone()], regions, Limits::default()))));
    let slots = SlotTable::anonymous(window)?;
    mailbox.send(Command::Attach(ServerSession { id: 1, link: server_link, slots, grants: Grants::all() }));
    let server = std::thread::spawn(move || {
        let mut executor = Executor::new(Options::host(1, 42), Box::new(Local), MetricsWriter::nowhere());
        let waiting = Waiting { spin_us: SPIN };
        let ended = thread::run(&mut executor, &inbox, &MonotonicClock::new(), waiting, &mut |_| {});
        ended.map(|()| executor.counters())
    });
    let mut session = Session::new(1, window, vec![(1, client_link)], None, Waiting { spin_us: SPIN });
    let target = Target { deployment: 0, generation: 1, handler: 0 };
    let mut body = vec![0; body_bytes];
    let (mut sent, mut received, mut wrong) = (0u64, 0u64, 0u64);
    let mut windows = Windows::new();
    while windows.elapsed() < duration {
        for _ in 0..16 {
            while session.under_way() < session.window() {
                fill(&mut body, sent);
                session.submit(target, None, &body, sent)?;
                sent += 1;
            }
            let polled = session.poll(|reply| wrong += u64::from(reply.outcome != Ok(0)))?;
            received += polled as u64;
            if polled == 0 {
                session.wait(None)?;
            }
        }
        windows.count(received);
    }
    let rate = windows.rate();
    mailbox.send(Command::Stop);
    let counters = server.join().map_err(|_| "the executor failed")??;
    if wrong > 0 {
        return Err(format!("{wrong} wrong replies").into());
    }
    println!(
        "    {:.2} suspensions and {:.2} UDMA operations a request",
        per(counters.suspensions, counters.requests),
        per(counters.udma_operations, counters.requests)
    );
    Ok(rate)
}

/// Rates of windows of 2 ms. Other programs on the machine take whole windows: the best tenth is what the code does undisturbed.
struct Windows {
    start: Instant,
    window: Instant,
    counted: u64,
    rates: Vec<f64>,
}

impl Windows {
    fn new() -> Windows {
        Windows { start: Instant::now(), window: Instant::now(), counted: 0, rates: Vec::new() }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn count(&mut self, total: u64) {
        let elapsed = self.window.elapsed();
        if elapsed >= Duration::from_millis(2) {
            self.rates.push((total - self.counted) as f64 / elapsed.as_secs_f64());
            (self.window, self.counted) = (Instant::now(), total);
        }
    }

    /// The rate that a tenth of the windows reached.
    fn rate(&mut self) -> f64 {
        self.rates.sort_by(f64::total_cmp);
        self.rates.get(self.rates.len() * 9 / 10).copied().unwrap_or(0.0)
    }
}

fn per(count: u64, requests: u64) -> f64 {
    count as f64 / requests as f64
}

/// Returns at once.
struct Nothing;

impl Program for Nothing {
    fn run(&self, activation: &mut Activation, _: &mut Turn<'_>) -> Outcome {
        activation.reply_bytes = 80;
        Outcome::Finished(0)
    }
}

/// Region 0: buckets of 64 bytes; region 1: items of 80 bytes, key first.
fn table(records: u64) -> Result<Vec<Region>, Box<dyn std::error::Error>> {
    let buckets = (records / 4).next_power_of_two();
    let (index, items) = (Region::anonymous(buckets * 64)?, Region::anonymous(records * 80)?);
    for record in 0..records {
        let bucket = hash(record) & (buckets - 1);
        for slot in 1..8 {
            let at = bucket * 64 + slot * 8;
            let mut word = [0; 8];
            index.read(at, &mut word);
            if word == [0; 8] || slot == 7 {
                index.write(at, &(record + 1).to_le_bytes());
                break;
            }
        }
        let mut item = [0x55; 80];
        item[..8].copy_from_slice(&record.to_le_bytes());
        items.write(record * 80, &item);
    }
    Ok(vec![index, items])
}

fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// Bucket, item, version again: the reads of a lookup, with the state between them in the activation's registers.
struct Lookup;

impl Program for Lookup {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let mut bucket = [0; 64];
        let buckets = turn.regions()[0].length_bytes() / 64;
        let mut key = [0; 8];
        key.copy_from_slice(&activation.body()[..8]);
        let key = u64::from_le_bytes(key);
        let at = (hash(key) & (buckets - 1)) * 64;
        if activation.point == POINT_START || activation.point == 0 {
            if turn.read(0, at, &mut bucket) != Issued::Done(0) {
                return suspend(activation, 0, 0, at, 64);
            }
            let items = bucket[8..].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
            let found = items.into_iter().find(|item| *item == key + 1).unwrap_or(key + 1);
            activation.registers[6] = found - 1;
            activation.registers[7] = u64::from(bucket[0]);
            activation.udma_operations += 1;
        }
        let item = activation.registers[6] * 80;
        if turn.read(1, item, &mut activation.body_mut()[8..88]) != Issued::Done(0) {
            return suspend(activation, 1, 1, item, 80);
        }
        let mut version = [0; 8];
        if turn.read(0, at, &mut version) != Issued::Done(0) {
            return suspend(activation, 2, 0, at, 8);
        }
        activation.udma_operations += 2;
        activation.reply_bytes = 88;
        Outcome::Finished(u64::from(activation.body()[8..16] != key.to_le_bytes()))
    }
}

fn suspend(activation: &mut Activation, point: u32, region: u64, offset: u64, length: u64) -> Outcome {
    activation.point = point;
    activation.registers[1] = address::REGION_START + region;
    activation.registers[2] = offset;
    activation.registers[3] = address::BODY_START;
    activation.registers[4] = length;
    Outcome::Suspended
}
