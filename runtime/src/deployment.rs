//! Deployments: checked handlers bound to regions on a node, ready to run.

use crate::engine::{Engine, EngineError, Program};
use crate::memory::{Region, Regions};
use naamc::abi::{self, Helper, Rights};
use naamc::bundle::CheckedBundle;
use naamc::manifest::Manifest;
use naamc::program::Environment;
use naamc::verifier::Proof;
use std::sync::Arc;

/// Fuel of one message in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Back edges of metered loops.
    pub back_edges: u32,
    /// UDMA operations.
    pub udma_operations: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { back_edges: abi::BACK_EDGES_MAX, udma_operations: abi::UDMA_OPERATIONS_MAX }
    }
}

/// A region as a deployment gets it.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The region.
    pub region: Region,
    /// What the deployment may do with it.
    pub rights: Rights,
}

/// What an executor has to know of a handler beside its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the body: the size of the message struct.
    pub body_bytes: u32,
    /// Bytes of it that a request needs to carry at most.
    pub request_bytes: u32,
    /// Bytes of it that go back at most.
    pub reply_bytes_max: u32,
    /// Whether a request must be claimed: the handler has effects, or asks for its executor's number.
    pub claims: bool,
    /// The helper at each suspension point.
    pub operations: Vec<Helper>,
}

impl Shape {
    /// The shape of a handler with this manifest and body.
    pub fn of(manifest: &Manifest, body_bytes: u32) -> Shape {
        Shape {
            body_bytes,
            request_bytes: manifest.request_bytes,
            reply_bytes_max: manifest.reply_bytes_max,
            claims: manifest.has_effects || manifest.uses_executor,
            operations: manifest.operations.iter().map(|operation| operation.helper).collect(),
        }
    }
}

/// The handler that is called with a dead executor's number, by the C interface.
pub const RECOVER: &str = "recover";

/// A handler that is ready to run.
#[derive(Clone)]
pub struct Handler {
    name: String,
    shape: Shape,
    unnoted_bytes: u32,
    program: Arc<dyn Program>,
    /// Of a bundle's handler.
    proof: Option<Arc<Proof>>,
}

impl Handler {
    /// A handler that some program serves. Nothing is checked here: bundles go through [`Deployment::bind`], which checks; this is for
    /// native Rust that serves as a yardstick.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn new(name: &str, shape: Shape, program: Arc<dyn Program>) -> Handler {
        assert!(shape.body_bytes as usize <= abi::BODY_BYTES_MAX, "a body fits a message");
        assert!(shape.request_bytes.max(shape.reply_bytes_max) <= shape.body_bytes, "request and reply are prefixes of the body");
        let unnoted_bytes = program.unnoted_bytes().min(shape.body_bytes);
        Handler { name: name.to_string(), shape, unnoted_bytes, program, proof: None }
    }

    /// With the proof that its program was made from: then its messages can move to and from other processes.
    fn proved(self, proof: &Arc<Proof>) -> Handler {
        Handler { proof: Some(proof.clone()), ..self }
    }

    /// What was proved of it; `None` of native Rust.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_deref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What executors know of it.
    #[inline]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of its body that may hold something once its message, of which so many have arrived, runs.
    #[inline]
    pub fn body_used(&self, arrived: usize) -> u32 {
        self.unnoted_bytes.max(arrived as u32)
    }

    /// Its code.
    #[inline]
    pub fn program(&self) -> &dyn Program {
        &*self.program
    }
}

/// A handler of a bundle: what was proved of it.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// The proof.
    pub proof: &'a Arc<Proof>,
    /// The manifest that follows from it.
    pub manifest: &'a Manifest,
}

impl<'a> Checked<'a> {
    /// All handlers of a bundle, in its order.
    pub fn all_of(bundle: &'a CheckedBundle) -> Vec<Checked<'a>> {
        let manifests = bundle.bundle().meaning.handlers.iter().map(|handler| &handler.manifest);
        bundle.proofs().iter().zip(manifests).map(|(proof, manifest)| Checked { proof, manifest }).collect()
    }
}

/// Why a bundle cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// More or fewer regions than the bundle declares.
    #[error("the bundle declares {declared} regions, {bound} are bound")]
    Regions {
        /// Declared.
        declared: usize,
        /// Bound.
        bound: usize,
    },
    /// A handler uses a right that the deployment does not have.
    #[error("handler `{handler}` needs {needed} on region `{region}`, which is bound with {granted}")]
    Rights {
        /// The handler.
        handler: String,
        /// The region as the bundle names it.
        region: String,
        /// Rights that the manifest has.
        needed: Rights,
        /// Rights of the binding.
        granted: Rights,
    },
    /// A region is shorter than the bundle demands.
    #[error("region `{region}` needs at least {needed} bytes, the bound one has {bound}")]
    TooShort {
        /// The region as the bundle names it.
        region: String,
        /// Its declared least length.
        needed: u64,
        /// Length of what is bound.
        bound: u64,
    },
    /// An engine cannot run a handler here.
    #[error("handler `{handler}` cannot run here: {error}")]
    Engine {
        /// The handler.
        handler: String,
        /// Why.
        error: EngineError,
    },
}

