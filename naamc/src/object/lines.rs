//! `.BTF.ext`: which C line an instruction comes from, and which function begins where.

use super::btf::{Btf, Reader, malformed, part};
use super::elf::limit;
use crate::diagnostic::{Finding, SourceLine};
use std::collections::HashMap;

/// Records of lines and functions of one object.
pub const RECORDS_MAX: usize = 1 << 18;
/// Bytes of all texts of lines; those beyond are left out.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// C lines of an object, and its functions' types.
#[derive(Debug, Default)]
pub struct Lines<'a> {
    /// Each line once.
    pub lines: Vec<SourceLine>,
    /// For each section: byte offset where a line begins, index into `lines`; ascending.
    sections: HashMap<&'a str, Vec<(u32, u32)>>,
    /// For each section: byte offset of a function, id of its BTF type.
    functions: HashMap<&'a str, Vec<(u32, u32)>>,
}

impl<'a> Lines<'a> {
    /// Reads section `.BTF.ext`.
    ///
    /// # Errors
    ///
    /// N104 if it is malformed, N102 beyond a limit.
    pub fn parse(bytes: &'a [u8], btf: &Btf<'a>) -> Result<Lines<'a>, Finding> {
        let mut reader = Reader { bytes, at: 0 };
        let header = reader.header()?;
        let [function_offset, function_bytes, line_offset, line_bytes] =
            [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?].map(|field| field as usize);
        let mut lines = Lines::default();
        for (section, [offset, id]) in records::<2>(part(bytes, header, function_offset, function_bytes)?, btf)? {
            if !btf.contains(id) {
                return Err(malformed(format!("a function has type {id}, which does not exist")));
            }
            lines.functions.entry(section).or_default().push((offset, id));
        }
        let mut known = HashMap::new();
        let mut text_bytes = 0;
        for (section, [offset, file, text, place]) in records::<4>(part(bytes, header, line_offset, line_bytes)?, btf)? {
            let (line, column) = (place >> 10, place & 0x3ff);
            // Line 0 is code of the compiler's own: it belongs to the line before.
            if line == 0 {
                continue;
            }
            let index = match known.get(&(file, place)) {
                Some(index) => *index,
                None => {
                    let (file_name, text) = (btf.string(file)?, btf.string(text)?);
                    text_bytes += file_name.len() + text.len();
                    let kept = if text_bytes <= TEXT_BYTES_MAX { (file_name, text) } else { ("", "") };
                    let index = lines.lines.len() as u32;
                    lines.lines.push(SourceLine { file: kept.0.to_string(), line, column, text: kept.1.to_string() });
                    known.insert((file, place), index);
                    index
                }
            };
            lines.sections.entry(section).or_default().push((offset, index));
        }
        for records in lines.sections.values_mut() {
            records.sort_by_key(|(offset, _)| *offset);
        }
        Ok(lines)
    }

    /// Index of the line of the instruction at a byte of a section.
    pub fn index_at(&self, section: &str, offset: u64) -> Option<u32> {
        let records = self.sections.get(section)?;
        let behind = records.partition_point(|(start, _)| u64::from(*start) <= offset);
        Some(records[behind.checked_sub(1)?].1)
    }

    /// The line of the instruction at a byte of a section.
    pub fn at(&self, section: &str, offset: u64) -> Option<&SourceLine> {
        self.lines.get(self.index_at(section, offset)? as usize)
    }

    /// BTF id of the function that begins at a byte of a section.
    pub fn function_at(&self, section: &str, offset: u64) -> Option<u32> {
        let functions = self.functions.get(section)?;
        functions.iter().find(|(start, _)| u64::from(*start) == offset).map(|(_, id)| *id)
    }
}

/// The records of one part: its sections, each with records whose first `FIELDS` fields are taken.
fn records<'a, const FIELDS: usize>(bytes: &[u8], btf: &Btf<'a>) -> Result<Vec<(&'a str, [u32; FIELDS])>, Finding> {
    let mut records = Vec::new();
    if bytes.is_empty() {
        return Ok(records);
    }
    let mut reader = Reader { bytes, at: 0 };
    let record_bytes = reader.u32()? as usize;
    if record_bytes < FIELDS * 4 || !record_bytes.is_multiple_of(4) {
        return Err(malformed(format!("records of {record_bytes} bytes")));
    }
    while reader.at < bytes.len() {
        let section = btf.string(reader.u32()?)?;
        let count = reader.u32()? as usize;
        if count > RECORDS_MAX - records.len() {
            return Err(limit(format!("more than {RECORDS_MAX} records of lines or functions")));
        }
        for _ in 0..count {
            let start = reader.at;
            let mut fields = [0; FIELDS];
            for field in &mut fields {
                *field = reader.u32()?;
            }
            records.push((section, fields));
            reader.at = start + record_bytes;
        }
    }
    Ok(records)
}
