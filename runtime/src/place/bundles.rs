//! From a bundle file to a deployment: everything that a place checks before it runs a byte of it.
//!
//! Nothing that the supervisor or anybody before it has found counts here: the file is parsed, its constants are set, its handlers are
//! proved and its regions measured again.

use crate::deployment::{BindError, Binding, Checked, Deployment, Handler, Identity, Limits, Shape};
use crate::engine::{Engine, EngineError, InterpreterEngine, Program};
use crate::memory::{Mapping, Region, Regions, SharedMemory};
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::protocol::{self, Deployed, EngineChoice};
use crate::supervisor::records::HandlerSummary;
use crate::supervisor::{read_sealed, sealed_file};
use naamc::abi::{Helper, Rights};
use naamc::bundle::{Bundle, CheckedBundle, FILE_BYTES_MAX};
use naamc::diagnostic::Finding;
use naamc::program::{Environment, RegionDeclaration};
use naamc::verifier::Proof;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// Findings that are told of a bundle that is refused; `naamc check` tells all.
const FINDINGS_TOLD_MAX: usize = 8;

/// Rust programs that stand for handlers of the same name under [`EngineChoice::Native`], in bundles that declare a certain region: names
/// alone are not an application's own.
#[derive(Clone, Default)]
pub struct NativePrograms {
    /// By region and handler: the helper at each suspension point, and what makes the program.
    programs: BTreeMap<(String, String), (Vec<Helper>, MakeProgram)>,
}

/// Makes a program for a bundle with this environment, whose constants are set.
type MakeProgram = Arc<dyn Fn(&Environment) -> Arc<dyn Program> + Send + Sync>;

impl NativePrograms {
    /// Adds what makes the program that stands for every handler of this name in bundles that declare this region, with the helper at each of
    /// its own suspension points.
    pub fn with(
        mut self,
        region: &str,
        handler: &str,
        operations: Vec<Helper>,
        make: impl Fn(&Environment) -> Arc<dyn Program> + Send + Sync + 'static,
    ) -> NativePrograms {
        self.programs.insert((region.to_owned(), handler.to_owned()), (operations, Arc::new(make)));
        self
    }

    /// The program for a handler of a bundle with this environment, and the helpers at its suspension points.
    fn make(&self, environment: &Environment, handler: &str) -> Option<(Arc<dyn Program>, Vec<Helper>)> {
        let key = |region: &RegionDeclaration| (region.name.clone(), handler.to_owned());
        let (operations, make) = environment.regions.iter().find_map(|region| self.programs.get(&key(region)))?;
        Some((make(environment), operations.clone()))
    }
}

/// Compiles handlers that no native program stands for: nobody waits for code that is never run.
struct UnlessNative<'a> {
    programs: &'a NativePrograms,
    compiled: &'static dyn Engine,
}

impl Engine for UnlessNative<'_> {
    fn name(&self) -> &'static str {
        EngineChoice::Native.name()
    }

    fn compile(&self, proof: &Arc<Proof>, environment: &Environment, regions: &Regions) -> Result<Arc<dyn Program>, EngineError> {
        match self.programs.make(environment, &proof.function().name) {
            Some((program, _)) => Ok(program),
            None => self.compiled.compile(proof, environment, regions),
        }
    }
}

/// A deployment that is ready for the executors.
pub(crate) struct Prepared {
    pub(crate) deployment: Arc<Deployment>,
    /// What the supervisor is told.
    pub(crate) answer: Deployed,
    /// The bundle that runs, sealed.
    pub(crate) bundle: OwnedFd,
}

/// What a place needs to make deployments.
pub(crate) struct Bundles {
    engine: EngineChoice,
    /// Whether a DMA engine stands between executors and regions.
    behind_dma: bool,
    programs: NativePrograms,
    /// What was prepared and may still be served.
    deployments: Vec<Weak<Deployment>>,
    /// Regions that are mapped already, by id and generation.
    mappings: HashMap<(u32, u32), Weak<Mapping>>,
}

/// The engine of this name.
///
/// # Errors
/// If this build does not have it, or it is none: native programs stand beside the engines.
pub fn engine(choice: EngineChoice) -> Result<&'static dyn Engine, ControlError> {
    match choice {
        EngineChoice::Interpreter => Ok(&InterpreterEngine),
        #[cfg(feature = "jit")]
        EngineChoice::Jit => Ok(&crate::engine::jit::JitEngine),
        choice => Err(ControlError::new(Code::BadRequest, format!("this build has no engine {:?}", choice.name()))
            .hint("use the interpreter")),
    }
}

impl Bundles {
    /// With the engine of deployments that do not say otherwise.
    pub(crate) fn new(engine: EngineChoice, behind_dma: bool, programs: NativePrograms) -> Bundles {
        Bundles { engine, behind_dma, programs, deployments: Vec::new(), mappings: HashMap::new() }
    }

