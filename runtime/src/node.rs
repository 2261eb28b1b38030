//! A node: its supervisor and places as processes of one program, found by name or embedded in another program.
//!
//! A program that starts clusters calls [`enter`] first in its `main`: re-executed as a supervisor or a place it becomes that, and never
//! returns. [`Node::start`] starts a cluster beneath the calling program, with which it ends; [`run`] is the supervisor itself, for a
//! program that is nothing else.

use crate::channel::{self, AsyncChannel, ChannelError};
use crate::control::client::Control;
use crate::control::directory::{Address, Held};
use crate::control::{self, sessions};
use crate::message::Place;
use crate::place::{self, NativePrograms};
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::process;
use crate::supervisor::protocol::EngineChoice;
use crate::supervisor::store::Embedded;
use crate::supervisor::{Configuration, End, PlaceConfiguration, Supervisor};
use crate::udma::dma::LATENCY_NS_DEFAULT;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// The name under which a program finds itself to be a supervisor.
const SUPERVISOR_PROCESS: &str = "naam-supervisor";

/// How to start a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Its name; see [`embedded_name`] for clusters that nobody else looks for.
    pub name: String,
    /// Executors of the host place.
    pub executors: u16,
    /// Executors of the NIC place; with 0 there is none.
    pub nic_executors: u16,
    /// Latency of the NIC's DMA engine, in nanoseconds.
    pub dma_latency_ns: u64,
    /// What runs handlers.
    pub engine: EngineChoice,
    /// Whether executors are pinned, each to a CPU of its own, if one is left for others then. The last CPUs come first.
    pub pin: bool,
}

impl Options {
    /// One host executor with the best engine that this build has.
    pub fn new(name: impl Into<String>) -> Options {
        Options {
            name: name.into(),
            executors: 1,
            nic_executors: 0,
            dma_latency_ns: LATENCY_NS_DEFAULT,
            engine: EngineChoice::default(),
            pin: true,
        }
    }

    /// What the supervisor is told. Executors get the CPUs that this process may use from the last one on, as the first ones serve the
    /// rest of the system: each one of its own, if one is left for others then.
    fn configuration(&self) -> Configuration {
        let mut cpus = if self.pin { cpus_for(self.executors + self.nic_executors) } else { None };
        let mut place = |place, executors: u16| PlaceConfiguration {
            place,
            executors,
            cpus: cpus.as_mut().map(|cpus| cpus.drain(..usize::from(executors)).collect()),
            dma_latency_ns: self.dma_latency_ns,
        };
        let mut places = vec![place(Place::Host, self.executors)];
        if self.nic_executors > 0 {
            places.push(place(Place::Nic, self.nic_executors));
        }
        Configuration { name: self.name.clone(), places, engine: self.engine }
    }
}

/// A name for a cluster that is embedded in this process.
pub fn embedded_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("embedded-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What a supervisor tells who embeds it, once.
#[derive(Debug, Serialize, Deserialize)]
enum Started {
    Running,
    Failed(ControlError),
}

/// Becomes a supervisor or a place if this process was started as one, and does not return then. `programs` are what
/// [`EngineChoice::Native`] runs.
pub fn enter(programs: &NativePrograms) {
    let name = std::env::args_os().next();
    let code = match name.as_deref().and_then(|name| name.to_str()) {
        Some(SUPERVISOR_PROCESS) => supervise_embedded(),
        Some(name) if process::place_of(name).is_some() => place::run(programs),
        _ => return,
    };
    std::process::exit(code);
}

/// A cluster beneath this program. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    control: Control,
    supervisor: Child,
    lifeline: OwnedFd,
}

impl Node {
    /// Starts a cluster and waits until it serves.
    pub fn start(options: &Options) -> Result<Node, ControlError> {
        let address = Address::of(&options.name)?;
        let failed = |error: io::Error| ControlError::io("starting the supervisor", &error);
        let (lifeline, theirs) = channel::pair().map_err(failed)?;
        let supervisor = Command::new("/proc/self/exe")
            .arg0(SUPERVISOR_PROCESS)
            .arg(&options.name)
            .stdin(theirs)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut node = Node { control: Control::at(&address), supervisor, lifeline };
        channel::send(&node.lifeline, options, &[]).map_err(|error| node.gone(&error))?;
        match channel::receive(&node.lifeline) {
            Ok((Started::Running, _)) => Ok(node),
            Ok((Started::Failed(error), _)) => Err(error),
            Err(error) => Err(node.gone(&error)),
        }
    }

    /// Where it is: clients connect to this.
    pub fn address(&self) -> &Address {
        self.control.address()
    }

    /// Its control: regions, deployments, status.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops it and waits until nothing of it runs.
    ///
    /// # Errors
    /// [`Code::PlaceFailed`] if it had ended by itself.
    pub fn stop(mut self) -> Result<(), ControlError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ControlError> {
        // Ignored if it is gone already: its exit code says how.
        let _ = rustix::net::shutdown(&self.lifeline, rustix::net::Shutdown::Both);
        let status = self.supervisor.wait().map_err(|error| ControlError::io("waiting for the supervisor", &error))?;
        if status.success() {
            return Ok(());
        }
        Err(ControlError::new(
            Code::PlaceFailed,
            format!("the cluster had ended before it was stopped: {}", process::describe(status)),
        ))
    }

