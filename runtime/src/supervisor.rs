//! The supervisor of a node: owns all memory, starts and reaps the places, decides who may do what, and runs no handler.
//!
//! Its operations are what control serves; changes happen one after another, while questions are answered at any time. A place is
//! believed when it refuses a bundle, never asked to take one unchecked.

pub mod api;
pub mod error;
mod flows;
pub mod grants;
pub mod name;
mod places;
pub mod process;
pub mod protocol;
pub mod records;
pub mod regions;
pub mod sessions;
pub mod store;

use crate::memory::{Pages, SharedMemory};
use crate::message::Place;
use crate::steering::{FLOW_TABLE_BYTES, FlowTable};
use api::{CreateRegion, Deploy, ExecutorStatus, Flows, PlaceLife, PlaceStatus, Status, Steer};
use error::{Code, ControlError};
use flows::Placement;
use grants::{Action, authorise};
use naamc::bundle::FILE_BYTES_MAX;
use name::check_name;
use places::{ExecutorNumbers, PlaceState, RunningPlace};
use protocol::{Answer, Bound, Deployed, Deployment, EngineChoice, Granted, Order, Region};
use records::{
    Binding, DEPLOYMENTS_MAX, DeploymentRecord, GRANTS_MAX, GenerationRecord, Grant, GrantRecord, REGIONS_MAX, RegionRecord,
};
use regions::RegionMemory;
use rustix::fs::{MemfdFlags, SealFlags};
use sessions::{OpenSession, OpenedSession, SessionOffer, SessionRequest, Telling, Told};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use store::{Records, Store};
use tokio::sync::watch;

pub use places::{EXECUTORS_MAX, PlaceConfiguration};

/// Bundle files that wait for a deployment; the oldest goes first.
const UPLOADS_MAX: usize = 16;
/// How long undeploying waits for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether a place that died is reaped.
const BURIAL_PAUSE: Duration = Duration::from_millis(1);

/// What a cluster is started with.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name.
    pub name: String,
    /// Its places, each of another kind: a host, and perhaps a NIC.
    pub places: Vec<PlaceConfiguration>,
    /// What runs handlers.
    pub engine: EngineChoice,
}

impl Configuration {
    /// Refuses what no cluster can be.
    fn check(&self) -> Result<(), ControlError> {
        check_name("cluster", &self.name)?;
        for PlaceConfiguration { place, executors, .. } in &self.places {
            if *executors == 0 || *executors > EXECUTORS_MAX {
                let why = format!("a {place} place has 1 to {EXECUTORS_MAX} executors, not {executors}");
                return Err(ControlError::new(Code::BadRequest, why));
            }
        }
        let kinds: Vec<Place> = self.places.iter().map(|place| place.place).collect();
        if kinds != [Place::Host] && kinds != [Place::Host, Place::Nic] {
            return Err(ControlError::new(Code::BadRequest, "a node has a host place, and perhaps a NIC"));
        }
        Ok(())
    }

    /// Executors of all places.
    fn executors(&self) -> u16 {
        self.places.iter().map(|place| place.executors).sum()
    }

    /// Whether executors without work may look for some before they sleep: only while those of each place, and one client at least, have a
    /// core each. Those of several places may be more: they offer their cores to each other while they look, and seldom all have work.
    fn spins(&self) -> bool {
        let allowed = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        self.places.iter().all(|place| u32::from(place.executors) < allowed)
    }
}

/// Why a cluster ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its owner wants it.
    Requested,
    /// No place is left: each died too often, or does not start.
    PlaceFailed(String),
}

/// The supervisor of a node.
pub struct Supervisor {
    configuration: Configuration,
    owner: u32,
    started: Instant,
    /// What clients map of the flow table: they can read it and nothing else.
    flow_view: SharedMemory,
    flows: FlowTable,
    /// Held while something changes, the places' answers included.
    changes: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    end: watch::Sender<Option<End>>,
    /// Places of which something runs, or will again.
    living: watch::Sender<usize>,
}

struct State {
    records: Records,
    regions: BTreeMap<String, RegionMemory>,
    /// Files by the BLAKE3 of their bytes, oldest first.
    uploads: VecDeque<(String, Arc<[u8]>)>,
    /// The bundle that each deployment runs.
    bundles: BTreeMap<String, Arc<[u8]>>,
    last_region: u32,
    /// Open sessions, by number.
    sessions: BTreeMap<u32, OpenSession>,
    last_session: u32,
    /// Generation of each deployment index that was used.
    generations: Vec<u16>,
    places: Vec<PlaceState>,
    numbers: ExecutorNumbers,
    placement: Placement,
}

/// A deployment before places have seen it.
struct Plan {
    /// The bundle's file.
    file: Arc<[u8]>,
    deployment: Deployment,
    /// Memory of the regions in the deployment's bindings.
    memories: Vec<RegionMemory>,
}

