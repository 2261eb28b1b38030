//! What the tests run: every prebuilt handler of the repository, messages for it, and regions under it.

use naamc::abi::Rights;
use naamc::bundle::{Bundle, CheckedBundle, Debug, Handler, Meaning};
use naamc::isa::assemble;
use naamc::manifest::Manifest;
use naamc::program::{Entry, Environment, Function, RegionDeclaration};
use naamc::types::{IntegerKind, Type, Types};
use naamc::verifier::Proof;
use runtime::memory::{Region, Regions};
use std::path::PathBuf;

/// Bytes of each region, unless its declaration asks for more.
const REGION_BYTES: u64 = 128 << 10;

/// One prebuilt ELF.
pub struct Subject {
    /// Its file name without extension.
    pub name: String,
    /// Its handlers.
    pub bundle: CheckedBundle,
}

/// Path of a prebuilt ELF.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/handlers").join(format!("{name}.o"))
}

impl Subject {
    /// Reads and proves one.
    pub fn load(name: &str) -> Subject {
        let elf = std::fs::read(path(name)).expect("a prebuilt ELF can be read");
        let bundle = naamc::build(&elf).unwrap_or_else(|findings| panic!("{name}: {findings:#?}"));
        Subject { name: name.to_string(), bundle }
    }

    /// Handlers whose safety hangs on known bits, and on a stride, of a number that is live across a suspension: they go where nothing
    /// was verified, because nothing ever gets there, if it is another.
    pub fn crafted() -> Subject {
        let function = |name: &str, number: &str, impossible: &str| Function {
            name: name.to_string(),
            entry: Entry { body_bytes: 8, second_argument: None },
            instructions: assemble(&format!(
                "r6 = *(u64 *)(r1 + 0)\n{number}\nr1 = region 0 ll\nr2 = 0\nr3 = r10\nr3 += -8\nr4 = 8\ncall naam_read\n\
                 {impossible}\nr0 = 0\nexit\nr0 = *(u64 *)(r6 + 0)\nexit\n"
            ))
            .expect("the text is assembly"),
        };
        let functions = [
            function("bits", "r6 &= 5\nr6 += 0", "if r6 & 2 goto 12"),
            function("stride", "r6 &= 3\nr6 *= 3", "if r6 == 4 goto 12"),
        ];
        let region = RegionDeclaration { name: "words".to_string(), rights: Rights::READ, length_bytes_min: 0, element: None };
        let environment = Environment { regions: vec![region], ..Environment::default() };
        let types = Types { list: vec![Type::Integer { bytes: 8, kind: IntegerKind::Unsigned }] };
        let handler = |function: &Function| {
            let proof = Proof::prove(function.clone(), &environment).expect("the handler is safe");
            let manifest = Manifest::of(&proof, &environment);
            Handler { function: function.clone(), message: 0, contracts: proof.contracts().clone(), manifest }
        };
        let handlers = functions.iter().map(handler).collect();
        let meaning = Meaning { environment: environment.clone(), types, handlers };
        let bundle = Bundle { meaning, debug: Debug::default() }.check().expect("what was proved is proved again");
        Subject { name: "crafted".to_string(), bundle }
    }

