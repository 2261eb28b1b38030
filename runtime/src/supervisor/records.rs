//! What a cluster knows of its regions, deployments and grants. The same types are kept in the store and shown by control.

use super::protocol::EngineChoice;
use super::store::Record;
use naamc::abi::{BACK_EDGES_MAX, Rights, UDMA_OPERATIONS_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Regions of a cluster.
pub const REGIONS_MAX: usize = 1024;
/// Deployments of a cluster, draining ones included.
pub const DEPLOYMENTS_MAX: usize = 1024;
/// Tenants that one deployment can be granted to.
pub const GRANTS_MAX: usize = 256;
/// Bytes of a region: 16 TiB, more than a machine that we know has.
pub const REGION_BYTES_MAX: u64 = 1 << 44;

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionRecord {
    /// Its name.
    pub name: String,
    /// Its number, unique while the cluster lives.
    pub id: u32,
    /// Raised each time a region of this name is created.
    pub generation: u32,
    /// Its length.
    pub length_bytes: u64,
    /// Whether it lies in huge pages.
    pub huge_pages: bool,
}

impl Record for RegionRecord {
    const PREFIX: &'static str = "regions/";
}

/// The last generation of a region's name, kept when the region goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord(pub u32);

impl Record for GenerationRecord {
    const PREFIX: &'static str = "generations/";
}

/// What one message may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Back edges of metered loops.
    pub back_edges: u32,
    /// UDMA operations.
    pub udma_operations: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { back_edges: BACK_EDGES_MAX, udma_operations: UDMA_OPERATIONS_MAX }
    }
}

/// What a declared region is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The region's name.
    pub region: String,
    /// What the deployment may do with it.
    #[serde(default = "all_rights", with = "rights_text")]
    pub rights: Rights,
}

fn all_rights() -> Rights {
    Rights::ALL
}

/// Reads `read`, `read+write` and the like.
pub fn parse_rights(text: &str) -> Option<Rights> {
    text.split('+').try_fold(Rights::NONE, |rights, name| {
        let named = match name {
            "read" => Rights::READ,
            "write" => Rights::WRITE,
            "atomic" => Rights::ATOMIC,
            _ => return None,
        };
        Some(rights | named)
    })
}

/// Rights in JSON: the text that people read and write.
mod rights_text {
    use super::{Rights, parse_rights};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(rights: &Rights, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(rights)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Rights, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rights(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not like read+write+atomic")))
    }
}

/// A handler of a deployment, as people need to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerSummary {
    /// Its name.
    pub name: String,
    /// Bytes of its message.
    pub message_bytes: u32,
    /// Whether it only reads.
    pub read_only: bool,
    /// UDMA operations of one message at most, if proved.
    pub udma_operations_max: Option<u64>,
}

/// A bundle under a name, bound to regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRecord {
    /// Its name.
    pub name: String,
    /// Its index in messages: free again when it is undeployed.
    pub index: u16,
    /// Raised each time its index is used again; messages carry it too.
    pub generation: u16,
    /// Id of the bundle that runs, in hex: not that of the file if constants were set.
    pub bundle: String,
    /// User who deployed it.
    pub owner: u32,
    /// What each region that the bundle declares is bound to, by the name that it declares.
    pub bindings: BTreeMap<String, Binding>,
    /// Bytes of these regions.
    #[serde(default)]
    pub region_bytes: BTreeMap<String, u64>,
    /// What runs it, if not the cluster's engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineChoice>,
    /// Constants that were set.
    pub constants: BTreeMap<String, serde_json::Value>,
    /// What one message may use.
    pub limits: Limits,
    /// Its handlers, ascending by name.
    pub handlers: Vec<HandlerSummary>,
    /// Whether it takes no more requests, and goes when none is under way.
    #[serde(default)]
    pub draining: bool,
}

impl Record for DeploymentRecord {
    const PREFIX: &'static str = "deployments/";
}

/// What a tenant may do with a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Send requests.
    Invoke,
    /// Also reach its regions by UDMA, and send continuations: authority over the data itself.
    Direct,
}

/// A grant as it is kept, under `DEPLOYMENT/TENANT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRecord {
    /// The deployment's name.
    pub deployment: String,
    /// The user.
    pub tenant: u32,
    /// What they may do.
    pub grant: Grant,
}

impl Record for GrantRecord {
    const PREFIX: &'static str = "grants/";
}