    fn gone(&mut self, error: &ChannelError) -> ControlError {
        let how = self.supervisor.wait().map_or_else(|error| error.to_string(), process::describe);
        ControlError::new(Code::PlaceFailed, format!("the supervisor ended while it started: {how} ({error})"))
            .hint("a program that starts clusters calls `runtime::node::enter` first in its main")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Runs a cluster in this process until it is stopped by control, SIGINT or SIGTERM. `started` is called when it serves.
pub fn run(options: &Options, started: impl FnOnce(&Address)) -> Result<(), ControlError> {
    let address = Address::of(&options.name)?;
    event_loop()?.block_on(async {
        let cluster = Cluster::start(options, &address).await?;
        started(&address);
        cluster.serve(std::future::pending()).await
    })
}

fn supervise_embedded() -> i32 {
    let lifeline = io::stdin();
    let options: Options = match channel::receive(&lifeline) {
        Ok((options, _)) => options,
        Err(error) => {
            eprintln!("naam-supervisor: {error}: this process is started by a program that embeds a cluster, not by hand");
            return 2;
        }
    };
    let served =
        event_loop().and_then(|event_loop| event_loop.block_on(serve_embedded(&options, lifeline.as_fd().try_clone_to_owned())));
    match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}

async fn serve_embedded(options: &Options, lifeline: io::Result<OwnedFd>) -> Result<(), ControlError> {
    let failed = |error: io::Error| ControlError::io("watching the program above", &error);
    let lifeline = AsyncChannel::new(lifeline.map_err(failed)?).map_err(failed)?;
    let started = async { Cluster::start(options, &Address::of(&options.name)?).await }.await;
    let cluster = match started {
        Ok(cluster) => cluster,
        Err(error) => {
            // The error reaches the program above, which tells it; it may be gone.
            let _ = lifeline.send(&Started::Failed(error), &[]).await;
            return Ok(());
        }
    };
    lifeline.send(&Started::Running, &[]).await.map_err(|error| ControlError::new(Code::Protocol, error.to_string()))?;
    cluster
        .serve(async {
            // Nothing is ever sent: what becomes readable is the end.
            lifeline.readable().await;
        })
        .await
}

/// A cluster whose supervisor is this process.
struct Cluster {
    held: Held,
    supervisor: Arc<Supervisor>,
    control: UnixListener,
    sessions: sessions::Listener,
}

impl Cluster {
    async fn start(options: &Options, address: &Address) -> Result<Cluster, ControlError> {
        let held = Held::take(address)?;
        channel::raise_descriptor_limit();
        let sessions = sessions::Listener::bind(&address.session_socket())?;
        let supervisor = Supervisor::start(options.configuration(), Box::new(Embedded::default())).await?;
        // Last: whoever can reach control finds a cluster that works.
        let failed = |error: io::Error| ControlError::io(format!("listening at {}", address.control_socket().display()), &error);
        let control = UnixListener::bind(address.control_socket()).map_err(failed)?;
        std::fs::set_permissions(address.control_socket(), std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Cluster { held, supervisor, control, sessions })
    }

    /// Serves until somebody wants the end: `above`, a signal, control, or that no place is left.
    async fn serve(self, above: impl Future<Output = ()>) -> Result<(), ControlError> {
        let Cluster { held, supervisor, control, sessions } = self;
        let failed = |error: io::Error| ControlError::io("serving control", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let stopped = {
            let supervisor = supervisor.clone();
            async move {
                supervisor.ended().await;
            }
        };
        let control = tokio::spawn(control::serve(control, supervisor.clone(), stopped));
        let sessions = tokio::spawn(sessions.serve(supervisor.clone()));
        let end = tokio::select! {
            end = supervisor.ended() => end,
            () = above => End::Requested,
            _ = interrupt.recv() => End::Requested,
            _ = terminate.recv() => End::Requested,
        };
        supervisor.end();
        sessions.abort();
        supervisor.places_ended().await;
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), control).await;
        drop(held);
        match end {
            End::Requested => Ok(()),
            End::PlaceFailed(how) => Err(ControlError::new(Code::PlaceFailed, how)),
        }
    }
}

fn event_loop() -> Result<tokio::runtime::Runtime, ControlError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ControlError::io("starting an event loop", &error))
}

/// A CPU for each executor among those that this process may use, from the last. Nothing if there are too few.
fn cpus_for(executors: u16) -> Option<Vec<u32>> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let allowed: Vec<u32> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).map(|cpu| cpu as u32).collect();
    let chosen: Vec<u32> = allowed.iter().copied().rev().take(usize::from(executors)).collect();
    // One is left for whoever talks to them.
    (usize::from(executors) < allowed.len()).then_some(chosen)
}