    /// All of them, by name.
    pub fn all() -> Vec<Subject> {
        let folder = path("x");
        let folder = folder.parent().expect("the path has a folder");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder of prebuilt ELFs can be read")
            .map(|entry| entry.expect("its entries too").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
            .map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert!(["mica", "cell"].iter().all(|known| names.iter().any(|name| name == known)), "the applications are among them");
        names.iter().map(|name| Subject::load(name)).collect()
    }

    /// Its handlers.
    pub fn handlers(&self) -> &[Handler] {
        &self.bundle.bundle().meaning.handlers
    }

    /// Lengths of its regions.
    pub fn region_lengths(&self) -> Vec<u64> {
        let declared = &self.bundle.bundle().meaning.environment.regions;
        declared.iter().map(|region| region.length_bytes_min.max(REGION_BYTES)).collect()
    }

    /// Content to start from: zeros for MICA's table and Cell's tree, small numbers for the others, so that chases and loops go somewhere.
    pub fn region_contents(&self, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let zeros = ["mica", "cell"].contains(&self.name.as_str());
        let word = |random: &mut fastrand::Rng| match random.u8(..8) {
            0..5 => random.u64(..64),
            5 | 6 => random.u64(..REGION_BYTES),
            _ => random.u64(..),
        };
        let content = |length: u64| (0..length / 8).flat_map(|_| if zeros { 0 } else { word(random) }.to_le_bytes()).collect();
        self.region_lengths().into_iter().map(content).collect()
    }

    /// A body for one of its handlers.
    pub fn body(&self, handler: usize, random: &mut fastrand::Rng) -> Vec<u8> {
        let handler = &self.handlers()[handler];
        let bytes = handler.function.entry.body_bytes as usize;
        match handler.function.name.as_str() {
            "read_modify_write" if self.name == "mica" => mica_add(bytes, random),
            "get" | "put" | "insert" | "delete" if self.name == "mica" => mica_record(bytes, random),
            "lookup" | "insert" | "scan" if self.name == "cell" => cell_record(bytes, random),
            _ => arbitrary(bytes, random),
        }
    }
}

/// Keys are few enough that lookups find records, and so many that tree nodes are split. For a scan the first word of the value is the
/// count. One in sixteen is nonsense.
fn cell_record(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = arbitrary(bytes, random);
    if random.u8(..16) > 0 {
        body[..8].copy_from_slice(&random.u64(..150).to_le_bytes());
        body[8..12].copy_from_slice(&random.u32(..80).to_le_bytes());
    }
    body
}

/// Key lengths and keys are few, so that messages meet the same records. One in sixteen is nonsense.
fn mica_record(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    if random.u8(..16) == 0 {
        return arbitrary(bytes, random);
    }
    let mut body = vec![0; bytes];
    let (key_length, value_length) = (random.u8(8..=12), random.u16(0..100));
    body[0] = key_length;
    body[2..4].copy_from_slice(&value_length.to_le_bytes());
    let key = random.u8(1..=20);
    body[8..8 + usize::from(key_length)].fill(key);
    let value = 8 + usize::from(key_length).next_multiple_of(8);
    body[value..value + usize::from(value_length)].iter_mut().for_each(|byte| *byte = random.u8(..));
    body
}

fn mica_add(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = vec![0; bytes];
    let key_length = random.u8(8..=12);
    body[0] = key_length;
    body[2..4].copy_from_slice(&(8 * random.u16(..4)).to_le_bytes());
    body[8..16].copy_from_slice(&random.u64(..).to_le_bytes());
    let key = random.u8(1..=20);
    body[16..16 + usize::from(key_length)].fill(key);
    body
}

/// Mostly small numbers at the sizes in which structs hold them.
fn arbitrary(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = vec![0; bytes];
    let mut at = 0;
    while at < bytes {
        let size = [1, 2, 4, 8, 8][random.usize(..5)].min(bytes - at);
        let number = match random.u8(..8) {
            0..4 => random.u64(..16),
            4..6 => random.u64(..256),
            6 => random.u64(..REGION_BYTES) & !7,
            _ => random.u64(..),
        };
        body[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
        at += size;
    }
    body
}

/// Regions of this process with this content.
pub fn regions(contents: &[Vec<u8>]) -> Regions {
    contents.iter().map(|content| filled(Region::anonymous(content.len() as u64).expect("memory for a region"), content)).collect()
}

/// Writes a region's content.
pub fn filled(region: Region, content: &[u8]) -> Region {
    assert_eq!(region.write(0, content), 0, "the content fits the region");
    region
}

/// Reads regions whole.
pub fn contents(regions: &[Region]) -> Vec<Vec<u8>> {
    let whole = |region: &Region| {
        let mut content = vec![0; region.length_bytes() as usize];
        assert_eq!(region.read(0, &mut content), 0, "a region can be read whole");
        content
    };
    regions.iter().map(whole).collect()
}
