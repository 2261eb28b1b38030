//! Layouts of messages, region elements and constants: a compact table of C types, with sizes and offsets.
//!
//! `object` makes the table from BTF; bundles carry it. [`Types::validate`] must have accepted a table that came from outside before
//! anything else is asked of it. `json` converts values; `docs/formats/message-json.md` describes that for users.

mod json;
#[cfg(test)]
mod tests;

use crate::diagnostic::{Code, Finding};
pub use json::json_text;
use minicbor::{Decode, Encode};
use std::collections::HashSet;

/// Types of one table.
pub const TYPES_MAX: usize = 4096;
/// Fields of one structure, and names of one enumeration.
pub const MEMBERS_MAX: usize = 1024;
/// Bytes of one type: more than any message or region element needs.
pub const TYPE_BYTES_MAX: u64 = 1 << 24;
/// Numbers that a value of one type consists of: bounds the JSON of values, even of unions inside unions.
pub const TYPE_VALUES_MAX: u64 = 1 << 20;
/// Depth of types inside types.
pub const TYPE_DEPTH_MAX: u32 = 32;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 128;

/// A table of types. A type refers only to types before it, so there are no cycles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Types {
    /// The types; elsewhere they are named by their index.
    #[n(0)]
    pub list: Vec<Type>,
}

/// A C type without qualifiers and typedefs. There are no pointers and no floating-point numbers in messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Type {
    /// An integer of 1, 2, 4 or 8 bytes.
    #[n(0)]
    Integer {
        /// Its size.
        #[n(0)]
        bytes: u8,
        /// What it holds.
        #[n(1)]
        kind: IntegerKind,
    },
    /// An enumeration of 1, 2, 4 or 8 bytes.
    #[n(1)]
    Enumeration {
        /// Its tag; empty if it has none.
        #[n(0)]
        name: String,
        /// Its size.
        #[n(1)]
        bytes: u8,
        /// Whether its numbers are signed.
        #[n(2)]
        signed: bool,
        /// Names and their numbers, as 64-bit patterns, in the order of the declaration.
        #[n(3)]
        names: Vec<(String, i64)>,
    },
    /// An array.
    #[n(2)]
    Array {
        /// Type of an element.
        #[n(0)]
        element: u32,
        /// Number of elements.
        #[n(1)]
        count: u32,
    },
    /// A structure or union. Members of anonymous structures and unions inside it are its own.
    #[n(3)]
    Structure {
        /// Its tag; empty if it has none.
        #[n(0)]
        name: String,
        /// Its size, padding included.
        #[n(1)]
        bytes: u32,
        /// Its fields, in the order of the declaration. Those of unions overlap.
        #[n(2)]
        fields: Vec<Field>,
    },
}

/// What an integer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum IntegerKind {
    /// Numbers from 0.
    #[n(0)]
    Unsigned,
    /// Numbers in two's complement.
    #[n(1)]
    Signed,
    /// `_Bool`.
    #[n(2)]
    Boolean,
    /// `char`: an array of it is a string.
    #[n(3)]
    Character,
}

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Field {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its type.
    #[n(1)]
    pub type_index: u32,
    /// Bits from the start of the structure; a multiple of 8 unless it is a bit field.
    #[n(2)]
    pub offset_bits: u32,
    /// Its width if it is a bit field, else 0.
    #[n(3)]
    pub width_bits: u8,
}

impl IntegerKind {
    /// Whether numbers may be negative. eBPF's `char` is signed.
    pub fn is_signed(self) -> bool {
        matches!(self, IntegerKind::Signed | IntegerKind::Character)
    }
}

impl Types {
    /// The type with this index.
    pub fn get(&self, index: u32) -> Option<&Type> {
        self.list.get(index as usize)
    }

    /// Bytes of a value of this type; `None` if there is no such type.
    pub fn size(&self, index: u32) -> Option<u32> {
        match self.get(index)? {
            Type::Integer { bytes, .. } | Type::Enumeration { bytes, .. } => Some(u32::from(*bytes)),
            Type::Structure { bytes, .. } => Some(*bytes),
            Type::Array { element, count } => self.size(*element)?.checked_mul(*count),
        }
    }

    /// The type in C's words: `u32`, `struct item`, `u64[7]`.
    pub fn name(&self, index: u32) -> String {
        match self.get(index) {
            None => format!("type {index}"),
            Some(Type::Integer { kind: IntegerKind::Boolean, .. }) => "bool".to_string(),
            Some(Type::Integer { kind: IntegerKind::Character, .. }) => "char".to_string(),
            Some(Type::Integer { bytes, kind }) => {
                format!("{}{}", if *kind == IntegerKind::Signed { 's' } else { 'u' }, u32::from(*bytes) * 8)
            }
            Some(Type::Enumeration { name, .. }) => tagged("enum", name),
            Some(Type::Structure { name, .. }) => tagged("struct", name),
            Some(Type::Array { element, count }) => {
                // C writes the outermost dimension first.
                let element = self.name(*element);
                let at = element.find('[').unwrap_or(element.len());
                format!("{}[{count}]{}", &element[..at], &element[at..])
            }
        }
    }

