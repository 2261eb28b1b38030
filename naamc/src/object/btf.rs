//! BTF, the kernel's compact type format (`Documentation/bpf/btf.rst`): section `.BTF` as a list of types.
//!
//! A checked reader: every record is inside its section, every name is a string, every reference names a type that exists. What the types mean to
//! messages and regions is for `layout`.

use super::elf::limit;
use crate::diagnostic::{Code, Finding};

/// Types of one object.
pub const BTF_TYPES_MAX: usize = 65_536;
/// Bytes of one name or C line that are kept.
pub const STRING_BYTES_MAX: usize = 1024;
/// Typedefs and qualifiers around one type.
pub const QUALIFIERS_MAX: usize = 64;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

/// The types of an object. Id 0 is `void`.
#[derive(Debug)]
pub struct Btf<'a> {
    types: Vec<BtfType<'a>>,
    strings: &'a [u8],
}

/// One type. References are ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BtfType<'a> {
    /// No value.
    Void,
    /// An integer.
    Integer {
        /// Its C name.
        name: &'a str,
        /// Its size.
        bytes: u32,
        /// Whether it is signed.
        signed: bool,
        /// Whether it is `_Bool`.
        boolean: bool,
        /// Whether its value does not fill its bytes: an old form of bit field.
        partial: bool,
    },
    /// A pointer to a type.
    Pointer(u32),
    /// An array.
    Array {
        /// Type of an element.
        element: u32,
        /// Number of elements.
        count: u32,
    },
    /// A structure or union.
    Structure {
        /// Its tag.
        name: &'a str,
        /// Its size.
        bytes: u32,
        /// Its members.
        members: Vec<Member<'a>>,
    },
    /// An enumeration.
    Enumeration {
        /// Its tag.
        name: &'a str,
        /// Its size.
        bytes: u32,
        /// Whether it is signed.
        signed: bool,
        /// Names and numbers as 64-bit patterns.
        names: Vec<(&'a str, i64)>,
    },
    /// A structure that is declared only.
    Forward {
        /// Its tag.
        name: &'a str,
    },
    /// Another name for a type, or a type tag.
    Alias(u32),
    /// `const`.
    Constant(u32),
    /// `volatile`.
    Volatile(u32),
    /// A function.
    Function {
        /// Its name.
        name: &'a str,
        /// Its prototype.
        prototype: u32,
    },
    /// A function's type.
    Prototype {
        /// Type of the result.
        result: u32,
        /// Types of the parameters.
        parameters: Vec<u32>,
    },
    /// A global variable.
    Variable {
        /// Its name.
        name: &'a str,
        /// Its type.
        variable_type: u32,
    },
    /// The variables of a section.
    DataSection {
        /// The section's name.
        name: &'a str,
        /// Ids of the variables.
        variables: Vec<u32>,
    },
    /// A floating-point number.
    Float,
    /// A tag of a declaration.
    Tag,
}

/// A member of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; empty for anonymous structures and for padding bit fields.
    pub name: &'a str,
    /// Its type.
    pub member_type: u32,
    /// Bits from the structure's start.
    pub offset_bits: u32,
    /// Its width if it is a bit field, else 0.
    pub width_bits: u8,
}

