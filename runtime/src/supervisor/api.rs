//! What a supervisor is asked and what it answers: the bodies of control requests too (`docs/formats/control.md`). Requests refuse
//! fields that they do not know.

use super::protocol::EngineChoice;
use super::records::{Binding, DeploymentRecord, Grant, Limits, RegionRecord};
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
    /// `host`.
    pub place: String,
    /// Its process id.
    pub process: u32,
    /// Raised each time it starts.
    pub incarnation: u32,
    /// Its executors.
    pub executors: Vec<ExecutorStatus>,
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
