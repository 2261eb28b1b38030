//! Bundles: verified handlers in one `.naam` file, named by the hash of what they mean.
//!
//! `docs/formats/bundle.md` has the byte tables. Reading is in two steps that the types keep apart: [`Bundle::parse`] believes nothing
//! but the shape, [`Bundle::check`] proves every handler again with the contracts that the bundle brings. Engines take only
//! the [`Proof`]s of a [`CheckedBundle`].

use crate::abi::{HANDLERS_MAX, INSTRUCTIONS_MAX, READ_ONLY_BYTES_MAX, REGIONS_MAX, is_name};
use crate::diagnostic::{Code, Finding, SourceLine};
use crate::manifest::Manifest;
use crate::object::RECORDS_MAX;
use crate::program::{Environment, Function};
use crate::types::Types;
use crate::verifier::Proof;
use crate::verifier::contract::Contracts;
use minicbor::{Decode, Decoder, Encode, decode};
use std::fmt;
use std::sync::Arc;

/// First bytes of a bundle file.
pub const MAGIC: [u8; 4] = *b"NAAM";
/// Version of the format; 0 promises nothing.
pub const VERSION: u32 = 0;
/// Bytes of a bundle file at most: bounds what reading hostile bytes can cost.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// C lines of a bundle at most: as many as an object refers to.
pub const DEBUG_LINES_MAX: usize = RECORDS_MAX;
/// Bytes of a C line's file name or text at most: as in an object.
pub const DEBUG_TEXT_BYTES_MAX: usize = 1024;
/// Bytes before the first part: magic, version, two lengths, id.
const PREFIX_BYTES: usize = 4 + 4 + 4 + 4 + 32;
/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;

/// Name of a bundle: BLAKE3 of its meaning, which leaves out file names and C lines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId(pub [u8; 32]);

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bundle as a file says it is. Nothing in it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What decides the id.
    pub meaning: Meaning,
    /// What serves people only.
    pub debug: Debug,
}

/// The hashed part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Meaning {
    /// Regions, read-only data, constants.
    #[n(0)]
    pub environment: Environment,
    /// Types of messages, region elements and constants.
    #[n(1)]
    pub types: Types,
    /// Handlers, ascending by name.
    #[n(2)]
    pub handlers: Vec<Handler>,
}

/// One handler.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Handler {
    /// Its flat code; carries its name and the size of its message.
    #[n(0)]
    pub function: Function,
    /// Type of its message: index into the types.
    #[n(1)]
    pub message: u32,
    /// What was proved at its cut points.
    #[n(2)]
    pub contracts: Contracts,
    /// What it may touch.
    #[n(3)]
    pub manifest: Manifest,
}

/// The part outside the hash: where code comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Debug {
    /// C lines that instructions refer to, each once.
    #[n(0)]
    #[cbor(decode_with = "debug_lines")]
    pub lines: Vec<DebugLine>,
    /// For each handler, for each instruction: index into `lines` plus one, or 0.
    #[n(1)]
    #[cbor(decode_with = "debug_handlers")]
    pub handlers: Vec<Vec<u32>>,
}

/// One C line.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DebugLine {
    /// File as the compiler names it.
    #[n(0)]
    pub file: String,
    /// Line, from 1.
    #[n(1)]
    pub line: u32,
    /// Column, from 1.
    #[n(2)]
    pub column: u32,
    /// The text.
    #[n(3)]
    pub text: String,
}

/// A bundle whose handlers are proved on this machine.
#[derive(Debug)]
pub struct CheckedBundle {
    bundle: Bundle,
    id: BundleId,
    proofs: Vec<Arc<Proof>>,
}

