//! Objects that no compiler writes, made to exhaust whoever reads them: each is refused by a limit, or read in passing.

use naamc::diagnostic::Code;
use naamc::object;

/// Writes object files: sections with content, no symbols beyond those asked for.
struct Forge {
    sections: Vec<Forged>,
    symbols: Vec<[u64; 4]>,
}

/// A section: name, type, flags, content, and the section and entry size fields that tables need.
struct Forged {
    name: &'static str,
    kind: u32,
    flags: u64,
    content: Vec<u8>,
}

const PROGBITS: u32 = 1;
const ALLOCATED_CODE: u64 = 2 | 4;
const ALLOCATED: u64 = 2;
const EXIT: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

impl Forge {
    /// A forge with these types (records and strings of BTF) and lines, and one handler `f` of type `function`.
    fn new(btf: Vec<u8>, extension: Vec<u8>) -> Forge {
        let section = |name, flags, content| Forged { name, kind: PROGBITS, flags, content };
        let sections =
            vec![section("naam/f", ALLOCATED_CODE, EXIT.to_vec()), section(".BTF", 0, btf), section(".BTF.ext", 0, extension)];
        // Name 1 of the string table, a global function in section 1, with the code's size.
        Forge { sections, symbols: vec![[1 | 0x12 << 32 | 1 << 48, 0, EXIT.len() as u64, 0]] }
    }

    fn write(&self) -> Vec<u8> {
        let mut names = b"\0f\0".to_vec();
        let mut bytes = vec![0; 64];
        let mut headers = vec![[0u64; 8]];
        let mut add = |name: &str, kind: u32, flags: u64, content: &[u8], link: u64| {
            let name_offset = names.len() as u64;
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            let start = bytes.len() as u64;
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            headers.push([name_offset | u64::from(kind) << 32, flags, 0, start, content.len() as u64, link, 8, 24]);
        };
        for section in &self.sections {
            add(section.name, section.kind, section.flags, &section.content, 0);
        }
        let strings = self.sections.len() as u64 + 2;
        let mut symbols = vec![0; 24];
        for [information, value, size, _] in &self.symbols {
            [information, value, size].iter().for_each(|field| symbols.extend_from_slice(&field.to_le_bytes()));
        }
        add(".symtab", 2, 0, &symbols, strings);
        add(".strtab", 3, 0, &[], 0);
        let start = bytes.len() as u64;
        headers.last_mut().expect("the string table")[3..5].copy_from_slice(&[start, names.len() as u64]);
        bytes.extend_from_slice(&names);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let table = bytes.len() as u64;
        headers.iter().flatten().for_each(|field| bytes.extend_from_slice(&field.to_le_bytes()));
        bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        bytes[16..24].copy_from_slice(&[1, 0, 247, 0, 1, 0, 0, 0]);
        bytes[40..48].copy_from_slice(&table.to_le_bytes());
        bytes[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, headers.len() as u8, 0, strings as u8, 0]);
        bytes
    }
}

/// Records of BTF, with the one handler's function as types 1 to 4: `int f(struct 5 *)`.
struct Types {
    records: Vec<u32>,
    count: u32,
}

const STRINGS: &[u8] = b"\0int\0f\0naam/f\0a\0b\0";
const NAME_INT: u32 = 1;
const NAME_F: u32 = 5;
const NAME_SECTION: u32 = 7;
const NAME_A: u32 = 14;
const NAME_B: u32 = 16;
const INT: u32 = 1;
const INTEGER: u32 = 1 << 24;
const POINTER: u32 = 2 << 24;
const ARRAY: u32 = 3 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;

impl Types {
    fn new() -> Types {
        let mut types = Types { records: Vec::new(), count: 0 };
        types.add(&[NAME_INT, INTEGER, 4, 1 << 24 | 32]);
        types.add(&[0, POINTER, 5]);
        types.add(&[0, 13 << 24 | 1, INT, 0, 2]);
        types.add(&[NAME_F, 12 << 24 | 1, 3]);
        types
    }

    fn add(&mut self, record: &[u32]) -> u32 {
        self.records.extend_from_slice(record);
        self.count += 1;
        self.count
    }

    /// A structure with members (name, type, offset in bits).
    fn structure(&mut self, bytes: u32, members: &[[u32; 3]]) -> u32 {
        let mut record = vec![0, STRUCT | members.len() as u32, bytes];
        members.iter().for_each(|member| record.extend_from_slice(member));
        self.add(&record)
    }

    fn section(&self) -> Vec<u8> {
        let type_bytes = self.records.len() as u32 * 4;
        let mut words = vec![1 << 16 | 0xeb9f, 24, 0, type_bytes, type_bytes, STRINGS.len() as u32];
        words.extend_from_slice(&self.records);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(STRINGS);
        bytes
    }

    /// An object whose handler has type 4, with `lines` line records of its first instruction.
    fn object(&self, lines: u32) -> Vec<u8> {
        let functions = [8, NAME_SECTION, 1, 0, 4];
        let mut words = vec![1 << 16 | 0xeb9f, 24, 0, 20, 20, 12 + lines * 16];
        words.extend_from_slice(&functions);
        words.extend_from_slice(&[16, NAME_SECTION, lines]);
        (0..lines).for_each(|line| words.extend_from_slice(&[0, NAME_A, NAME_B, (line + 1) << 10 | 1]));
        let extension = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Forge::new(self.section(), extension).write()
    }

    fn refused(&self, code: Code, message: &str) {
        let findings = object::read(&self.object(1)).expect_err(message);
        assert!(
            findings.iter().any(|finding| finding.code == code && finding.message.contains(message)),
            "{findings:?} lack {message}"
        );
    }
}

