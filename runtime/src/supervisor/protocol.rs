//! What a supervisor orders of a place and what the place answers: packets of [`crate::channel`], over the socket that is the place's
//! standard input.
//!
//! A place acts on orders one after another; draining answers late, so an answer carries the number of its order. A place whose channel
//! closes has lost its supervisor, and ends.

use super::error::ControlError;
use super::records::{HandlerSummary, Limits};
use crate::message::Place;
use crate::transport::shared_memory::RingSizes;
use serde::{Deserialize, Serialize};

/// Version of this protocol; both ends come from one program, so another one means that somebody else started the place.
pub const VERSION: u32 = 0;

/// Which engine a place runs handlers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// The reference: portable and slow.
    Interpreter,
    /// Compiled code.
    Jit,
    /// Rust code that the program has registered for a handler's name, on the same path: a yardstick, without any protection.
    Native,
}

impl Default for EngineChoice {
    /// The fastest that this build has.
    fn default() -> EngineChoice {
        if cfg!(feature = "jit") { EngineChoice::Jit } else { EngineChoice::Interpreter }
    }
}

impl EngineChoice {
    /// Its name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            EngineChoice::Interpreter => "interpreter",
            EngineChoice::Jit => "jit",
            EngineChoice::Native => "native",
        }
    }
}

/// One order, with its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Ascending; an answer carries that of its order.
    pub number: u64,
    /// What is ordered or answered.
    pub content: T,
}

/// What a supervisor orders. Descriptors that go with it are named in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start the executors. The first order, and sent once. Descriptors: metrics, then the flow table,
    /// to read.
    Start(Start),
    /// Check a bundle and run it. Descriptors: the file (sealed), then the memory of each region in `bindings`.
    Deploy(Deployment),
    /// Refuse new requests for a deployment; answer when none is under way.
    Undeploy {
        /// Its index.
        index: u16,
        /// Its generation.
        generation: u16,
    },
    /// Serve a session. Descriptors: its slot records; then for each executor the link's memory and the executor's end of its bell.
    Open(Session),
    /// Change what a session may do.
    Grant {
        /// Its number.
        session: u32,
        /// What it may do from now on.
        grants: Granted,
    },
    /// Forget a session, whose client is gone; answer when all executors do. Nothing of it starts from then on.
    Close {
        /// Its number.
        session: u32,
    },
    /// Undo or finish what executors that died have left in the regions of the deployments that there are. A place that has just started is
    /// told so before its own executors serve anybody; one that runs, when a client that ran handlers itself is gone.
    Recover {
        /// Their numbers.
        executors: Vec<u16>,
    },
    /// End all executors and the process, without waiting for anything.
    Stop,
}

/// How a place starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`VERSION`].
    pub version: u32,
    /// Which place it is: host or nic.
    pub place: Place,
    /// Number of the first executor; the others follow.
    pub first_executor: u16,
    /// How many there are.
    pub executors: u16,
    /// Raised each time this place starts.
    pub incarnation: u32,
    /// What runs handlers.
    pub engine: EngineChoice,
    /// CPU of each executor, or nothing to leave them to the kernel.
    pub cpus: Option<Vec<u32>>,
    /// Whether executors without work may look for some before they sleep: where those of each place, and one client, have a core each.
    pub spins: bool,
    /// Latency of a NIC's DMA engine, in nanoseconds.
    pub dma_latency_ns: u64,
}

/// A deployment as a place runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u16,
    /// Its generation.
    pub generation: u16,
    /// Values of `const volatile` variables.
    pub constants: Vec<(String, serde_json::Value)>,
    /// What one message may use.
    pub limits: Limits,
    /// What runs it, if not the place's own choice.
    pub engine: Option<EngineChoice>,
    /// Bound regions.
    pub bindings: Vec<Bound>,
}

/// A declared region and what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The name that the bundle declares.
    pub declared: String,
    /// The region.
    pub region: Region,
    /// What the deployment may do with it, as the bits of [`naamc::abi::Rights`].
    pub rights: u8,
}

/// A region as a place maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its number.
    pub id: u32,
    /// Its generation.
    pub generation: u32,
    /// Its length.
    pub length_bytes: u64,
}

/// A session as a place serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its number.
    pub number: u32,
    /// Requests that it may have outstanding at a time.
    pub slots: u16,
    /// Rings of each link.
    pub rings: RingSizes,
    /// What it may do.
    pub grants: Granted,
}

/// What a session may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granted {
    /// Everything, now and later: the starter's.
    All,
    /// This, with deployments by index.
    Some {
        /// Deployments whose handlers it may call.
        invoke: Vec<u16>,
        /// Those whose regions it may also reach.
        direct: Vec<u16>,
    },
}

/// What a place answers when it has done as ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing to add.
    Done,
    /// The deployment runs. Descriptors: the bundle that runs (sealed).
    Deployed(Deployed),
}

/// What a place says of a deployment that it has accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// Id of the bundle that runs, in hex.
    pub bundle: String,
    /// For each region that the bundle declares, in its order: its name.
    pub regions: Vec<String>,
    /// Its handlers.
    pub handlers: Vec<HandlerSummary>,
}

/// A place's answer to an order.
pub type Reply = Numbered<Result<Answer, ControlError>>;