impl Bundle {
    /// Reads a bundle file. What comes back has the right shape and nothing more.
    ///
    /// # Errors
    /// N401 if it is no bundle, N402 for another version, N403 if it was changed after it was built, N404 if its parts are malformed.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, Finding> {
        let malformed = |what: &str| Finding::new(Code::BUNDLE_MALFORMED, what.to_string());
        if bytes.len() > FILE_BYTES_MAX {
            return Err(malformed(&format!("{} bytes; a bundle has at most {FILE_BYTES_MAX}", bytes.len())));
        }
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(Finding::new(Code::BUNDLE_FOREIGN, "the file does not begin with \"NAAM\"")
                .hint("build a bundle with `naamc build HANDLERS.c -o HANDLERS.naam`"));
        }
        let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let version = word(4).ok_or_else(|| malformed("the file ends inside its prefix"))?;
        if version != VERSION {
            return Err(Finding::new(
                Code::BUNDLE_VERSION,
                format!("bundle format version {version}; this program knows {VERSION}"),
            )
            .hint("build the bundle again with this version of naamc"));
        }
        let lengths = word(8).zip(word(12)).map(|(meaning, debug)| (meaning as usize, debug as usize));
        let (meaning_bytes, debug_bytes) = lengths.ok_or_else(|| malformed("the file ends inside its prefix"))?;
        let expected = PREFIX_BYTES + meaning_bytes + debug_bytes + CHECKSUM_BYTES;
        if bytes.len() != expected {
            return Err(malformed(&format!("{} bytes where its prefix announces {expected}", bytes.len())));
        }
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if blake3::hash(content).as_bytes() != checksum {
            return Err(changed("its checksum"));
        }
        let meaning = &content[PREFIX_BYTES..PREFIX_BYTES + meaning_bytes];
        if blake3::hash(meaning).as_bytes() != &content[16..PREFIX_BYTES] {
            return Err(changed("its id"));
        }
        let bundle = Bundle {
            meaning: decode_exactly(meaning, "handlers")?,
            debug: decode_exactly(&content[PREFIX_BYTES + meaning_bytes..], "debug information")?,
        };
        bundle.limits()?;
        Ok(bundle)
    }

    /// The bundle as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (meaning, debug) = (encode(&self.meaning), encode(&self.debug));
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + meaning.len() + debug.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(meaning.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(debug.len() as u32).to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&meaning).as_bytes());
        bytes.extend_from_slice(&meaning);
        bytes.extend_from_slice(&debug);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Its name.
    pub fn id(&self) -> BundleId {
        BundleId(*blake3::hash(&encode(&self.meaning)).as_bytes())
    }

    /// Proves every handler: one linear pass over the contracts that the bundle brings, and a manifest computed anew that must be
    /// the bundle's.
    ///
    /// # Errors
    /// Every finding of every handler, with its C line.
    pub fn check(self) -> Result<CheckedBundle, Vec<Finding>> {
        self.limits().map_err(|finding| vec![finding])?;
        let mut findings = Vec::new();
        let mut proofs = Vec::new();
        let environment = &self.meaning.environment;
        for (index, handler) in self.meaning.handlers.iter().enumerate() {
            match Proof::check(handler.function.clone(), environment, handler.contracts.clone()) {
                Ok(proof) if Manifest::of(&proof, environment) == handler.manifest => proofs.push(Arc::new(proof)),
                Ok(_) => findings.push(self.locate(
                    index,
                    Finding::new(Code::BUNDLE_MANIFEST, "the manifest is not the one that follows from the code and its contracts"),
                )),
                Err(found) => findings.extend(found.into_iter().map(|finding| self.locate(index, finding))),
            }
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let id = self.id();
        Ok(CheckedBundle { bundle: self, id, proofs })
    }

    /// The C line of an instruction, if known.
    pub fn line(&self, handler: usize, instruction: u32) -> Option<SourceLine> {
        let index = *self.debug.handlers.get(handler)?.get(instruction as usize)?;
        let line = self.debug.lines.get((index as usize).checked_sub(1)?)?;
        Some(SourceLine { file: line.file.clone(), line: line.line, column: line.column, text: line.text.clone() })
    }

    /// A bundle with other values for `const volatile` variables: contracts are inferred anew, and it has an id of its own.
    ///
    /// # Errors
    /// N406 for a variable that the bundle does not have or a value that does not fit; findings if handlers are not safe with the new values.
    pub fn with_constants(&self, settings: &[(String, serde_json::Value)]) -> Result<Bundle, Vec<Finding>> {
        let mut bundle = self.clone();
        let meaning = &mut bundle.meaning;
        for (name, value) in settings {
            let Some(constant) = meaning.environment.constants.iter().find(|constant| constant.name == *name) else {
                let names: Vec<&str> = meaning.environment.constants.iter().map(|constant| constant.name.as_str()).collect();
                let known = if names.is_empty() { "it has none".to_string() } else { format!("it has {}", names.join(", ")) };
                return Err(vec![Finding::new(Code::BUNDLE_CONSTANT, format!("the bundle has no constant `{name}`; {known}")).hint(
                    "a constant that can be set is declared `const volatile` at file scope; without `volatile` the compiler folds it into the code",
                )]);
            };
            let encoded = meaning.types.from_json(constant.type_index, value).map_err(|finding| vec![finding])?;
            let start = constant.offset as usize;
            meaning.environment.read_only[start..start + encoded.len()].copy_from_slice(&encoded);
        }
        let mut findings = Vec::new();
        for index in 0..bundle.meaning.handlers.len() {
            let function = &bundle.meaning.handlers[index].function;
            match Proof::prove(function.clone(), &bundle.meaning.environment) {
                Ok(proof) => {
                    bundle.meaning.handlers[index].manifest = Manifest::of(&proof, &bundle.meaning.environment);
                    bundle.meaning.handlers[index].contracts = proof.contracts().clone();
                }
                Err(found) => findings.extend(found.into_iter().map(|finding| bundle.locate(index, finding))),
            }
        }
        if findings.is_empty() { Ok(bundle) } else { Err(findings) }
    }

    /// Adds handler and C line to a finding about one of its instructions.
    pub(crate) fn locate(&self, handler: usize, mut finding: Finding) -> Finding {
        finding.place.function = Some(self.meaning.handlers[handler].function.name.clone());
        if finding.place.line.is_none() {
            finding.place.line = finding.place.instruction.and_then(|instruction| self.line(handler, instruction));
        }
        finding
    }

    /// What the shape alone does not say: counts, names and indices inside their limits.
    fn limits(&self) -> Result<(), Finding> {
        let malformed = |what: String| Err(Finding::new(Code::BUNDLE_MALFORMED, what));
        let Meaning { environment, types, handlers } = &self.meaning;
        if environment.regions.len() > REGIONS_MAX {
            return malformed(format!("{} regions; a bundle has at most {REGIONS_MAX}", environment.regions.len()));
        }
        if environment.read_only.len() > READ_ONLY_BYTES_MAX {
            return malformed(format!(
                "{} bytes of read-only data; the limit is {READ_ONLY_BYTES_MAX}",
                environment.read_only.len()
            ));
        }
        if handlers.is_empty() || handlers.len() > HANDLERS_MAX {
            return malformed(format!("{} handlers; a bundle has 1 to {HANDLERS_MAX}", handlers.len()));
        }
        types.validate()?;
        for region in &environment.regions {
            if !is_name(&region.name) || region.rights.0 > 7 || region.element.is_some_and(|element| types.size(element).is_none())
            {
                return malformed(format!("region {:?} has an illegal name, right or element type", region.name));
            }
        }
        if !environment
            .regions
            .iter()
            .enumerate()
            .all(|(index, region)| environment.regions[..index].iter().all(|r| r.name != region.name))
        {
            return malformed("two regions have one name".to_string());
        }
        for constant in &environment.constants {
            let end = u64::from(constant.offset) + u64::from(constant.bytes);
            let fits = end <= environment.read_only.len() as u64 && types.size(constant.type_index) == Some(constant.bytes);
            if !is_name(&constant.name) || !fits {
                return malformed(format!("constant {:?} has an illegal name, type or place", constant.name));
            }
        }
        self.debug_limits()?;
        for handler in handlers {
            let Handler { function, message, .. } = handler;
            let named = is_name(&function.name) && function.entry.second_argument.is_none();
            if !named || types.size(*message) != Some(function.entry.body_bytes) || function.instructions.len() > INSTRUCTIONS_MAX {
                return malformed(format!("handler {:?} has an illegal name, message type or length", function.name));
            }
            if let Some(at) = function.instructions.iter().position(|instruction| !instruction.is_well_formed()) {
                return malformed(format!("instruction {at} of handler {:?} does not exist in eBPF", function.name));
            }
        }
        if !handlers.is_sorted_by(|a, b| a.function.name < b.function.name) {
            return malformed("handlers are not in the order of their names, each once".to_string());
        }
        Ok(())
    }

    /// That the debug part is no larger than handlers and their lines make it.
    fn debug_limits(&self) -> Result<(), Finding> {
        let malformed = |what: String| Err(Finding::new(Code::BUNDLE_MALFORMED, what));
        let Debug { lines, handlers } = &self.debug;
        if lines.len() > DEBUG_LINES_MAX {
            return malformed(format!("{} C lines; a bundle has at most {DEBUG_LINES_MAX}", lines.len()));
        }
        if lines.iter().any(|line| line.file.len().max(line.text.len()) > DEBUG_TEXT_BYTES_MAX) {
            return malformed(format!("a C line's file name or text has more than {DEBUG_TEXT_BYTES_MAX} bytes"));
        }
        if handlers.len() > self.meaning.handlers.len() || handlers.iter().any(|lines| lines.len() > INSTRUCTIONS_MAX) {
            return malformed("C lines of more handlers or instructions than there can be".to_string());
        }
        Ok(())
    }
}

