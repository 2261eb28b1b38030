//! The cluster under an experiment: one of its own or one that runs, with an application's regions and a deployment of it for each engine that
//! is measured.

use crate::application::{Application, Handler};
use crate::args::{Engine, PlaceChoice};
use crate::cell::TREE;
use crate::connection::{SessionConnection, Targets};
use crate::interruption;
use crate::measurement::{BusyNs, Worker};
use crate::mica::TABLE;
use crate::native::{Native, Reader};
use crate::report::Place;
use anyhow::{Context, Result, anyhow, bail};
use runtime::client_place::{ClientPlaceOptions, LEAVES_AFTER_DEFAULT};
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::{self, FLOWS};
use runtime::node::{Node, Options, embedded_name};
use runtime::place;
use runtime::place::NativePrograms;
use runtime::supervisor::api::{CreateRegion, Deploy, FlowRange, PlaceStatus, Status, Steer};
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::Binding;
use runtime::transport::shared_memory::{RING_BYTES_MAX, RingSizes};
use runtime::waiting::Waiting;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The programs that a place of this program runs as [`Engine::Native`].
pub fn native_programs() -> NativePrograms {
    let table = Native::ALL.into_iter().fold(NativePrograms::default(), |programs, (name, native)| {
        programs.with(TABLE.0, name, Native::operations(), move |_| Arc::new(native))
    });
    Reader::ALL.into_iter().fold(table, |programs, (name, reader)| {
        programs.with(TREE.0, name, Reader::operations(), move |environment| Arc::new(reader.of(environment)))
    })
}

/// How a cluster is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The running cluster to use, or nothing to start one.
    pub cluster: Option<String>,
    /// Executors of the host place of one that is started.
    pub executors: u16,
    /// Executors of its NIC place.
    pub nic_executors: u16,
    /// Latency of its NIC's DMA engine.
    pub dma_latency_ns: u64,
    /// Where requests run.
    pub place: PlaceChoice,
    /// Engines that serve, the first one first. A running cluster serves with its own.
    pub engines: Vec<Engine>,
    /// What serves.
    pub application: Application,
    /// Bytes of its regions, by the names that its handlers give them.
    pub regions: Vec<(&'static str, u64)>,
    /// Values of its `const volatile` variables.
    pub constants: BTreeMap<String, serde_json::Value>,
}

/// What this run made in a cluster and has not removed yet, by name.
struct Made {
    control: Control,
    regions: Vec<String>,
    deployments: Vec<String>,
}

impl Made {
    fn remove(&mut self) -> Result<()> {
        while let Some(name) = self.deployments.last() {
            self.control.undeploy(name)?;
            self.deployments.pop();
        }
        while let Some(name) = self.regions.last() {
            self.control.remove_region(name)?;
            self.regions.pop();
        }
        Ok(())
    }

    /// How a person removes it.
    fn commands(&self) -> String {
        let cluster = &self.control.address().name;
        let undeploy = self.deployments.iter().map(|name| format!("  naam-run --cluster {cluster} undeploy {name}\n"));
        let remove = self.regions.iter().map(|name| format!("  naam-run --cluster {cluster} region remove {name}\n"));
        undeploy.chain(remove).collect()
    }
}

/// Locked while something is made, so that an interruption sees all of it.
type SharedMade = Arc<Mutex<Made>>;

fn lock(made: &SharedMade) -> MutexGuard<'_, Made> {
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets signals remove what is made before they end this process. A cluster of its own needs none of that: it ends with it.
fn remove_when_interrupted(made: &SharedMade) -> Result<()> {
    let (last, commands) = (made.clone(), made.clone());
    let remove = move || {
        let mut made = lock(&last);
        eprintln!("interrupted: removing what this run made in cluster {:?}", made.control.address().name);
        if let Err(error) = made.remove() {
            eprintln!("error: {error}; remove the rest with\n{}", made.commands());
        }
        // Nobody else shall remove, or report what failed because things are gone: the process ends now.
        std::mem::forget(made);
    };
    let cluster = lock(made).control.address().name.clone();
    let impatient = move || match commands.try_lock() {
        Ok(made) => eprintln!("left behind; remove it with\n{}", made.commands()),
        Err(_) => eprintln!("perhaps not all of it is removed: `naam-run --cluster {cluster} status` shows what is left"),
    };
    interruption::before_death(remove, impatient).context("waiting for signals")
}

/// A cluster with an application's regions in it. Dropping it removes what was made there.
pub struct Cluster {
    control: Control,
    node: Option<Node>,
    made: SharedMade,
    regions: BTreeMap<String, u64>,
    deployments: Vec<(String, Engine, Targets)>,
    places: Vec<Place>,
    place: PlaceChoice,
}

