//! JSON to bytes and back, by type. The convention is in `docs/formats/message-json.md`.
//!
//! Both directions walk the type, never the value: the type's limits bound the work.

use super::{Field, IntegerKind, Type, Types};
use crate::diagnostic::{Code, Finding};
use serde_json::{Map, Value};
use std::fmt::Write;

/// Columns that a list of numbers fills before it goes on in another line.
const LINE_COLUMNS: usize = 100;
/// Names that an error lists.
const CANDIDATES_SHOWN: usize = 16;

impl Types {
    /// Bytes of the value that `value` describes. Fields that are left out are zero.
    ///
    /// # Errors
    ///
    /// N520 with the path of what does not fit: unknown field, number out of range, too many elements.
    pub fn from_json(&self, index: u32, value: &Value) -> Result<Vec<u8>, Finding> {
        let bytes = self.size(index).ok_or_else(|| refused("", format!("there is no type {index}")))?;
        let mut bytes = vec![0; bytes as usize];
        self.read(index, value, &mut bytes, &mut String::new())?;
        Ok(bytes)
    }

    /// The value in `bytes` as JSON; bytes that are missing at the end count as zero, so a shortened reply can be shown.
    /// `null` if there is no such type.
    pub fn to_json(&self, index: u32, bytes: &[u8]) -> Value {
        let Some(size) = self.size(index) else { return Value::Null };
        let mut whole = vec![0; size as usize];
        let present = bytes.len().min(whole.len());
        whole[..present].copy_from_slice(&bytes[..present]);
        self.write(index, &whole)
    }

    fn read(&self, index: u32, value: &Value, out: &mut [u8], path: &mut String) -> Result<(), Finding> {
        match &self.list[index as usize] {
            Type::Integer { .. } | Type::Enumeration { .. } => {
                let pattern = self.number(index, out.len() as u32 * 8, value, path)?;
                out.copy_from_slice(&pattern.to_le_bytes()[..out.len()]);
                Ok(())
            }
            Type::Array { element, count } => self.read_array(*element, *count, value, out, path),
            Type::Structure { fields, .. } => self.read_structure(index, fields, value, out, path),
        }
    }

