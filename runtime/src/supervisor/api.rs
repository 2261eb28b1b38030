//! What a supervisor is asked and what it answers: the bodies of control requests too (`docs/formats/control.md`). Requests refuse
//! fields that they do not know.

use super::protocol::EngineChoice;
use super::records::{Binding, DeploymentRecord, Grant, Limits, RegionRecord};
use crate::message::{FLOWS, Place};
use crate::metrics::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of `PUT /v0/regions/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRegion {
    /// Its length; rounded up to whole pages.
    pub length_bytes: u64,
    /// Whether it lies in huge pages.
    #[serde(default)]
    pub huge_pages: bool,
}

/// Answer to `POST /v0/bundles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleUploaded {
    /// BLAKE3 of the file: what deployments name it by. (The bundle's own id leaves out what serves people only.)
    pub file: String,
}

/// Body of `PUT /v0/deployments/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Name of the uploaded file.
    pub file: String,
    /// Regions by the names that the bundle declares.
    #[serde(default)]
    pub bindings: BTreeMap<String, Binding>,
    /// Values of `const volatile` variables.
    #[serde(default)]
    pub constants: BTreeMap<String, serde_json::Value>,
    /// What one message may use.
    #[serde(default)]
    pub limits: Limits,
    /// What runs it, if not the cluster's engine.
    #[serde(default)]
    pub engine: Option<EngineChoice>,
}

/// Body of `PUT /v0/deployments/NAME/grants/TENANT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetGrant {
    /// What the tenant may do.
    pub grant: Grant,
}

/// Answer to `GET /v0/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// Process id of the supervisor.
    pub process: u32,
    /// The user who started it.
    pub owner: u32,
    /// The engine of its places: `interpreter`, `jit` or `native`.
    pub engine: String,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// Its places.
    pub places: Vec<PlaceStatus>,
    /// Its regions, ascending by name.
    pub regions: Vec<RegionRecord>,
    /// Deployments that the peer may invoke, ascending by name.
    pub deployments: Vec<DeploymentRecord>,
    /// Sessions that are open.
    pub sessions: u32,
}

/// A place and its executors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceStatus {
    /// `host` or `nic`.
    pub place: Place,
    /// What becomes of it.
    pub state: PlaceLife,
    /// Its process id; nothing unless it runs.
    pub process: Option<u32>,
    /// Raised each time it starts.
    pub incarnation: u32,
    /// Its executors; none unless it runs.
    pub executors: Vec<ExecutorStatus>,
}

/// What becomes of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceLife {
    /// It runs.
    Running,
    /// It died and is started again.
    Restarting,
    /// It died too often, and is not started again.
    GivenUp,
}

/// Flows in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRange {
    /// The first.
    pub first: u16,
    /// The last, which belongs to them.
    pub last: u16,
}

impl FlowRange {
    /// All that there are.
    pub const ALL: FlowRange = FlowRange { first: 0, last: FLOWS as u16 - 1 };
}

/// Body of `PUT /v0/flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// Which flows.
    pub flows: Vec<FlowRange>,
    /// Where to: over all executors of that place.
    pub place: Place,
}

/// Answer to `GET /v0/flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// All flows, ascending.
    pub flows: Vec<FlowsAt>,
}

/// Flows in a row that go to one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsAt {
    /// The first.
    pub first: u16,
    /// The last, which belongs to them.
    pub last: u16,
    /// Where they go now; `none` if no place runs.
    pub place: Place,
    /// Its executors among which they are spread, in the order in which they first appear.
    pub executors: Vec<u16>,
    /// Where they are meant to go: another place than `place` if that does not run.
    pub meant_for: Place,
}

/// One executor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorStatus {
    /// Its number.
    pub executor: u16,
    /// The CPU that it is pinned to.
    pub cpu: Option<u32>,
    /// What it has counted since it started.
    pub counters: Counters,
}