impl Cluster {
    /// Starts or finds the cluster, and makes regions and deployments.
    pub fn open(wanted: &Wanted) -> Result<Cluster> {
        let (node, control) = match &wanted.cluster {
            Some(name) => (None, Control::at(&Address::of(name)?)),
            None => {
                let node = Node::start(&Options {
                    executors: wanted.executors,
                    nic_executors: wanted.nic_executors,
                    dma_latency_ns: wanted.dma_latency_ns,
                    engine: wanted.engines.first().map_or_else(EngineChoice::default, |engine| choice(*engine)),
                    ..Options::new(embedded_name())
                })?;
                let control = node.control().clone();
                (Some(node), control)
            }
        };
        let status = control.status()?;
        let places = places(&status);
        let made = Made { control: control.clone(), regions: Vec::new(), deployments: Vec::new() };
        let made = Arc::new(Mutex::new(made));
        if node.is_none() {
            remove_when_interrupted(&made)?;
        }
        let (regions, deployments) = (BTreeMap::new(), Vec::new());
        let place = wanted.place;
        let mut cluster = Cluster { control, node, made, regions, deployments, places, place };
        cluster.create_regions(wanted)?;
        let engines = if cluster.node.is_some() { wanted.engines.clone() } else { vec![engine_of(&status)?] };
        cluster.deploy(wanted, &engines)?;
        Ok(cluster)
    }

    fn create_regions(&mut self, wanted: &Wanted) -> Result<()> {
        for &(declared, length_bytes) in &wanted.regions {
            let name = own_name(declared);
            let mut made = lock(&self.made);
            let region = self.control.create_region(&name, &CreateRegion { length_bytes, huge_pages: false })?;
            made.regions.push(name);
            self.regions.insert(declared.to_owned(), region.length_bytes);
        }
        Ok(())
    }

    fn deploy(&mut self, wanted: &Wanted, engines: &[Engine]) -> Result<()> {
        let application = wanted.application;
        let bundle = naamc::build::build(application.elf()).map_err(|findings| {
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            anyhow!("the handlers of {} do not verify: {}", application.in_words(), findings.join("; "))
        })?;
        let file = self.control.upload_bundle(&bundle.bundle().to_bytes())?.file;
        let binding = |(declared, _): &(&str, u64)| {
            ((*declared).to_owned(), Binding { region: own_name(declared), rights: naamc::abi::Rights::ALL })
        };
        for engine in engines {
            let name = own_name(engine.name());
            let deploy = Deploy {
                file: file.clone(),
                bindings: wanted.regions.iter().map(binding).collect(),
                constants: wanted.constants.clone(),
                limits: Default::default(),
                engine: self.node.is_some().then(|| choice(*engine)),
            };
            let mut made = lock(&self.made);
            let record = self.control.deploy(&name, &deploy)?;
            made.deployments.push(name.clone());
            drop(made);
            let mut targets = Targets::default();
            for handler in Handler::ALL {
                if let Some(name) = application.name_of(handler) {
                    targets[handler as usize] = record.target(name)?;
                }
            }
            self.deployments.push((name, *engine, targets));
        }
        Ok(())
    }

    /// The engines that serve, in the order in which they were wanted.
    pub fn engines(&self) -> Vec<Engine> {
        self.deployments.iter().map(|(_, engine, _)| *engine).collect()
    }

    /// Where requests to this engine go.
    pub fn targets(&self, engine: Engine) -> Result<Targets> {
        let deployment = self.deployments.iter().find(|(_, served, _)| *served == engine);
        Ok(deployment.with_context(|| format!("nothing serves with {}", engine.name()))?.2)
    }

    /// Its places.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Its executors.
    pub fn executors(&self) -> u64 {
        self.places.iter().map(|place| place.executors).sum()
    }

    /// Executors that mostly have work at a time: those of its largest place.
    pub fn working(&self) -> u64 {
        self.places.iter().map(|place| place.executors).max().unwrap_or(0)
    }

    /// Bytes of its regions, by the names that the handlers give them.
    pub fn regions(&self) -> &BTreeMap<String, u64> {
        &self.regions
    }

    /// Writes the beginning of a region, as the application declares it.
    pub fn load_region(&self, declared: &str, bytes: Box<dyn Read + Send>, length_bytes: u64) -> Result<()> {
        self.control.load_region(&own_name(declared), bytes, length_bytes)?;
        Ok(())
    }