/// Handlers under a name, bound to regions.
pub struct Deployment {
    name: String,
    index: u16,
    generation: u16,
    handlers: Vec<Handler>,
    regions: Regions,
    /// What may be done with each region; nothing where it is missing.
    rights: Vec<Rights>,
    read_only: Arc<[u8]>,
    limits: Limits,
}

/// Names a deployment: by name for people, by index and generation in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name under which it was deployed.
    pub name: String,
    /// Its index on the node.
    pub index: u16,
    /// Raised whenever the index is used again.
    pub generation: u16,
}

impl Deployment {
    /// Binds checked handlers to regions, one for each that `environment` declares, in its order.
    ///
    /// # Errors
    /// The first rule that the bindings break, or an engine's error.
    pub fn bind(
        identity: Identity,
        environment: &Environment,
        handlers: &[Checked<'_>],
        bindings: Vec<Binding>,
        engine: &dyn Engine,
        limits: Limits,
    ) -> Result<Deployment, BindError> {
        if environment.regions.len() != bindings.len() {
            return Err(BindError::Regions { declared: environment.regions.len(), bound: bindings.len() });
        }
        for (declaration, binding) in environment.regions.iter().zip(&bindings) {
            let bound = binding.region.length_bytes();
            if bound < declaration.length_bytes_min {
                return Err(BindError::TooShort { region: declaration.name.clone(), needed: declaration.length_bytes_min, bound });
            }
        }
        for Checked { proof, manifest } in handlers {
            for (region, needed) in &manifest.rights {
                let region = usize::from(*region);
                let granted = bindings.get(region).map_or(Rights::NONE, |binding| binding.rights);
                if !granted.contains(*needed) {
                    let region = environment.regions.get(region).map_or_else(|| region.to_string(), |region| region.name.clone());
                    return Err(BindError::Rights { handler: proof.function().name.clone(), region, needed: *needed, granted });
                }
            }
        }
        let rights = bindings.iter().map(|binding| binding.rights).collect();
        let regions: Regions = bindings.into_iter().map(|binding| binding.region).collect();
        let ready = |Checked { proof, manifest }: &Checked<'_>| {
            let (name, body_bytes) = (&proof.function().name, proof.function().entry.body_bytes);
            let program = engine.compile(proof, environment, &regions);
            let program = program.map_err(|error| BindError::Engine { handler: name.clone(), error })?;
            Ok(Handler::new(name, Shape::of(manifest, body_bytes), program).proved(proof))
        };
        let handlers = handlers.iter().map(ready).collect::<Result<_, BindError>>()?;
        let read_only = environment.read_only.as_slice().into();
        Ok(Deployment { read_only, rights, ..Deployment::new(identity, handlers, regions, limits) })
    }

    /// Handlers without read-only data, with regions in the order in which their programs count them. Nothing is checked: see
    /// [`Handler::new`].
    pub fn new(identity: Identity, handlers: Vec<Handler>, regions: impl Into<Regions>, limits: Limits) -> Deployment {
        let Identity { name, index, generation } = identity;
        let (regions, rights) = (regions.into(), Vec::new());
        Deployment { name, index, generation, handlers, regions, rights, read_only: Arc::default(), limits }
    }

    /// The same with other handlers.
    pub fn with_handlers(self, handlers: Vec<Handler>) -> Deployment {
        Deployment { handlers, ..self }
    }

    /// A region by its index, and what may be done with it.
    pub fn region(&self, index: usize) -> Option<(&Region, Rights)> {
        Some((self.regions.get(index)?, self.rights.get(index).copied().unwrap_or(Rights::NONE)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index on the node.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Its generation.
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// Its handlers, in the bundle's order.
    #[inline]
    pub fn handlers(&self) -> &[Handler] {
        &self.handlers
    }

    /// Its regions, in the order of the bundle's declarations.
    #[inline]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The bundle's read-only data.
    pub fn read_only(&self) -> &[u8] {
        &self.read_only
    }

    /// Fuel of one message.
    #[inline]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Index of the handler with this name.
    pub fn handler(&self, name: &str) -> Option<u16> {
        self.handlers.iter().position(|handler| handler.name == name).map(|index| index as u16)
    }
}