    /// The deployments that executors may hold.
    pub(crate) fn deployments(&self) -> impl Iterator<Item = Arc<Deployment>> {
        self.deployments.iter().filter_map(Weak::upgrade)
    }

    /// Checks a bundle and binds it.
    pub(crate) fn prepare(&mut self, order: &protocol::Deployment, descriptors: Vec<OwnedFd>) -> Result<Prepared, ControlError> {
        let mut descriptors = descriptors.into_iter();
        let file = descriptors.next().ok_or_else(|| ControlError::new(Code::Protocol, "a deployment without a file"))?;
        let checked = check(&read_sealed(&file)?, &order.constants)?;
        let bundle = file_of(&checked)?;
        let memories: Vec<OwnedFd> = descriptors.collect();
        let bindings = self.bindings(&checked, order, memories)?;
        let deployment = self.bind(&checked, order, bindings)?;
        let meaning = &checked.bundle().meaning;
        let summary = |handler: &naamc::bundle::Handler| HandlerSummary {
            name: handler.function.name.clone(),
            message_bytes: handler.function.entry.body_bytes,
            read_only: !handler.manifest.has_effects,
            udma_operations_max: handler.manifest.udma_operations_max,
        };
        let answer = Deployed {
            bundle: checked.id().to_string(),
            regions: meaning.environment.regions.iter().map(|region| region.name.clone()).collect(),
            handlers: meaning.handlers.iter().map(summary).collect(),
        };
        let deployment = Arc::new(deployment);
        self.deployments.retain(|deployment| deployment.strong_count() > 0);
        self.deployments.push(Arc::downgrade(&deployment));
        Ok(Prepared { deployment, answer, bundle })
    }

    /// The regions that a bundle declares, each bound to memory that is mapped here.
    fn bindings(
        &mut self,
        checked: &CheckedBundle,
        order: &protocol::Deployment,
        memories: Vec<OwnedFd>,
    ) -> Result<Vec<Binding>, ControlError> {
        let declared = &checked.bundle().meaning.environment.regions;
        let names = || declared.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = order.bindings.iter().find(|binding| declared.iter().all(|region| region.name != binding.declared)) {
            return Err(ControlError::new(Code::BundleRefused, format!("the bundle declares no region {:?}", unknown.declared))
                .hint(format!("it declares: {}", names())));
        }
        let mut mapped = HashMap::new();
        for (binding, memory) in order.bindings.iter().zip(memories) {
            mapped.insert(binding.declared.as_str(), (self.map(binding.region, memory)?, Rights(binding.rights)));
        }
        let bind = |region: &RegionDeclaration| {
            let (region, rights) = mapped.remove(region.name.as_str()).ok_or_else(|| {
                ControlError::new(Code::BundleRefused, format!("region {:?} of the bundle is not bound", region.name))
                    .hint(format!("bind each of its regions ({}): --bind {}=REGION_NAME", names(), region.name))
            })?;
            Ok(Binding { region, rights })
        };
        declared.iter().map(bind).collect()
    }

    fn map(&mut self, region: protocol::Region, memory: OwnedFd) -> Result<Region, ControlError> {
        self.mappings.retain(|_, mapping| mapping.strong_count() > 0);
        let known = self.mappings.get(&(region.id, region.generation)).and_then(Weak::upgrade);
        let mapping = match known {
            Some(mapping) => mapping,
            None => {
                let mapped = SharedMemory::from_descriptor(memory).and_then(|memory| memory.map());
                let mapping = mapped.map_err(|error| ControlError::io("mapping a region", &error))?;
                self.mappings.insert((region.id, region.generation), Arc::downgrade(&mapping));
                mapping
            }
        };
        let mapped = if self.behind_dma { Region::behind_dma } else { Region::local };
        mapped(mapping, region.length_bytes)
            .ok_or_else(|| ControlError::new(Code::Protocol, "a region that is shorter than it was said to be"))
    }

    fn bind(
        &self,
        checked: &CheckedBundle,
        order: &protocol::Deployment,
        bindings: Vec<Binding>,
    ) -> Result<Deployment, ControlError> {
        let choice = order.engine.unwrap_or(self.engine);
        let native = choice == EngineChoice::Native;
        let compiled = engine(if native { EngineChoice::default() } else { choice })?;
        let unless_native = UnlessNative { programs: &self.programs, compiled };
        let compiler: &dyn Engine = if native { &unless_native } else { compiled };
        let identity = Identity { name: order.name.clone(), index: order.index, generation: order.generation };
        let limits = Limits { back_edges: order.limits.back_edges, udma_operations: order.limits.udma_operations };
        let meaning = &checked.bundle().meaning;
        let handlers = Checked::all_of(checked);
        let deployment =
            Deployment::bind(identity, &meaning.environment, &handlers, bindings, compiler, limits).map_err(refused)?;
        if !native {
            return Ok(deployment);
        }
        let counterpart = |handler: &Handler| self.programs.make(&meaning.environment, handler.name());
        if !deployment.handlers().iter().any(|handler| counterpart(handler).is_some()) {
            return Err(ControlError::new(
                Code::BundleRefused,
                "this program has no native counterpart of any handler of the bundle",
            ));
        }
        let handlers = deployment.handlers().iter().zip(&meaning.handlers).map(|(handler, declared)| match counterpart(handler) {
            Some((program, operations)) => {
                let shape = Shape::of(&declared.manifest, declared.function.entry.body_bytes);
                Handler::new(handler.name(), Shape { operations, ..shape }, program)
            }
            None => handler.clone(),
        });
        let handlers = handlers.collect();
        Ok(deployment.with_handlers(handlers))
    }
}