impl CheckedBundle {
    /// What was checked.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Its name.
    pub fn id(&self) -> BundleId {
        self.id
    }

    /// The proof of each handler, in the order of the handlers.
    pub fn proofs(&self) -> &[Arc<Proof>] {
        &self.proofs
    }

    /// Index of the handler with this name.
    pub fn handler(&self, name: &str) -> Option<usize> {
        self.bundle.meaning.handlers.iter().position(|handler| handler.function.name == name)
    }
}

fn changed(what: &str) -> Finding {
    Finding::new(Code::BUNDLE_CHANGED, format!("the file was changed after it was built: {what} does not match its bytes"))
        .hint("fetch or build the bundle again")
}

/// A list of at most so many values: small ones take many times their bytes in memory, so they are counted before they are there.
fn at_most<'b, T>(
    decoder: &mut Decoder<'b>,
    most: usize,
    mut value: impl FnMut(&mut Decoder<'b>) -> Result<T, decode::Error>,
) -> Result<Vec<T>, decode::Error> {
    match decoder.array()? {
        Some(count) if count <= most as u64 => (0..count).map(|_| value(decoder)).collect(),
        _ => Err(decode::Error::message(format!("a list has more than {most} values, or does not say how many"))),
    }
}

fn debug_lines<C>(decoder: &mut Decoder<'_>, context: &mut C) -> Result<Vec<DebugLine>, decode::Error> {
    at_most(decoder, DEBUG_LINES_MAX, |decoder| decoder.decode_with(context))
}

fn debug_handlers<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Vec<u32>>, decode::Error> {
    at_most(decoder, HANDLERS_MAX, |decoder| at_most(decoder, INSTRUCTIONS_MAX, Decoder::u32))
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory cannot fail")
}

/// Decodes a value that fills `bytes`, in the one encoding that this program writes: no meaning has two ids.
fn decode_exactly<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8], part: &str) -> Result<T, Finding> {
    let malformed = |why: String| Finding::new(Code::BUNDLE_MALFORMED, format!("the part with the {part} is malformed: {why}"));
    let value: T = minicbor::decode(bytes).map_err(|error| malformed(error.to_string()))?;
    if encode(&value) != bytes {
        return Err(malformed("it is not in canonical form".to_string()));
    }
    Ok(value)
}