impl Supervisor {
    /// Starts the places of a cluster whose records are kept in `store`. Must be called on the event loop that then watches them.
    pub async fn start(configuration: Configuration, store: Box<dyn Store>) -> Result<Arc<Supervisor>, ControlError> {
        configuration.check()?;
        let failed = |error: std::io::Error| ControlError::io("making memory for flows", &error);
        let (flows, flow_view) =
            SharedMemory::create_with_one_writer("naam-flows", FLOW_TABLE_BYTES, Pages::Ordinary).map_err(failed)?;
        let flows = FlowTable::new(flows).ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let places = configuration.places.len();
        let supervisor = Arc::new(Supervisor {
            owner: rustix::process::geteuid().as_raw(),
            started: Instant::now(),
            flow_view,
            flows,
            changes: tokio::sync::Mutex::new(()),
            state: Mutex::new(State::new(store, &configuration.places)),
            end: watch::Sender::new(None),
            living: watch::Sender::new(places),
            configuration,
        });
        let _change = supervisor.changes.lock().await;
        let mut ends = Vec::new();
        for index in 0..places {
            ends.push(supervisor.start_place(index).await?);
        }
        for (index, end) in ends.into_iter().enumerate() {
            tokio::spawn(supervisor.clone().keep_place(index, end));
        }
        drop(_change);
        Ok(supervisor)
    }

    /// Waits until no process of a place is left. Called after [`Supervisor::end`].
    pub async fn places_ended(&self) {
        // The sender is in `self`.
        let _ = self.living.subscribe().wait_for(|living| *living == 0).await;
    }