impl<'a> Btf<'a> {
    /// Reads section `.BTF`.
    ///
    /// # Errors
    ///
    /// N104 if it is malformed, N102 beyond a limit.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, Finding> {
        let mut reader = Reader { bytes, at: 0 };
        let header = reader.header()?;
        let [type_offset, type_bytes, string_offset, string_bytes] =
            [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?].map(|field| field as usize);
        let strings = part(bytes, header, string_offset, string_bytes)?;
        let records = part(bytes, header, type_offset, type_bytes)?;
        let mut btf = Btf { types: vec![BtfType::Void], strings };
        let mut reader = Reader { bytes: records, at: 0 };
        while reader.at < records.len() {
            if btf.types.len() > BTF_TYPES_MAX {
                return Err(limit(format!("more than {BTF_TYPES_MAX} types")));
            }
            let record = btf.record(&mut reader)?;
            btf.types.push(record);
        }
        btf.check_references()?;
        Ok(btf)
    }

    /// The type with this id; what [`Btf`] hands out as an id exists.
    pub fn get(&self, id: u32) -> &BtfType<'a> {
        self.types.get(id as usize).unwrap_or(&BtfType::Void)
    }

    /// Whether there is such a type.
    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.types.len()
    }

    /// All types.
    pub fn types(&self) -> &[BtfType<'a>] {
        &self.types
    }

    /// The type behind typedefs and qualifiers, and whether `const` and `volatile` were among them. A chain that does not end is `void`.
    pub fn resolve(&self, mut id: u32) -> (u32, bool, bool) {
        let (mut constant, mut volatile) = (false, false);
        for _ in 0..QUALIFIERS_MAX {
            match self.get(id) {
                BtfType::Alias(inner) => id = *inner,
                BtfType::Constant(inner) => (id, constant) = (*inner, true),
                BtfType::Volatile(inner) => (id, volatile) = (*inner, true),
                _ => return (id, constant, volatile),
            }
        }
        (0, constant, volatile)
    }

    /// The string at an offset, cut at [`STRING_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// N104 if there is none.
    pub fn string(&self, offset: u32) -> Result<&'a str, Finding> {
        let rest = self.strings.get(offset as usize..).ok_or_else(|| malformed("a name lies outside the strings"))?;
        let within = &rest[..rest.len().min(STRING_BYTES_MAX)];
        let end = match within.iter().position(|byte| *byte == 0) {
            Some(end) => end,
            None if within.len() == STRING_BYTES_MAX => within.len(),
            None => return Err(malformed("the last string does not end")),
        };
        match std::str::from_utf8(&within[..end]) {
            Ok(text) => Ok(text),
            // The cut may have gone through a character.
            Err(error) if end == STRING_BYTES_MAX && error.error_len().is_none() => {
                Ok(std::str::from_utf8(&within[..error.valid_up_to()]).unwrap_or_default())
            }
            Err(_) => Err(malformed("a string is not UTF-8")),
        }
    }

    /// Longer than a screen: a table, a row a kind, in the order of the kernel's `btf.h`.
    fn record(&self, reader: &mut Reader) -> Result<BtfType<'a>, Finding> {
        let name = self.string(reader.u32()?)?;
        let information = reader.u32()?;
        // The size of the type, or the id of the one it refers to.
        let size = reader.u32()?;
        let count = information & 0xffff;
        let flag = information >> 31 == 1;
        Ok(match information >> 24 & 0x1f {
            1 => {
                let encoding = reader.u32()?;
                let (signed, boolean) = (encoding >> 24 & 1 != 0, encoding >> 24 & 4 != 0);
                let partial = encoding >> 16 & 0xff != 0 || u64::from(encoding & 0xff) != u64::from(size) * 8;
                BtfType::Integer { name, bytes: size, signed, boolean, partial }
            }
            2 => BtfType::Pointer(size),
            3 => {
                let (element, _index, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
                BtfType::Array { element, count }
            }
            4 | 5 => {
                let mut members = Vec::new();
                for _ in 0..count {
                    let (name, member_type, place) = (self.string(reader.u32()?)?, reader.u32()?, reader.u32()?);
                    let (offset_bits, width_bits) = if flag { (place & 0xff_ffff, (place >> 24) as u8) } else { (place, 0) };
                    members.push(Member { name, member_type, offset_bits, width_bits });
                }
                BtfType::Structure { name, bytes: size, members }
            }
            6 => {
                let mut names = Vec::new();
                for _ in 0..count {
                    let (name, number) = (self.string(reader.u32()?)?, reader.u32()?);
                    names.push((name, if flag { i64::from(number as i32) } else { i64::from(number) }));
                }
                BtfType::Enumeration { name, bytes: size, signed: flag, names }
            }
            7 => BtfType::Forward { name },
            8 | 11 | 18 => BtfType::Alias(size),
            9 => BtfType::Volatile(size),
            10 => BtfType::Constant(size),
            12 => BtfType::Function { name, prototype: size },
            13 => {
                let mut parameters = Vec::new();
                for _ in 0..count {
                    let (_name, parameter) = (reader.u32()?, reader.u32()?);
                    parameters.push(parameter);
                }
                BtfType::Prototype { result: size, parameters }
            }
            14 => {
                reader.u32()?;
                BtfType::Variable { name, variable_type: size }
            }
            15 => {
                let mut variables = Vec::new();
                for _ in 0..count {
                    // Offset and size are the linker's to fill in: the symbols have them.
                    let (variable, _offset, _size) = (reader.u32()?, reader.u32()?, reader.u32()?);
                    variables.push(variable);
                }
                BtfType::DataSection { name, variables }
            }
            16 => BtfType::Float,
            17 => {
                reader.u32()?;
                BtfType::Tag
            }
            19 => {
                let mut names = Vec::new();
                for _ in 0..count {
                    let (name, low, high) = (self.string(reader.u32()?)?, reader.u32()?, reader.u32()?);
                    names.push((name, (u64::from(low) | u64::from(high) << 32) as i64));
                }
                BtfType::Enumeration { name, bytes: size, signed: flag, names }
            }
            kind => return Err(malformed(format!("type {} has unknown kind {kind}", self.types.len()))),
        })
    }

    fn check_references(&self) -> Result<(), Finding> {
        let check = |id: &u32| {
            if self.contains(*id) { Ok(()) } else { Err(malformed(format!("a type refers to type {id}, which does not exist"))) }
        };
        for entry in &self.types {
            match entry {
                BtfType::Pointer(id) | BtfType::Alias(id) | BtfType::Constant(id) | BtfType::Volatile(id) => check(id)?,
                BtfType::Array { element, .. } => check(element)?,
                BtfType::Structure { members, .. } => members.iter().try_for_each(|member| check(&member.member_type))?,
                BtfType::Function { prototype, .. } => check(prototype)?,
                BtfType::Prototype { result, parameters } => {
                    check(result)?;
                    parameters.iter().try_for_each(check)?;
                }
                BtfType::Variable { variable_type, .. } => check(variable_type)?,
                BtfType::DataSection { variables, .. } => variables.iter().try_for_each(check)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Little-endian fields, one after the other.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Reader<'_> {
    pub fn u32(&mut self) -> Result<u32, Finding> {
        let field =
            self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(|| malformed("a record is cut off"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(*field))
    }

    /// What `.BTF` and `.BTF.ext` begin with; returns the header's size, to which offsets are relative.
    pub fn header(&mut self) -> Result<usize, Finding> {
        let first = self.u32()?;
        if first as u16 != MAGIC {
            return Err(malformed("the magic number of little-endian BTF is missing"));
        }
        if first >> 16 & 0xff != 1 {
            return Err(malformed(format!("BTF version {}; there is only version 1", first >> 16 & 0xff)));
        }
        let header_bytes = self.u32()? as usize;
        if header_bytes < HEADER_BYTES || header_bytes > self.bytes.len() {
            return Err(malformed(format!("a header of {header_bytes} bytes")));
        }
        Ok(header_bytes)
    }
}

/// A part of a section, by offset from the end of the header.
pub(super) fn part(bytes: &[u8], header_bytes: usize, offset: usize, length: usize) -> Result<&[u8], Finding> {
    // All three came from 32-bit fields: no overflow.
    let start = header_bytes + offset;
    bytes.get(start..start + length).ok_or_else(|| malformed("a part lies outside its section"))
}

pub(super) fn malformed(what: impl Into<String>) -> Finding {
    Finding::new(Code::BTF_MALFORMED, what)
}