    /// A session for so many requests under way, with bodies of requests and replies of so many bytes at most, whose client may `spin` while
    /// it waits.
    pub fn connect(&self, window: u16, bodies_bytes: [usize; 2], spin: bool) -> Result<SessionConnection<Connection>> {
        let rings = rings(window, bodies_bytes[0], bodies_bytes[1]);
        let waiting = Waiting::with_own_core(spin);
        let mut connection =
            Connection::open(self.control.address(), &ConnectionOptions { window, rings, waiting, numbered: false })?;
        let (name, engine, targets) = self.deployments.first().context("nothing is deployed")?;
        if self.place.needs_client() {
            let options = ClientPlaceOptions { window, leaves_after: LEAVES_AFTER_DEFAULT, effects: false, rings, waiting };
            connection.serve_here(&self.control, &[name], place::bundles::engine(choice(*engine))?, &options)?;
        }
        Ok(SessionConnection::new(connection, *targets))
    }

    /// Sends requests from now on where they were wanted.
    pub fn steer(&self) -> Result<()> {
        let third = FLOWS as u16 / 3;
        let steered = match self.place {
            PlaceChoice::Host => return Ok(()),
            PlaceChoice::Nic => vec![(FlowRange::ALL, message::Place::Nic)],
            PlaceChoice::Client => vec![(FlowRange::ALL, message::Place::Client)],
            PlaceChoice::Mixed => vec![
                (FlowRange { first: 0, last: third }, message::Place::Nic),
                (FlowRange { first: third + 1, last: 2 * third }, message::Place::Client),
            ],
        };
        for (flows, place) in steered {
            self.control.steer(&Steer { flows: vec![flows], place })?;
        }
        Ok(())
    }

    /// Sends all requests to the host again.
    pub fn steer_home(&self) -> Result<()> {
        if self.place != PlaceChoice::Host {
            self.control.steer(&Steer { flows: vec![FlowRange::ALL], place: message::Place::Host })?;
        }
        Ok(())
    }

    /// How long each executor has worked so far.
    pub fn busy_ns(&self) -> Result<BusyNs> {
        Ok(busy_ns(&self.control.status()?))
    }

    /// Removes what was made, and stops the cluster if it is this program's.
    pub fn close(mut self) -> Result<()> {
        match self.node.take() {
            Some(node) => Ok(node.stop()?),
            None => lock(&self.made).remove(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.node.is_none() {
            // Nothing is left if it was closed; else an error is on its way already.
            let _ = lock(&self.made).remove();
        }
    }
}

/// Rings for so many requests under way, with bodies of so many bytes there and back.
pub fn rings(window: u16, request_bytes: usize, reply_bytes: usize) -> RingSizes {
    let ring_bytes = |body_bytes: usize, least: u32| {
        let record_bytes = runtime::transport::body_record_bytes(body_bytes) as u64;
        // Twice the window, since a ring gives back its room late.
        let wanted = (u64::from(window) * 2 * record_bytes).next_power_of_two().min(RING_BYTES_MAX.into()) as u32;
        wanted.max(least)
    };
    let least = RingSizes::default();
    RingSizes {
        request_bytes: ring_bytes(request_bytes, least.request_bytes),
        reply_bytes: ring_bytes(reply_bytes, least.reply_bytes),
    }
}

/// A name in a cluster that no other run of this program takes.
fn own_name(what: &str) -> String {
    format!("naam-bench-{}-{what}", std::process::id())
}

/// The places of a cluster, in the order of [`message::Place`].
pub fn places(status: &Status) -> Vec<Place> {
    let mut places: Vec<&PlaceStatus> = status.places.iter().collect();
    places.sort_by_key(|place| place.place);
    places.into_iter().map(|place| Place { kind: place.place.to_string(), executors: place.executors.len() as u64 }).collect()
}

/// How long each executor has worked so far.
pub fn busy_ns(status: &Status) -> BusyNs {
    let executors = status.places.iter().flat_map(|place| place.executors.iter().map(move |executor| (place, executor)));
    executors
        .map(|(place, executor)| {
            let worker = Worker { place: place.place, incarnation: place.incarnation, executor: executor.executor };
            (worker, executor.counters.busy_ns)
        })
        .collect()
}

fn choice(engine: Engine) -> EngineChoice {
    match engine {
        Engine::Jit => EngineChoice::Jit,
        Engine::Interpreter => EngineChoice::Interpreter,
        Engine::Native => EngineChoice::Native,
    }
}

fn engine_of(status: &Status) -> Result<Engine> {
    let engines = [Engine::Jit, Engine::Interpreter];
    match engines.into_iter().find(|engine| engine.name() == status.engine) {
        Some(engine) => Ok(engine),
        None => bail!("cluster {:?} serves with engine {:?}, which is not measured here", status.name, status.engine),
    }
}