    /// Waits until the cluster ends, and says why.
    pub async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or(End::Requested)
    }

    /// Ends the cluster, whoever asks: for its own program.
    pub fn end(&self) {
        self.end_with(End::Requested);
    }

    fn end_with(&self, why: End) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(why);
            first
        });
    }

    /// Ends the cluster, if `tenant` may.
    pub fn stop(&self, tenant: u32) -> Result<(), ControlError> {
        authorise(&self.state().records, self.owner, tenant, Action::Change)?;
        self.end();
        Ok(())
    }

    /// What runs, as far as `tenant` may see it.
    pub fn status(&self, tenant: u32) -> Result<Status, ControlError> {
        let state = self.state();
        let regions = if tenant == self.owner { state.records.list("")? } else { Vec::new() };
        let mut deployments: Vec<DeploymentRecord> = state.records.list("")?;
        deployments.retain(|deployment| authorise(&state.records, self.owner, tenant, Action::Invoke(&deployment.name)).is_ok());
        Ok(Status {
            name: self.configuration.name.clone(),
            process: std::process::id(),
            owner: self.owner,
            engine: self.configuration.engine.name().to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            places: state.places.iter().map(PlaceState::status).collect(),
            regions,
            deployments,
            sessions: state.sessions.len() as u32,
        })
    }

    /// All regions.
    pub fn regions(&self, tenant: u32) -> Result<Vec<RegionRecord>, ControlError> {
        let state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Contents)?;
        state.records.list("")
    }

    /// Creates a region of zeros.
    pub async fn create_region(&self, tenant: u32, name: &str, request: CreateRegion) -> Result<RegionRecord, ControlError> {
        let _change = self.changes.lock().await;
        let record = {
            let mut state = self.state();
            authorise(&state.records, self.owner, tenant, Action::Change)?;
            check_name("region", name)?;
            if state.regions.contains_key(name) {
                return Err(ControlError::new(Code::Exists, format!("there is a region {name:?} already"))
                    .hint(format!("choose another name, or remove it: `naam-run region remove {name}`")));
            }
            if state.regions.len() >= REGIONS_MAX {
                return Err(
                    ControlError::new(Code::Exhausted, format!("a cluster has at most {REGIONS_MAX} regions")).hint("remove one")
                );
            }
            let length_bytes = regions::rounded(request.length_bytes, request.huge_pages)?;
            let generation = state.records.get(name)?.map_or(1, |GenerationRecord(last)| last.wrapping_add(1));
            state.last_region += 1;
            RegionRecord { name: name.to_owned(), id: state.last_region, generation, length_bytes, huge_pages: request.huge_pages }
        };
        let available_bytes = regions::available_bytes()?;
        let created = {
            let record = record.clone();
            tokio::task::spawn_blocking(move || RegionMemory::create(&record, available_bytes)).await
        };
        let memory = created.map_err(|error| ControlError::new(Code::System, format!("creating region {name:?}: {error}")))??;
        let mut state = self.state();
        state.records.put(name, &GenerationRecord(record.generation))?;
        state.records.put(name, &record)?;
        state.regions.insert(name.to_owned(), memory);
        Ok(record)
    }

    /// Removes a region that no deployment is bound to.
    pub async fn remove_region(&self, tenant: u32, name: &str) -> Result<(), ControlError> {
        let _change = self.changes.lock().await;
        let mut state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Change)?;
        state.region(name)?;
        let deployments: Vec<DeploymentRecord> = state.records.list("")?;
        if let Some(user) = deployments.iter().find(|deployment| deployment.bindings.values().any(|binding| binding.region == name))
        {
            return Err(ControlError::new(Code::InUse, format!("deployment {:?} is bound to region {name:?}", user.name))
                .hint(format!("undeploy it first: `naam-run undeploy {}`", user.name)));
        }
        state.records.remove::<RegionRecord>(name)?;
        state.regions.remove(name);
        Ok(())
    }

    /// The bytes of a region, to be copied in or out.
    pub fn region_contents(&self, tenant: u32, name: &str) -> Result<RegionMemory, ControlError> {
        let state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Contents)?;
        state.region(name).cloned()
    }

    /// Keeps a bundle file for a deployment; returns the name that [`Deploy::file`] gives.
    pub fn upload_bundle(&self, tenant: u32, bytes: &[u8]) -> Result<String, ControlError> {
        let mut state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Change)?;
        let file = blake3::hash(bytes).to_hex().to_string();
        state.uploads.retain(|(name, _)| *name != file);
        if state.uploads.len() >= UPLOADS_MAX {
            state.uploads.pop_front();
        }
        state.uploads.push_back((file.clone(), bytes.into()));
        Ok(file)
    }

    /// Runs an uploaded bundle under a name.
    pub async fn deploy(&self, tenant: u32, name: &str, request: Deploy) -> Result<DeploymentRecord, ControlError> {
        let _change = self.changes.lock().await;
        let Plan { file, deployment, memories } = {
            let mut state = self.state();
            authorise(&state.records, self.owner, tenant, Action::Change)?;
            state.plan(name, &request)?
        };
        let sealed = sealed_file(&file)?;
        let mut descriptors = vec![sealed.as_fd()];
        descriptors.extend(memories.iter().map(RegionMemory::descriptor));
        let (index, generation) = (deployment.index, deployment.generation);
        let region_bytes = deployment.bindings.iter().map(|bound| (bound.declared.clone(), bound.region.length_bytes)).collect();
        let places = self.running()?;
        let (deployed, bundle) = match everywhere(&places, &deployment, &descriptors).await {
            Ok(deployed) => deployed,
            Err(error) => {
                // Places that took it forget it; those that are gone have.
                for place in &places {
                    let _ = place.process.order(Order::Undeploy { index, generation }, &[]).await;
                }
                return Err(error);
            }
        };
        let record = DeploymentRecord {
            name: name.to_owned(),
            index,
            generation,
            bundle: deployed.bundle,
            owner: tenant,
            bindings: request.bindings,
            region_bytes,
            engine: request.engine,
            constants: request.constants,
            limits: request.limits,
            handlers: deployed.handlers,
            draining: false,
        };
        let bundle = read_sealed(&bundle)?;
        let mut state = self.state();
        state.records.put(name, &record)?;
        state.bundles.insert(name.to_owned(), bundle.into());
        Ok(record)
    }

    /// One deployment.
    pub fn deployment(&self, tenant: u32, name: &str) -> Result<DeploymentRecord, ControlError> {
        let state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Invoke(name))?;
        state.deployment(name)
    }

    /// The bundle that a deployment runs.
    pub fn deployed_bundle(&self, tenant: u32, name: &str) -> Result<Arc<[u8]>, ControlError> {
        let state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Invoke(name))?;
        state.deployment(name)?;
        state
            .bundles
            .get(name)
            .cloned()
            .ok_or_else(|| ControlError::new(Code::NotFound, format!("deployment {name:?} has no bundle")))
    }

    /// Drains a deployment and removes it, its grants included. Other changes go on meanwhile.
    pub async fn undeploy(&self, tenant: u32, name: &str) -> Result<(), ControlError> {
        let deployment = {
            let _change = self.changes.lock().await;
            let mut state = self.state();
            authorise(&state.records, self.owner, tenant, Action::Change)?;
            let mut deployment = state.deployment(name)?;
            state.check_unreached(self.owner, &deployment)?;
            deployment.draining = true;
            state.records.put(name, &deployment)?;
            deployment
        };
        let order = Order::Undeploy { index: deployment.index, generation: deployment.generation };
        if tokio::time::timeout(DRAIN_MAX, self.order_all(&order)).await.is_err() {
            let why = format!("requests of {name:?} are still under way after {DRAIN_MAX:?}");
            return Err(ControlError::new(Code::TimedOut, why).hint("it takes no new ones; try again"));
        }
        let _change = tokio::time::timeout(DRAIN_MAX, self.changes_with_the_dead_buried()).await.map_err(|_| {
            ControlError::new(Code::TimedOut, format!("a place that died while {name:?} was drained does not end"))
                .hint("try again")
        })?;
        self.recover_drained(&deployment).await?;
        self.state().forget_deployment(&deployment)?;
        self.spread_grants().await
    }

    /// Keeps everything else from changing, as soon as the consequences of every death that showed so far are drawn.
    async fn changes_with_the_dead_buried(&self) -> tokio::sync::MutexGuard<'_, ()> {
        loop {
            let change = self.changes.lock().await;
            if self.end.borrow().is_some() || !self.state().running().iter().any(|place| place.process.is_gone()) {
                return change;
            }
            drop(change);
            tokio::time::sleep(BURIAL_PAUSE).await;
        }
    }

    /// Recovers a drained deployment from all that died while it served: once it is forgotten nobody could.
    async fn recover_drained(&self, drained: &DeploymentRecord) -> Result<(), ControlError> {
        let (dead, plan) = {
            let state = self.state();
            let dead = state.numbers.unrecovered();
            if dead.is_empty() || !state.is_there(drained)? {
                return Ok(());
            }
            (dead, state.plan_anew(drained.clone())?)
        };
        let running = self.running()?;
        let place = &running[0].process;
        places::deploy_at(place, plan).await?;
        let recovered = place.order(Order::Recover { executors: dead }, &[]).await;
        place.order(Order::Undeploy { index: drained.index, generation: drained.generation }, &[]).await?;
        match recovered {
            Err(error) if error.code == Code::PlaceFailed => Err(error),
            // It never will be: that is no reason to keep it.
            Err(error) => {
                places::warn(format_args!("a deployment is removed without having recovered everything: {error}"));
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Sets or takes back what a tenant may do with a deployment.
    pub async fn grant(&self, tenant: u32, deployment: &str, to: u32, grant: Option<Grant>) -> Result<(), ControlError> {
        let _change = self.changes.lock().await;
        self.record_grant(tenant, deployment, to, grant)?;
        self.spread_grants().await
    }

    fn record_grant(&self, tenant: u32, deployment: &str, to: u32, grant: Option<Grant>) -> Result<(), ControlError> {
        let mut state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Change)?;
        state.deployment(deployment)?;
        let key = grants::key(deployment, to);
        let Some(grant) = grant else {
            return state.records.remove::<GrantRecord>(&key);
        };
        let others: Vec<GrantRecord> = state.records.list(&format!("{deployment}/"))?;
        if others.len() >= GRANTS_MAX && !others.iter().any(|other| other.tenant == to) {
            return Err(ControlError::new(Code::Exhausted, format!("a deployment has at most {GRANTS_MAX} grants")));
        }
        state.records.put(&key, &GrantRecord { deployment: deployment.to_owned(), tenant: to, grant })
    }

    /// Opens a session for `tenant`.
    pub async fn open_session(&self, tenant: u32, request: &SessionRequest) -> Result<OpenedSession, ControlError> {
        request.check()?;
        let _change = self.changes.lock().await;
        let places = self.running()?;
        let failed = |error: std::io::Error| ControlError::io("making a session's memory", &error);
        let flows = self.flow_view.descriptor().try_clone_to_owned().map_err(failed)?;
        // As much as it takes with all places, those included that do not run now.
        let memory_bytes = request.memory_bytes(self.configuration.executors());
        let (number, telling) = {
            let mut state = self.state();
            if request.numbered {
                state.check_numbered(self.owner, tenant)?;
            }
            state.admit_session(tenant, request, memory_bytes)?
        };
        for place in &places {
            if let Err(error) = self.join(number, place, self.flows.changes()).await {
                self.order_all(&Order::Close { session: number }).await;
                let mut state = self.state();
                // Nobody was told of its number: nothing is held under it.
                if let Some(executor) = state.sessions.remove(&number).and_then(|session| session.executor) {
                    state.numbers.give_back(&[executor].into());
                }
                return Err(error);
            }
        }
        let SessionRequest { slots, rings, .. } = *request;
        let executor = self.state().sessions.get(&number).and_then(|session| session.executor);
        let offer = SessionOffer { number, places: places.len() as u16, slots, rings, executor };
        Ok(OpenedSession { offer, flows, telling })
    }

    /// Recovers from what a client that is gone may have left in regions, and frees its session.
    pub async fn close_session(&self, number: u32) {
        let _change = self.changes.lock().await;
        // First: no operation that the client has left in a link takes effect behind the recovery.
        self.order_all(&Order::Close { session: number }).await;
        let executor = self.state().sessions.get(&number).and_then(|session| session.executor);
        if let Some(executor) = executor {
            self.recover_from_client(executor).await;
        }
        // Last: whoever sees that it is gone finds nothing of it.
        self.state().sessions.remove(&number);
    }

    /// Where each flow goes.
    pub fn flows(&self, tenant: u32) -> Result<Flows, ControlError> {
        let state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Change)?;
        Ok(state.flows(&self.flows))
    }

    /// Sends flows to a place from now on, spread over its executors. What is under way follows if it can.
    pub async fn steer(&self, tenant: u32, request: &Steer) -> Result<Flows, ControlError> {
        let _change = self.changes.lock().await;
        let mut state = self.state();
        authorise(&state.records, self.owner, tenant, Action::Change)?;
        // Clients have their own place, or not: messages of those that have none go to servers.
        let exists = request.place == Place::Client || state.places.iter().any(|place| place.configuration.place == request.place);
        if !exists {
            let place = request.place;
            let error = ControlError::new(Code::NotFound, format!("this cluster has no {place} place"));
            return Err(error.hint(
                "`naam-run status` shows its places; a cluster has a NIC if it was started so: `naam-run cluster --name NAME --nic 1`",
            ));
        }
        let mut placement = state.placement.clone();
        placement.steer(&request.flows, request.place)?;
        state.placement = placement;
        state.spread_flows(&self.flows);
        Ok(state.flows(&self.flows))
    }

    /// Tells the places what the sessions of everybody but the owner may do, after that has changed.
    async fn spread_grants(&self) -> Result<(), ControlError> {
        let sessions: Vec<(u32, u32)> = self.state().sessions.iter().map(|(number, session)| (*number, session.tenant)).collect();
        for (session, tenant) in sessions.into_iter().filter(|(_, tenant)| *tenant != self.owner) {
            let grants = {
                let mut state = self.state();
                let grants = state.granted(self.owner, tenant)?;
                state.note_grants(session, &grants);
                grants
            };
            self.order_all(&Order::Grant { session, grants }).await;
        }
        Ok(())
    }

    /// The places that run: one at least.
    fn running(&self) -> Result<Vec<Arc<RunningPlace>>, ControlError> {
        let running = self.state().running();
        if running.is_empty() {
            let error = ControlError::new(Code::PlaceFailed, "no place runs now");
            return Err(error.hint("they died and are started again: try once more"));
        }
        Ok(running)
    }

    /// Gives the same order to all places that run, and waits for all answers. A place that dies meanwhile has forgotten what the order was
    /// about; no other one refuses an order of these kinds.
    async fn order_all(&self, order: &Order) {
        let mut answers = tokio::task::JoinSet::new();
        for place in self.state().running() {
            let order = order.clone();
            answers.spawn(async move {
                let _ = place.process.order(order, &[]).await;
            });
        }
        answers.join_all().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// Has a deployment checked and run by all these places. Returns what they say of it, and the bundle that runs.
async fn everywhere(
    places: &[Arc<RunningPlace>],
    deployment: &Deployment,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Deployed, OwnedFd), ControlError> {
    let mut agreed: Option<(Deployed, OwnedFd)> = None;
    for place in places {
        let (answer, bundle) = place.process.order(Order::Deploy(deployment.clone()), descriptors).await?;
        let (Answer::Deployed(deployed), Ok([bundle])) = (answer, <[OwnedFd; 1]>::try_from(bundle)) else {
            return Err(ControlError::new(Code::Protocol, "a place gave another answer than to a deployment"));
        };
        match &agreed {
            Some((first, _)) if *first != deployed => {
                return Err(ControlError::new(Code::Protocol, "the places understand the bundle differently"));
            }
            Some(_) => {}
            None => agreed = Some((deployed, bundle)),
        }
    }
    agreed.ok_or_else(|| ControlError::new(Code::PlaceFailed, "no place runs now"))
}

impl PlaceState {
    fn status(&self) -> PlaceStatus {
        let PlaceConfiguration { place, cpus, .. } = &self.configuration;
        let Some(running) = &self.running else {
            let state = if self.given_up { PlaceLife::GivenUp } else { PlaceLife::Restarting };
            return PlaceStatus { place: *place, state, process: None, incarnation: self.incarnation, executors: Vec::new() };
        };
        let executor = |(block, number): (usize, u16)| ExecutorStatus {
            executor: number,
            cpu: cpus.as_ref().and_then(|cpus| cpus.get(block).copied()),
            counters: running.metrics.read(block),
        };
        PlaceStatus {
            place: *place,
            state: PlaceLife::Running,
            process: Some(running.process.process()),
            incarnation: running.incarnation,
            executors: running.numbers().enumerate().map(executor).collect(),
        }
    }
}

impl State {
    fn new(store: Box<dyn Store>, places: &[PlaceConfiguration]) -> State {
        State {
            records: Records::new(store),
            regions: BTreeMap::new(),
            uploads: VecDeque::new(),
            bundles: BTreeMap::new(),
            last_region: 0,
            sessions: BTreeMap::new(),
            last_session: 0,
            generations: Vec::new(),
            places: places.iter().cloned().map(PlaceState::new).collect(),
            numbers: ExecutorNumbers::default(),
            placement: Placement::all_at(Place::Host),
        }
    }

    fn region(&self, name: &str) -> Result<&RegionMemory, ControlError> {
        self.regions.get(name).ok_or_else(|| {
            let shown: String = name.chars().take(name::NAME_BYTES_MAX).collect();
            ControlError::new(Code::NotFound, format!("there is no region {shown:?}"))
                .hint("`naam-run region list` shows all; `naam-run region create NAME --bytes N` makes one")
        })
    }

    fn deployment(&self, name: &str) -> Result<DeploymentRecord, ControlError> {
        self.records.get(name)?.ok_or_else(|| {
            let shown: String = name.chars().take(name::NAME_BYTES_MAX).collect();
            ControlError::new(Code::NotFound, format!("there is no deployment {shown:?}")).hint("`naam-run status` shows all")
        })
    }

    /// Whether a deployment is still this one.
    fn is_there(&self, deployment: &DeploymentRecord) -> Result<bool, ControlError> {
        let there = self.records.get::<DeploymentRecord>(&deployment.name)?;
        Ok(there.is_some_and(|there| (there.index, there.generation) == (deployment.index, deployment.generation)))
    }

    /// Refuses to remove a deployment in whose regions clients that are there may hold locks: what they leave is recovered when they go, by
    /// its own code.
    fn check_unreached(&self, owner: u32, deployment: &DeploymentRecord) -> Result<(), ControlError> {
        let reaches = |session: &&OpenSession| {
            session.executor.is_some() && (session.tenant == owner || session.reached.contains(&deployment.index))
        };
        match self.sessions.values().filter(reaches).count() {
            0 => Ok(()),
            count => Err(ControlError::new(
                Code::InUse,
                format!(
                    "sessions whose clients run handlers with effects themselves, and may hold locks in the regions of {:?}: {count}",
                    deployment.name
                ),
            )
            .hint("end those clients first")),
        }
    }

    /// Notes what a session may do from now on.
    fn note_grants(&mut self, number: u32, grants: &Granted) {
        if let (Some(session), Granted::Some { direct, .. }) = (self.sessions.get_mut(&number), grants) {
            session.reached.extend(direct);
        }
    }

    /// Removes a deployment that is drained, unless somebody else has done so.
    fn forget_deployment(&mut self, drained: &DeploymentRecord) -> Result<(), ControlError> {
        let name = drained.name.as_str();
        if !self.is_there(drained)? {
            return Ok(());
        }
        let grants: Vec<GrantRecord> = self.records.list(&format!("{name}/"))?;
        for grant in grants {
            self.records.remove::<GrantRecord>(&grants::key(name, grant.tenant))?;
        }
        self.records.remove::<DeploymentRecord>(name)?;
        self.bundles.remove(name);
        Ok(())
    }

    /// What places are to be told of a deployment: everything that can be known without reading the bundle is checked.
    fn plan(&mut self, name: &str, request: &Deploy) -> Result<Plan, ControlError> {
        check_name("deployment", name)?;
        if self.records.get::<DeploymentRecord>(name)?.is_some() {
            return Err(ControlError::new(Code::Exists, format!("there is a deployment {name:?} already"))
                .hint(format!("choose another name, or remove it: `naam-run undeploy {name}`")));
        }
        if self.bundles.len() >= DEPLOYMENTS_MAX {
            return Err(ControlError::new(Code::Exhausted, format!("a cluster has at most {DEPLOYMENTS_MAX} deployments")));
        }
        if request.bindings.len() > naamc::abi::REGIONS_MAX {
            return Err(ControlError::new(Code::BadRequest, format!("a bundle has at most {} regions", naamc::abi::REGIONS_MAX)));
        }
        let found = self.uploads.iter().find(|(file, _)| *file == request.file);
        let (_, bytes) = found.ok_or_else(|| {
            ControlError::new(Code::NotFound, "the bundle file is not here").hint("upload it first: POST /v0/bundles")
        })?;
        let (bindings, memories) = self.bind(&request.bindings)?;
        let file = bytes.clone();
        let (index, generation) = self.free_index()?;
        let deployment = Deployment {
            name: name.to_owned(),
            index,
            generation,
            constants: request.constants.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            limits: request.limits,
            engine: request.engine,
            bindings,
        };
        Ok(Plan { file, deployment, memories })
    }
}

impl State {
    /// What places are told of regions that a deployment is bound to, and their memory.
    fn bind(&self, wanted: &BTreeMap<String, Binding>) -> Result<(Vec<Bound>, Vec<RegionMemory>), ControlError> {
        let mut bindings = Vec::new();
        let mut memories = Vec::new();
        for (declared, Binding { region, rights }) in wanted {
            let memory = self.region(region)?.clone();
            let record: RegionRecord =
                self.records.get(region)?.ok_or_else(|| ControlError::new(Code::System, "a region without a record"))?;
            let region = Region { id: record.id, generation: record.generation, length_bytes: record.length_bytes };
            bindings.push(Bound { declared: declared.clone(), region, rights: rights.0 });
            memories.push(memory);
        }
        Ok((bindings, memories))
    }

    /// Counts a session in, if there is room.
    fn admit_session(&mut self, tenant: u32, request: &SessionRequest, memory_bytes: u64) -> Result<(u32, Telling), ControlError> {
        let used: u64 = self.sessions.values().map(|session| session.memory_bytes).sum();
        if self.sessions.len() >= sessions::SESSIONS_MAX || used + memory_bytes > sessions::SESSIONS_BYTES_MAX {
            return Err(ControlError::new(
                Code::Exhausted,
                format!("{} sessions with links and slots of {used} bytes are open", self.sessions.len()),
            )
            .hint("close some, or ask for smaller rings and fewer slots"));
        }
        self.last_session =
            self.last_session.checked_add(1).ok_or_else(|| ControlError::new(Code::Exhausted, "every session number was used"))?;
        let opened = OpenSession::create(tenant, request, memory_bytes);
        let (mut session, telling) = opened.map_err(|error| ControlError::io("making a session's memory", &error))?;
        if request.numbered {
            session.executor = Some(self.numbers.take_for_client()?);
        }
        self.sessions.insert(self.last_session, session);
        Ok((self.last_session, telling))
    }

    /// Refuses an executor number to tenants who may not run any handler themselves: every deployment is searched for what is held under it.
    fn check_numbered(&self, owner: u32, tenant: u32) -> Result<(), ControlError> {
        match self.granted(owner, tenant)? {
            Granted::Some { direct, .. } if direct.is_empty() => Err(ControlError::new(
                Code::Forbidden,
                format!("user {tenant} has no direct grant, and so no use for an executor number"),
            )),
            _ => Ok(()),
        }
    }

    /// Tells a session's client something. It is hung up on if it has not taken what it was told before.
    fn tell(&mut self, number: u32, told: Told) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        session.teller = session.teller.take().filter(|teller| teller.news.try_send(told).is_ok());
    }

    /// What `tenant` may do.
    fn granted(&self, owner: u32, tenant: u32) -> Result<Granted, ControlError> {
        if tenant == owner {
            return Ok(Granted::All);
        }
        let (mut invoke, mut direct) = (Vec::new(), Vec::new());
        for deployment in self.records.list::<DeploymentRecord>("")? {
            match grants::granted(&self.records, owner, tenant, &deployment.name)? {
                Some(Grant::Invoke) => invoke.push(deployment.index),
                Some(Grant::Direct) => direct.push(deployment.index),
                None => {}
            }
        }
        Ok(Granted::Some { invoke, direct })
    }

    /// The lowest deployment index that is free, under a generation that it never had.
    fn free_index(&mut self) -> Result<(u16, u16), ControlError> {
        let deployments: Vec<DeploymentRecord> = self.records.list("")?;
        let taken = |index: usize| deployments.iter().any(|deployment| usize::from(deployment.index) == index);
        let free = |index: usize, generations: &[u16]| !taken(index) && generations.get(index).is_none_or(|last| *last < u16::MAX);
        let index = (0..=usize::from(u16::MAX)).find(|index| free(*index, &self.generations));
        let index = index.ok_or_else(|| {
            ControlError::new(Code::Exhausted, "every deployment index was used too often").hint("start the cluster anew")
        })?;
        if index >= self.generations.len() {
            self.generations.resize(index + 1, 0);
        }
        self.generations[index] += 1;
        Ok((index as u16, self.generations[index]))
    }
}

/// Bytes in a memfd that nobody can change: what was checked is what is read later.
pub fn sealed_file(bytes: &[u8]) -> Result<OwnedFd, ControlError> {
    let failed = |error: std::io::Error| ControlError::io("making a sealed file", &error);
    let descriptor = rustix::fs::memfd_create("naam-bundle", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| failed(errno.into()))?;
    let mut file = File::from(descriptor);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|errno| failed(errno.into()))?;
    Ok(file.into())
}