    /// Sees whether the table makes sense: indices and sizes, no cycles, everything within its limits. Other functions rely on it.
    ///
    /// # Errors
    ///
    /// N521 for the first type that does not.
    pub fn validate(&self) -> Result<(), Finding> {
        if self.list.len() > TYPES_MAX {
            return Err(malformed(format!("{} types; {TYPES_MAX} are allowed", self.list.len())));
        }
        let mut measures = Measures::default();
        for (index, entry) in self.list.iter().enumerate() {
            measures.add(entry).map_err(|what| malformed(format!("type {index}: {what}")))?;
        }
        Ok(())
    }
}

fn tagged(keyword: &str, name: &str) -> String {
    if name.is_empty() { keyword.to_string() } else { format!("{keyword} {name}") }
}

fn malformed(what: String) -> Finding {
    Finding::new(Code::TYPES_MALFORMED, what)
}

/// What is known of the types of a growing table that makes sense so far.
#[derive(Default)]
pub struct Measures(Vec<Measure>);

impl Measures {
    /// Adds the next type of the table.
    ///
    /// # Errors
    ///
    /// Why it makes no sense, in words that go on after "type 7:".
    pub fn add(&mut self, entry: &Type) -> Result<(), String> {
        let measure = measure(entry, &self.0)?;
        self.0.push(measure);
        Ok(())
    }
}

/// What is known of one type.
#[derive(Clone, Copy)]
struct Measure {
    bytes: u64,
    /// Numbers in a value.
    values: u64,
    depth: u32,
    /// Whether it can be the type of a bit field.
    is_number: bool,
}

/// Measures a type, given those before it.
fn measure(entry: &Type, before: &[Measure]) -> Result<Measure, String> {
    let earlier =
        |index: u32| before.get(index as usize).copied().ok_or(format!("it refers to type {index}, which is not before it"));
    let number = |bytes: u8| Measure { bytes: bytes.into(), values: 1, depth: 0, is_number: true };
    let measure = match entry {
        Type::Integer { bytes, kind } => {
            let allowed: &[u8] = match kind {
                IntegerKind::Unsigned | IntegerKind::Signed => &[1, 2, 4, 8],
                IntegerKind::Boolean | IntegerKind::Character => &[1],
            };
            if !allowed.contains(bytes) {
                return Err(format!("an integer of {bytes} bytes"));
            }
            number(*bytes)
        }
        Type::Enumeration { name, bytes, names, .. } => {
            if ![1, 2, 4, 8].contains(bytes) {
                return Err(format!("an enumeration of {bytes} bytes"));
            }
            check_names(name, names.iter().map(|(name, _)| name))?;
            number(*bytes)
        }
        Type::Array { element, count } => {
            let element = earlier(*element)?;
            if element.bytes == 0 {
                return Err("an array of elements without bytes".to_string());
            }
            let count = u64::from(*count);
            Measure {
                bytes: element.bytes.saturating_mul(count),
                values: element.values.saturating_mul(count),
                depth: element.depth + 1,
                is_number: false,
            }
        }
        Type::Structure { name, bytes, fields } => {
            check_names(name, fields.iter().map(|field| &field.name))?;
            let mut measure = Measure { bytes: u64::from(*bytes), values: 0, depth: 0, is_number: false };
            for field in fields {
                let inner = earlier(field.type_index)?;
                check_field(field, inner, measure.bytes).map_err(|what| format!("field `{}` {what}", field.name))?;
                measure.values = measure.values.saturating_add(inner.values);
                measure.depth = measure.depth.max(inner.depth + 1);
            }
            measure
        }
    };
    if measure.bytes > TYPE_BYTES_MAX {
        return Err(format!("{} bytes; {TYPE_BYTES_MAX} are allowed", measure.bytes));
    }
    if measure.values > TYPE_VALUES_MAX {
        return Err(format!("a value has {} numbers; {TYPE_VALUES_MAX} are allowed", measure.values));
    }
    if measure.depth > TYPE_DEPTH_MAX {
        return Err(format!("types are nested deeper than {TYPE_DEPTH_MAX}"));
    }
    Ok(measure)
}

fn check_field(field: &Field, inner: Measure, structure_bytes: u64) -> Result<(), String> {
    let start = u64::from(field.offset_bits);
    let width = match field.width_bits {
        0 if !start.is_multiple_of(8) => return Err("does not begin at a byte".to_string()),
        0 => inner.bytes * 8,
        width if inner.is_number && u64::from(width) <= inner.bytes * 8 => u64::from(width),
        width => return Err(format!("is a bit field of {width} bits, which its type does not have")),
    };
    if start + width > structure_bytes * 8 {
        return Err("ends outside the structure".to_string());
    }
    Ok(())
}

/// Names of members are there, are different and are not too many.
fn check_names<'a>(tag: &str, names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), String> {
    if names.len() > MEMBERS_MAX {
        return Err(format!("{} members; {MEMBERS_MAX} are allowed", names.len()));
    }
    if !tag.is_empty() && !is_identifier(tag) {
        return Err(format!("{tag:?} is not a name"));
    }
    let mut seen = HashSet::new();
    for name in names {
        if !is_identifier(name) {
            return Err(format!("{name:?} is not a name"));
        }
        if !seen.insert(name) {
            return Err(format!("two members are named `{name}`"));
        }
    }
    Ok(())
}

/// Whether this is a name as C has them, of at most [`NAME_BYTES_MAX`].
pub fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