/// Parses a bundle, sets its constants, and proves its handlers.
pub(crate) fn check(bytes: &[u8], constants: &[(String, serde_json::Value)]) -> Result<CheckedBundle, ControlError> {
    let mut bundle = Bundle::parse(bytes).map_err(|finding| found(&[finding]))?;
    if !constants.is_empty() {
        bundle = bundle.with_constants(constants).map_err(|findings| found(&findings))?;
    }
    bundle.check().map_err(|findings| found(&findings))
}

/// A bundle as a sealed file. It can be longer than the file that it came in: where constants are set, its contracts are others.
fn file_of(checked: &CheckedBundle) -> Result<OwnedFd, ControlError> {
    let bytes = checked.bundle().to_bytes();
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ControlError::new(
            Code::BundleRefused,
            format!("with these constants the bundle has {} bytes; a bundle has at most {FILE_BYTES_MAX}", bytes.len()),
        )
        .hint("set other constants, or spread the handlers over several bundles"));
    }
    sealed_file(&bytes)
}

fn found(findings: &[Finding]) -> ControlError {
    let told: Vec<String> = findings.iter().take(FINDINGS_TOLD_MAX).map(Finding::to_string).collect();
    let more = findings.len().saturating_sub(FINDINGS_TOLD_MAX);
    let rest = if more > 0 { format!("\nand {more} more: see `naamc check`") } else { String::new() };
    let error = ControlError::new(Code::BundleRefused, format!("the bundle is refused: {}{rest}", told.join("\n")));
    match findings.iter().find_map(|finding| finding.hint.clone()) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What is told of a deployment that cannot be bound.
pub(crate) fn refused(error: BindError) -> ControlError {
    let hint = match &error {
        BindError::Regions { .. } => "bind each region that the bundle declares, once: --bind REGION=REGION_NAME",
        BindError::Rights { .. } => "bind the region with that right, or leave the rights away to give all",
        BindError::TooShort { .. } => "bind a longer region: `naam-run region create NAME --bytes N`",
        BindError::Engine { .. } => "start the cluster with `--engine interpreter`",
    };
    ControlError::new(Code::BundleRefused, error.to_string()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle as long as can be, whose contracts take more bytes under another constant, is refused with it and taken without.
    #[test]
    fn constants_do_not_make_a_bundle_too_long() {
        let object = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/handlers/mica.o")).unwrap();
        let built = naamc::build::build(&object).unwrap().bundle().to_bytes();
        let with = |bytes: &[u8], value: u8| check(bytes, &[("cache".to_owned(), value.into())]).unwrap();
        let mut values = [0, 1].map(|value| (with(&built, value).bundle().to_bytes().len(), value));
        values.sort_unstable();
        let [(short_bytes, short), (long_bytes, long)] = values;
        assert!(short_bytes < long_bytes, "the constant must change the length");
        let mut padded = with(&built, short).bundle().clone();
        // Lines of C that nothing refers to; their texts stay long enough for their lengths to take two bytes.
        let line = naamc::bundle::DebugLine { text: "x".repeat(300), ..padded.debug.lines[0].clone() };
        padded.debug.lines.push(line.clone());
        let line_bytes = {
            let before = padded.to_bytes().len();
            padded.debug.lines.push(line.clone());
            padded.to_bytes().len() - before
        };
        let bytes = loop {
            let bytes = padded.to_bytes();
            match FILE_BYTES_MAX - bytes.len() {
                0 => break bytes,
                missing if missing < line_bytes => {
                    padded.debug.lines.last_mut().unwrap().text.push_str(&"x".repeat(missing));
                }
                // One less, for the count of lines that grows, too.
                missing => padded.debug.lines.extend(vec![line.clone(); (missing / line_bytes).saturating_sub(1).max(1)]),
            }
        };
        assert_eq!(bytes.len(), FILE_BYTES_MAX);
        assert!(read_sealed(&file_of(&with(&bytes, short)).unwrap()).unwrap() == bytes);
        let error = file_of(&with(&bytes, long)).unwrap_err();
        assert_eq!(error.code, Code::BundleRefused, "{error}");
    }
}
