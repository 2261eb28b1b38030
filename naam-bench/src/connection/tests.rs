//! A client and an executor's thread in one process, over shared memory rings: the whole path of a request but for the node around it.

use super::*;
use crate::load::{Client, Phase, Shared, Source};
use crate::measurement::Measurement;
use crate::mica;
use crate::native::Native;
use crate::workload::distribution::Distribution;
use crate::workload::mix::Workload;
use crate::workload::stream::Stream;
use runtime::clock::MonotonicClock;
use runtime::deployment::{Deployment, Handler as Deployed, Identity, Limits, Shape};
use runtime::executor::{Command, Executor, Options, ServerSession, thread};
use runtime::memory::Region;
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, SlotTable};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::udma::Local;
use runtime::waiting::Waiting;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The yardstick as a deployment, on regions for so many records with 8-byte keys and 64-byte values.
fn deployment(records: u64) -> Deployment {
    let handlers = Native::ALL.map(|(name, native)| {
        let body_bytes = if native == Native::ReadModifyWrite { 80 } else { mica::ITEM_BYTES_MAX as u32 };
        let shape = Shape {
            body_bytes,
            request_bytes: body_bytes,
            reply_bytes_max: body_bytes,
            claims: native != Native::Get,
            operations: Native::operations(),
        };
        Deployed::new(name, shape, Arc::new(native))
    });
    let region = |bytes| Region::anonymous(bytes).unwrap();
    let regions = vec![region(mica::heap_bytes(records, 8, 64, 256)), region(mica::table_bytes(records))];
    let identity = Identity { name: "mica".to_owned(), index: 0, generation: 1 };
    Deployment::new(identity, handlers.into(), regions, Limits::default())
}

/// Loads the records, and runs the workload until so many requests are answered after as many for warm-up.
fn run(workload: Workload, distribution: Distribution, records: u64, requests: u64) -> Measurement {
    let capacity = records * 4;
    let (server, client) = RingLink::pair(RingSizes::default()).unwrap();
    let (mailbox, inbox) = thread::mailbox().unwrap();
    mailbox.send(Command::Deploy(Arc::new(deployment(capacity))));
    let slots = SlotTable::anonymous(128).unwrap();
    mailbox.send(Command::Attach(ServerSession { id: 1, link: server, slots, grants: Grants::all() }));
    let shared = &Shared::new(workload.stamp(), capacity, 8, 64, None);
    let clock = &MonotonicClock::new();
    let measured = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut executor = Executor::new(Options::host(1, 0), Box::new(Local), MetricsWriter::nowhere());
            thread::run(&mut executor, &inbox, clock, Waiting { spin_us: 50 }, &mut |_| {}).unwrap();
        });
        let session = Session::new(1, 128, vec![(1, client)], None, Waiting { spin_us: 50 });
        let targets = std::array::from_fn(|handler| Target { deployment: 0, generation: 1, handler: handler as u16 });
        let mut connection = SessionConnection::new(Box::new(session), targets);
        let loaded = Client::new(&mut connection, shared, clock, 128).run(Source::Load(records)).unwrap();
        assert_eq!(loaded.results, [(mica::OK, records)].into());
        let mut stream = Stream::draw(&workload.mix(), distribution, records, (0, 1), 9, |_| {});
        scope.spawn(move || {
            let mut answered = records;
            for phase in [Phase::Measure, Phase::Stop] {
                // Counted from the last phase on: whoever measures has then seen it.
                while shared.answered.load(Ordering::Relaxed) < answered + requests {
                    std::thread::yield_now();
                }
                answered = shared.answered.load(Ordering::Relaxed);
                shared.enter(phase);
            }
        });
        let source = Source::Stream(&mut stream, distribution);
        let measured = Client::new(&mut connection, shared, clock, 128).run(source).unwrap();
        let swept = Client::new(&mut connection, shared, clock, 128).run(Source::Sweep { next: 0, step: 1 }).unwrap();
        assert_eq!((swept.results, swept.values_wrong), ([(mica::OK, swept.values_checked)].into(), 0));
        assert!(swept.values_checked >= records);
        mailbox.send(Command::Stop);
        measured
    });
    assert_eq!((measured.values_wrong, &measured.errors), (0, &Default::default()), "{:?}", measured.wrong_examples);
    assert_eq!(measured.results, [(mica::OK, measured.requests())].into());
    measured
}

/// Every workload through rings, executor and native programs: all answers are right, and a get costs the three operations that it must.
#[test]
fn workloads_run_over_shared_memory() {
    for workload in [Workload::A, Workload::B, Workload::C, Workload::D, Workload::F] {
        let measured = run(workload, workload.distribution(), 2_000, 20_000);
        assert!(measured.requests() > 0 && measured.values_checked > 0);
        if workload == Workload::C {
            let operations = measured.udma_operations_per_request();
            assert!((3.0..3.2).contains(&operations), "{operations} operations a get: three, and few chains");
        }
    }
}