/// The forge itself makes objects that are read: what the others below are refused for is what they change.
#[test]
fn a_forged_object_is_read() {
    let mut types = Types::new();
    types.structure(8, &[[NAME_A, INT, 0], [NAME_B, INT, 32]]);
    let object = object::read(&types.object(3)).expect("there is nothing wrong with it");
    assert_eq!((object.handlers.len(), object.handlers[0].body_bytes, object.lines.len()), (1, 8, 3));
    object.flatten(&object.handlers[0]).expect("two instructions");
}

#[test]
fn towers_of_types_are_bounded() {
    // A structure of two anonymous ones, each of two anonymous ones: 2^20 and 2^30 members that have no name.
    for levels in [20, 30] {
        let mut types = Types::new();
        for level in 5..5 + levels {
            types.structure(8, &[[0, level + 1, 0], [0, level + 1, 0]]);
        }
        types.structure(8, &[]);
        types.refused(Code::OBJECT_LIMIT, "more than 1024 fields");
    }
    // Anonymous structures inside each other, and named ones.
    for name in [0, NAME_A] {
        let mut types = Types::new();
        for level in 5..50 {
            types.structure(8, &[[name, level + 1, 0]]);
        }
        types.structure(8, &[[NAME_A, INT, 0]]);
        types.refused(Code::OBJECT_LIMIT, "nested deeper");
    }
    // Named members: every level is a type of its own, and a value has 2^20 numbers.
    let mut types = Types::new();
    for level in 5..27 {
        types.structure(8, &[[NAME_A, level + 1, 0], [NAME_B, level + 1, 0]]);
    }
    types.structure(8, &[[NAME_A, INT, 0]]);
    types.refused(Code::MESSAGE_TYPE, "numbers");
    // A structure that contains itself, and a typedef of itself.
    let mut types = Types::new();
    types.structure(8, &[[NAME_A, 5, 0]]);
    types.refused(Code::OBJECT_LIMIT, "nested deeper");
    let mut types = Types::new();
    types.structure(8, &[[NAME_A, 6, 0]]);
    types.add(&[NAME_A, TYPEDEF, 6]);
    types.refused(Code::MESSAGE_TYPE, "has no value");
    // Arrays of arrays of more bytes than there are.
    let mut types = Types::new();
    types.structure(8, &[[NAME_A, 6, 0]]);
    types.add(&[0, ARRAY, 0, 7, INT, u32::MAX]);
    types.add(&[0, ARRAY, 0, INT, INT, u32::MAX]);
    types.refused(Code::MESSAGE_TYPE, "bytes; 16777216 are allowed");
}

#[test]
fn numbers_of_records_are_bounded() {
    let mut types = Types::new();
    types.structure(4, &[[NAME_A, INT, 0]]);
    for _ in 0..object::BTF_TYPES_MAX {
        types.add(&[NAME_A, TYPEDEF, INT]);
    }
    types.refused(Code::OBJECT_LIMIT, "more than 65536 types");
    let mut types = Types::new();
    types.structure(4, &[[NAME_A, INT, 0]]);
    assert!(object::read(&types.object(object::RECORDS_MAX as u32)).is_ok());
    let bytes = types.object(object::RECORDS_MAX as u32 + 1);
    assert!(matches!(object::read(&bytes), Err(findings) if findings[0].code == Code::OBJECT_LIMIT));
}

/// Sections that share bytes would make a small file large.
#[test]
fn sections_do_not_overlap() {
    let mut types = Types::new();
    types.structure(4, &[[NAME_A, INT, 0]]);
    let mut forge = Forge::new(types.section(), Vec::new());
    for _ in 0..8 {
        forge.sections.push(Forged { name: ".rodata", kind: PROGBITS, flags: ALLOCATED, content: vec![0; 4096] });
    }
    let mut bytes = forge.write();
    // The first of these is section 4; let the others begin where it does, and be twice as long.
    let table = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    let start = bytes[table + 64 * 4 + 24..][..8].to_vec();
    for section in 5..12 {
        bytes[table + 64 * section + 24..][..8].copy_from_slice(&start);
        bytes[table + 64 * section + 32..][..8].copy_from_slice(&8192u64.to_le_bytes());
    }
    let findings = object::read(&bytes).expect_err("the sections overlap");
    assert!(findings[0].code == Code::OBJECT_MALFORMED && findings[0].message.contains("overlap"), "{findings:?}");
}

/// Many sections, symbols and relocations that are all wrong: reading stops when there are enough findings.
#[test]
fn many_mistakes_are_not_all_reported() {
    let mut types = Types::new();
    types.structure(4, &[[NAME_A, INT, 0]]);
    let extension = [1u32 << 16 | 0xeb9f, 24, 0, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    let mut forge = Forge::new(types.section(), extension);
    let code = [0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0x7f].repeat(100_000);
    // A relocation of an unknown type for each call, against the one symbol; applied to section 1.
    let relocations: Vec<u8> = (0..100_000u64).flat_map(|call| [call * 8, 1 << 32 | 77]).flat_map(u64::to_le_bytes).collect();
    forge.sections[0].content = code;
    forge.sections.push(Forged { name: ".relnaam/f", kind: 9, flags: 0, content: relocations });
    forge.symbols.extend((0..60_000).map(|symbol| [1 | 0x12 << 32 | 1 << 48, symbol * 8, 8, 0]));
    let mut bytes = forge.write();
    let table = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    bytes[table + 64 * 4 + 44] = 1;
    let findings = object::read(&bytes).expect_err("nothing of it is right");
    assert!(findings.len() <= object::FINDINGS_MAX && !findings.is_empty());
    assert!(findings.iter().any(|finding| finding.code == Code::RELOCATION), "{:?}", findings[0]);
}