    fn read_structure(
        &self,
        index: u32,
        fields: &[Field],
        value: &Value,
        out: &mut [u8],
        path: &mut String,
    ) -> Result<(), Finding> {
        let Value::Object(members) = value else {
            return Err(refused(path, format!("{} is an object with fields, not {}", self.name(index), kind_of(value))));
        };
        for (name, member) in members {
            let Some(field) = fields.iter().find(|field| field.name == *name) else {
                return Err(self.unknown_field(index, fields, name, path));
            };
            let length = path.len();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            if field.width_bits == 0 {
                let start = field.offset_bits as usize / 8;
                let size = self.size(field.type_index).unwrap_or_default() as usize;
                self.read(field.type_index, member, &mut out[start..start + size], path)?;
            } else {
                let pattern = self.number(field.type_index, field.width_bits.into(), member, path)?;
                set_bits(out, field, pattern);
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn unknown_field(&self, index: u32, fields: &[Field], name: &str, path: &str) -> Finding {
        let mut names: Vec<&str> = fields.iter().take(CANDIDATES_SHOWN).map(|field| field.name.as_str()).collect();
        if fields.len() > CANDIDATES_SHOWN {
            names.push("...");
        }
        refused(path, format!("{} has no field `{name}`; it has {}", self.name(index), names.join(", ")))
    }

    fn read_array(&self, element: u32, count: u32, value: &Value, out: &mut [u8], path: &mut String) -> Result<(), Finding> {
        match value {
            Value::Array(values) => {
                if values.len() > count as usize {
                    return Err(refused(path, format!("{} elements; the array has {count}", values.len())));
                }
                let size = self.size(element).unwrap_or_default() as usize;
                for (position, (value, out)) in values.iter().zip(out.chunks_exact_mut(size)).enumerate() {
                    let length = path.len();
                    let _ = write!(path, "[{position}]");
                    self.read(element, value, out, path)?;
                    path.truncate(length);
                }
                Ok(())
            }
            Value::String(text) if self.is_byte(element) => {
                let bytes = match text.strip_prefix("0x") {
                    Some(digits) => hexadecimal(digits).ok_or_else(|| {
                        refused(path, format!("{text:?} begins with 0x, but is not made of pairs of hexadecimal digits"))
                    })?,
                    None => text.as_bytes().to_vec(),
                };
                match out.get_mut(..bytes.len()) {
                    Some(out) => out.copy_from_slice(&bytes),
                    None => return Err(refused(path, format!("{} bytes; the array has {count}", bytes.len()))),
                }
                Ok(())
            }
            other => {
                let also = if self.is_byte(element) { ", a text, or bytes as \"0x...\"" } else { "" };
                Err(refused(path, format!("an array is a list{also}, not {}", kind_of(other))))
            }
        }
    }

    /// The bit pattern of a number, after a check that it fits into `bits`, at most 64.
    fn number(&self, index: u32, bits: u32, value: &Value, path: &str) -> Result<u64, Finding> {
        let (signed, names) = match &self.list[index as usize] {
            Type::Enumeration { signed, names, .. } => (*signed, names.as_slice()),
            Type::Integer { kind, .. } => (kind.is_signed(), [].as_slice()),
            _ => (false, [].as_slice()),
        };
        let boolean = matches!(self.list[index as usize], Type::Integer { kind: IntegerKind::Boolean, .. });
        let (least, most) = if signed { (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1) } else { (0, (1i128 << bits) - 1) };
        let number = match value {
            Value::Bool(truth) if boolean => i128::from(*truth),
            Value::Number(number) => match integer(number) {
                Some(number) => number,
                // JSON keeps it as a fraction, which no longer says how it was written.
                None if number.as_f64().is_some_and(|number| number.abs() >= 2f64.powi(63)) => {
                    return Err(refused(path, format!("a number of more than 64 bits does not fit; {least} to {most} do")));
                }
                None => return Err(refused(path, format!("{number} is not a whole number"))),
            },
            Value::String(text) => match names.iter().find(|(name, _)| name == text) {
                Some((_, number)) if signed => i128::from(*number),
                Some((_, number)) => i128::from(*number as u64),
                None if !names.is_empty() => {
                    let shown: Vec<&str> = names.iter().take(CANDIDATES_SHOWN).map(|(name, _)| name.as_str()).collect();
                    return Err(refused(path, format!("{} has no `{text}`; it has {}", self.name(index), shown.join(", "))));
                }
                None => text_number(text).ok_or_else(|| refused(path, format!("{text:?} is not a number")))?,
            },
            other => return Err(refused(path, format!("{} is a number, not {}", self.name(index), kind_of(other)))),
        };
        if number < least || number > most {
            return Err(refused(path, format!("{number} does not fit; {least} to {most} do")));
        }
        Ok(number as u64)
    }

    fn write(&self, index: u32, bytes: &[u8]) -> Value {
        match &self.list[index as usize] {
            Type::Integer { .. } | Type::Enumeration { .. } => {
                let mut pattern = [0; 8];
                pattern[..bytes.len()].copy_from_slice(bytes);
                self.write_number(index, bytes.len() as u32 * 8, u64::from_le_bytes(pattern))
            }
            Type::Array { element, .. } if self.is_byte(*element) => Value::String(byte_text(bytes)),
            Type::Array { element, .. } => {
                let size = self.size(*element).unwrap_or(1).max(1) as usize;
                bytes.chunks_exact(size).map(|bytes| self.write(*element, bytes)).collect()
            }
            Type::Structure { fields, .. } => {
                let mut members = Map::new();
                for field in fields {
                    members.insert(field.name.clone(), self.write_field(field, bytes));
                }
                Value::Object(members)
            }
        }
    }

    fn write_field(&self, field: &Field, bytes: &[u8]) -> Value {
        if field.width_bits != 0 {
            return self.write_number(field.type_index, field.width_bits.into(), get_bits(bytes, field));
        }
        let start = field.offset_bits as usize / 8;
        let size = self.size(field.type_index).unwrap_or_default() as usize;
        self.write(field.type_index, &bytes[start..start + size])
    }

    fn write_number(&self, index: u32, bits: u32, pattern: u64) -> Value {
        let extended = (pattern << (64 - bits)) as i64 >> (64 - bits);
        match &self.list[index as usize] {
            Type::Enumeration { signed, names, .. } => {
                // Names hold 64-bit patterns; a number without a name stands as a number.
                let number = if *signed { extended } else { pattern as i64 };
                match names.iter().find(|(_, known)| *known == number) {
                    Some((name, _)) => Value::String(name.clone()),
                    None if *signed => Value::from(number),
                    None => Value::from(pattern),
                }
            }
            Type::Integer { kind: IntegerKind::Boolean, .. } if pattern <= 1 => Value::Bool(pattern == 1),
            Type::Integer { kind, .. } if kind.is_signed() => Value::from(extended),
            _ => Value::from(pattern),
        }
    }

    /// Whether arrays of this type are texts.
    fn is_byte(&self, index: u32) -> bool {
        matches!(self.get(index), Some(Type::Integer { bytes: 1, kind: IntegerKind::Unsigned | IntegerKind::Character }))
    }
}

/// The bytes of a byte array as text: what is printable as it is, without the zeros at its end, else `0x` and all digits. A text that itself begins with
/// `0x` is written as digits, so reading gives back the same bytes.
fn byte_text(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    match std::str::from_utf8(&bytes[..end]) {
        Ok(text) if !text.starts_with("0x") && !text.chars().any(char::is_control) => text.to_string(),
        _ => bytes.iter().fold("0x".to_string(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digit = |character: u8| (character as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// `"0x1f"` or `"31"`, for programs whose JSON has no 64-bit numbers.
fn text_number(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let number = match digits.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok()?,
        None if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(if negative { -i128::from(number) } else { number.into() })
}

fn integer(number: &serde_json::Number) -> Option<i128> {
    number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from))
}

/// The bits of a bit field; validated types have it inside `bytes`. eBPF is little-endian: bit 0 is the lowest of the first byte.
fn get_bits(bytes: &[u8], field: &Field) -> u64 {
    let bit = |position: u32| u64::from(bytes[position as usize / 8] >> (position % 8) & 1);
    (0..u32::from(field.width_bits)).fold(0, |bits, index| bits | bit(field.offset_bits + index) << index)
}

fn set_bits(bytes: &mut [u8], field: &Field, value: u64) {
    for index in 0..u32::from(field.width_bits) {
        let position = field.offset_bits + index;
        let mask = 1 << (position % 8);
        let byte = &mut bytes[position as usize / 8];
        *byte = if value >> index & 1 == 1 { *byte | mask } else { *byte & !mask };
    }
}

/// JSON for people: as serde's, but numbers and texts of a list share lines.
pub fn json_text(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value, 0);
    out
}

fn put(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            for (position, (name, member)) in members.iter().enumerate() {
                begin_line(out, position, depth + 1);
                let _ = write!(out, "{}: ", Value::from(name.as_str()));
                put(out, member, depth + 1);
            }
            end_lines(out, depth, '}');
        }
        Value::Array(elements) if elements.iter().any(|element| element.is_object() || element.is_array()) => {
            out.push('[');
            for (position, element) in elements.iter().enumerate() {
                begin_line(out, position, depth + 1);
                put(out, element, depth + 1);
            }
            end_lines(out, depth, ']');
        }
        Value::Array(elements) => {
            let texts: Vec<String> = elements.iter().map(Value::to_string).collect();
            let column = out.len() - out.rfind('\n').map_or(0, |newline| newline + 1);
            let whole = texts.join(", ");
            if column + whole.len() + 2 <= LINE_COLUMNS {
                let _ = write!(out, "[{whole}]");
                return;
            }
            out.push('[');
            let mut room = 0;
            for (position, text) in texts.iter().enumerate() {
                if text.len() + 2 > room {
                    begin_line(out, position, depth + 1);
                    room = LINE_COLUMNS.saturating_sub(2 * (depth + 1));
                } else {
                    out.push_str(", ");
                }
                out.push_str(text);
                room = room.saturating_sub(text.len() + 2);
            }
            end_lines(out, depth, ']');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn begin_line(out: &mut String, position: usize, depth: usize) {
    let _ = write!(out, "{}\n{:indent$}", if position == 0 { "" } else { "," }, "", indent = 2 * depth);
}

fn end_lines(out: &mut String, depth: usize, end: char) {
    let _ = write!(out, "\n{:indent$}{end}", "", indent = 2 * depth);
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn refused(path: &str, what: String) -> Finding {
    let message = if path.is_empty() { what } else { format!("`{path}`: {what}") };
    Finding::new(Code::MESSAGE_JSON, message)
}