/// The bytes of a sealed file, from its beginning: all, or an error if they are more than a bundle has.
pub fn read_sealed(descriptor: &OwnedFd) -> Result<Vec<u8>, ControlError> {
    let failed = |error: std::io::Error| ControlError::io("reading a sealed file", &error);
    let mut file = File::from(descriptor.try_clone().map_err(failed)?);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ControlError::new(Code::TooLarge, format!("a sealed file of more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SLOTS_MAX;
    use crate::transport::shared_memory::RingSizes;
    use store::Embedded;
    use tokio::sync::oneshot;

    /// Sessions whose rings are tiny fill the node by their slots, and what is closed makes room again.
    #[test]
    fn sessions_are_bounded_by_all_their_memory() {
        let rings = RingSizes { request_bytes: 128, reply_bytes: 128 };
        let request = SessionRequest { version: sessions::VERSION, slots: SLOTS_MAX, rings, numbered: false };
        let mut state = State::new(Box::new(Embedded::default()), &[]);
        let bytes = request.memory_bytes(1);
        let numbers: Vec<u32> = std::iter::from_fn(|| Some(state.admit_session(1, &request, bytes).ok()?.0)).collect();
        assert!(numbers.len() > 100 && numbers.len() < sessions::SESSIONS_MAX, "{} sessions", numbers.len());
        assert!(numbers.len() as u64 * bytes <= sessions::SESSIONS_BYTES_MAX);
        assert!((numbers.len() as u64 + 1) * bytes > sessions::SESSIONS_BYTES_MAX);
        assert_eq!(state.admit_session(1, &request, bytes).unwrap_err().code, Code::Exhausted);
        state.sessions.remove(&numbers[0]);
        state.admit_session(1, &request, bytes).unwrap();
    }

    /// A client that does not listen is told nothing more, and its number stays held until its session is closed: then it is recovered from.
    #[test]
    fn the_number_of_a_client_that_does_not_listen_is_not_forgotten() {
        let rings = RingSizes { request_bytes: 128, reply_bytes: 128 };
        let request = SessionRequest { version: sessions::VERSION, slots: 1, rings, numbered: true };
        let mut state = State::new(Box::new(Embedded::default()), &[]);
        let (number, mut telling) = state.admit_session(1, &request, request.memory_bytes(1)).unwrap();
        let news =
            |changes| sessions::SessionNews { changes, place: Place::Host, executors: vec![1], what: sessions::Became::Gone };
        let mut told = 0;
        while state.sessions[&number].teller.is_some() {
            assert!(telling.ended.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
            state.tell(number, Told { news: news(told), descriptors: Vec::new() });
            told += 1;
        }
        assert_eq!(telling.ended.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(telling.news.len() as u64, told - 1, "what was told before");
        assert_eq!(state.sessions[&number].executor, Some(1), "nobody knows whom to recover from");
        let (next, _) = state.admit_session(1, &request, request.memory_bytes(1)).unwrap();
        assert_eq!(state.sessions[&next].executor, Some(2), "another client under the same number");
    }

    /// Without an executor number that is free no session is left behind.
    #[test]
    fn a_session_that_gets_no_number_is_none() {
        let rings = RingSizes { request_bytes: 128, reply_bytes: 128 };
        let request = SessionRequest { version: sessions::VERSION, slots: 1, rings, numbered: true };
        let mut state = State::new(Box::new(Embedded::default()), &[]);
        while state.numbers.take(1).is_some() {}
        assert_eq!(state.admit_session(1, &request, request.memory_bytes(1)).unwrap_err().code, Code::Exhausted);
        assert!(state.sessions.is_empty());
        let unnumbered = SessionRequest { numbered: false, ..request };
        state.admit_session(1, &unnumbered, request.memory_bytes(1)).unwrap();
    }

    /// Every deployment is searched for what a numbered client has left: nobody causes that who cannot leave anything.
    #[test]
    fn numbers_are_for_those_who_run_handlers() {
        let mut state = State::new(Box::new(Embedded::default()), &[]);
        let (owner, other) = (1, 2);
        state.check_numbered(owner, owner).unwrap();
        assert_eq!(state.check_numbered(owner, other).unwrap_err().code, Code::Forbidden);
        let record = |grant| GrantRecord { deployment: "d".into(), tenant: other, grant };
        let deployment = DeploymentRecord {
            name: "d".into(),
            index: 3,
            generation: 1,
            bundle: String::new(),
            owner,
            bindings: BTreeMap::new(),
            region_bytes: BTreeMap::new(),
            engine: None,
            constants: BTreeMap::new(),
            limits: Default::default(),
            handlers: Vec::new(),
            draining: false,
        };
        state.records.put("d", &deployment).unwrap();
        state.records.put(&grants::key("d", other), &record(Grant::Invoke)).unwrap();
        assert_eq!(state.check_numbered(owner, other).unwrap_err().code, Code::Forbidden);
        state.records.put(&grants::key("d", other), &record(Grant::Direct)).unwrap();
        state.check_numbered(owner, other).unwrap();
    }

    /// A file is read whole or not at all.
    #[test]
    fn long_files_are_refused_not_cut() {
        let longest = vec![7; FILE_BYTES_MAX];
        assert!(read_sealed(&sealed_file(&longest).unwrap()).unwrap() == longest);
        assert_eq!(read_sealed(&sealed_file(&[longest, vec![7]].concat()).unwrap()).unwrap_err().code, Code::TooLarge);
    }
}
