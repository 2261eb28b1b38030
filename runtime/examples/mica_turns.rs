//! tmp
use runtime::client::{Session, Waiting};
use runtime::deployment::*;
use runtime::engine::jit::JitEngine;
use runtime::executor::{Command, Executor, Options, ServerSession};
use runtime::memory::Region;
use runtime::message::Target;
use runtime::metrics::MetricsWriter;
use runtime::session::{Grants, SlotTable};
use runtime::transport::shared_memory::{RingLink, RingSizes};
use runtime::udma::Local;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let records: u64 = std::env::args().nth(1).map_or(Ok(10_000), |t| t.parse())?;
    let requests: u64 = std::env::args().nth(2).map_or(Ok(2_000_000), |t| t.parse())?;
    let checked = naamc::build(&std::fs::read("testdata/handlers/mica.o")?).unwrap();
    let meaning = &checked.bundle().meaning;
    let handlers: Vec<Checked<'_>> = checked
        .proofs()
        .iter()
        .zip(&meaning.handlers)
        .map(|(proof, handler)| Checked { proof, manifest: &handler.manifest })
        .collect();
    let bindings: Vec<Binding> = meaning
        .environment
        .regions
        .iter()
        .map(|r| {
            let bytes =
                if r.name == "table" { 4096 + 64 * (records * 8 / 7 * 10 / 5 / 7 + 1024) } else { 4096 + records * 80 + 65536 };
            Binding { region: Region::anonymous(bytes).unwrap(), rights: naamc::abi::Rights(7) }
        })
        .collect();
    let identity = Identity { name: "measured".into(), index: 0, generation: 1 };
    let deployment = Deployment::bind(identity, &meaning.environment, &handlers, bindings, &JitEngine, Limits::default()).unwrap();
    let get = Target { deployment: 0, generation: 1, handler: deployment.handler("get").unwrap() };
    let insert = Target { deployment: 0, generation: 1, handler: deployment.handler("insert").unwrap() };
    let (server_link, client_link) = RingLink::pair(RingSizes::default())?;
    let window = 128;
    let mut executor = Executor::new(Options::host(1, 42), Box::new(Local), MetricsWriter::nowhere());
    executor.apply(Command::Deploy(Arc::new(deployment)));
    let slots = SlotTable::anonymous(window)?;
    executor.apply(Command::Attach(ServerSession { id: 1, link: server_link, slots, grants: Grants::all() }));
    let mut session = Session::new(1, window, vec![(1, client_link)], None, Waiting { spin_us: 0 });
    let mut body = vec![0u8; 80];
    body[0] = 8;
    body[2] = 64;
    let mut random = fastrand::Rng::with_seed(1);
    for (target, length, count) in [(insert, 80, records), (get, 16, requests)] {
        let (mut sent, mut received) = (0u64, 0u64);
        let (mut cn, mut en) = (vec![], vec![]);
        while received < count {
            let start = Instant::now();
            let before = sent;
            received += session.poll(|reply| assert_eq!(reply.outcome, Ok(0)))? as u64;
            while session.under_way() < session.window() && sent < count {
                let k = if target == insert { sent } else { random.u64(..records) };
                let k = k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                body[8..16].copy_from_slice(&k.to_le_bytes());
                session.submit(target, None, &body[..length], sent)?;
                sent += 1;
            }
            session.flush();
            let middle = Instant::now();
            for _ in 0..8 {
                executor.turn(0);
            }
            let n = (sent - before).max(1) as f64;
            cn.push((middle - start).as_nanos() as f64 / n);
            en.push(middle.elapsed().as_nanos() as f64 / n);
        }
        cn.sort_by(f64::total_cmp);
        en.sort_by(f64::total_cmp);
        println!(
            "client {:.0} executor {:.0} (p10 {:.0}) ns; {:?}",
            cn[cn.len() / 2],
            en[en.len() / 2],
            en[en.len() / 10],
            executor.counters()
        );
    }
    Ok(())
}
