//! `naamc inspect`: what a bundle is, may touch, and why; in words and as JSON.

use super::{Failure, load, say};
use naamc::abi::{Helper, STACK_BYTES};
use naamc::bundle::{Bundle, CheckedBundle, Handler};
use naamc::manifest::{Manifest, Operation};
use naamc::quantity::at_most;
use naamc::types::{Type, Types};
use naamc::verifier::contract::Contract;
use naamc::verifier::value::Scalar;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Prints a bundle.
pub fn run(file: &Path, as_json: bool, only: Option<&str>, code: bool) -> Result<(), Failure> {
    let checked = load(&[PathBuf::from(file)])?;
    if let Some(name) = only
        && checked.handler(name).is_none()
    {
        let known: Vec<&str> = checked.bundle().meaning.handlers.iter().map(|handler| handler.function.name.as_str()).collect();
        return Err(Failure::Unusable(format!("{} has no handler `{name}`; it has {}", file.display(), known.join(", "))));
    }
    if as_json {
        let value = bundle_json(&checked, only, code);
        say(&format!("{}\n", serde_json::to_string_pretty(&value).expect("JSON values have a text")))
    } else {
        let mut text = String::new();
        bundle_text(&mut text, &checked, file, only, code).expect("writing to a String cannot fail");
        say(&text)
    }
}

fn chosen<'a>(bundle: &'a Bundle, only: Option<&'a str>) -> impl Iterator<Item = (usize, &'a Handler)> {
    bundle.meaning.handlers.iter().enumerate().filter(move |(_, handler)| only.is_none_or(|name| handler.function.name == name))
}

fn bundle_text(out: &mut String, checked: &CheckedBundle, file: &Path, only: Option<&str>, code: bool) -> fmt::Result {
    let bundle = checked.bundle();
    let environment = &bundle.meaning.environment;
    writeln!(out, "{}\nid {}\n", file.display(), checked.id())?;
    for region in &environment.regions {
        write!(out, "region {}: {}", region.name, region.rights)?;
        if region.length_bytes_min > 0 {
            write!(out, ", at least {} bytes", region.length_bytes_min)?;
        }
        if let Some(element) = region.element {
            let bytes = bundle.meaning.types.size(element).unwrap_or(0);
            write!(out, ", of {} ({bytes} bytes each)", bundle.meaning.types.name(element))?;
        }
        out.push('\n');
    }
    for constant in &environment.constants {
        let (name, type_name) = (&constant.name, bundle.meaning.types.name(constant.type_index));
        writeln!(
            out,
            "constant {name}: {type_name} = {}, set at deploy with --set {name}=VALUE",
            constant_value(bundle, constant)
        )?;
    }
    if !environment.read_only.is_empty() {
        writeln!(out, "read-only data: {} bytes", environment.read_only.len())?;
    }
    for (index, handler) in chosen(bundle, only) {
        handler_text(out, checked, index, handler, code)?;
    }
    Ok(())
}

fn constant_value(bundle: &Bundle, constant: &naamc::program::Constant) -> Value {
    let start = constant.offset as usize;
    bundle.meaning.types.to_json(constant.type_index, &bundle.meaning.environment.read_only[start..start + constant.bytes as usize])
}

fn handler_text(out: &mut String, checked: &CheckedBundle, index: usize, handler: &Handler, code: bool) -> fmt::Result {
    let bundle = checked.bundle();
    let types = &bundle.meaning.types;
    let manifest = &handler.manifest;
    let body_bytes = handler.function.entry.body_bytes;
    writeln!(out, "\nhandler {}", handler.function.name)?;
    writeln!(
        out,
        "  message     {}, {body_bytes} bytes; a request carries {} of them, a reply at most {}",
        types.name(handler.message),
        manifest.request_bytes,
        manifest.reply_bytes_max
    )?;
    for (depth, offset, name, type_index) in fields(types, handler.message) {
        let bytes = types.size(type_index).unwrap_or(0);
        writeln!(
            out,
            "                {:indent$}{offset:>5}  {name}: {} ({bytes})",
            "",
            types.name(type_index),
            indent = 2 * depth
        )?;
    }
    writeln!(out, "  touches     {}", touches(bundle, manifest))?;
    writeln!(out, "  bounds      {}", bounds(manifest))?;
    writeln!(out, "  runs        {}", runs(manifest))?;
    if !manifest.operations.is_empty() {
        writeln!(out, "  suspension points")?;
    }
    for (point, operation) in manifest.operations.iter().enumerate() {
        let contract = handler.contracts.suspensions.get(point);
        let bytes = contract.map_or(0, Contract::continuation_bytes);
        writeln!(out, "    {point:>2}  {}{}", operation_text(bundle, operation), at_line(bundle, index, operation.instruction))?;
        writeln!(out, "        continuation of {bytes} bytes{}", contract.map(contract_text).unwrap_or_default())?;
    }
    if code {
        writeln!(out, "  code")?;
        code_text(out, bundle, index, handler)?;
    }
    Ok(())
}

/// Fields of a structure with those of structures inside it: depth, offset in bytes, name, type.
fn fields(types: &Types, type_index: u32) -> Vec<(usize, u32, String, u32)> {
    /// Fields shown of one message: enough for people, bounded for hostile types.
    const SHOWN_MAX: usize = 200;
    let mut list = Vec::new();
    let mut stack = vec![(0, 0, String::new(), type_index)];
    while let Some((depth, offset, name, type_index)) = stack.pop() {
        if depth > 0 {
            list.push((depth - 1, offset, name, type_index));
        }
        if list.len() >= SHOWN_MAX {
            break;
        }
        if let Some(Type::Structure { fields, .. }) = types.get(type_index) {
            for field in fields.iter().rev() {
                stack.push((depth + 1, offset + field.offset_bits / 8, field.name.clone(), field.type_index));
            }
        }
    }
    list
}

fn touches(bundle: &Bundle, manifest: &Manifest) -> String {
    let name = |region: u16| bundle.meaning.environment.regions[usize::from(region)].name.as_str();
    let list: Vec<String> = manifest.rights.iter().map(|(region, rights)| format!("{} ({rights})", name(*region))).collect();
    if list.is_empty() { "no region".to_string() } else { list.join(", ") }
}

fn bounds(manifest: &Manifest) -> String {
    let bound = |most: Option<u64>, what: &str| match most {
        Some(most) => at_most(most, what),
        None => format!("{what}s limited by the deployment"),
    };
    let metered = if manifest.metered { "; loops take fuel that have no proved bound or would run long" } else { "" };
    format!(
        "{}, {}{metered}",
        bound(manifest.udma_operations_max, "UDMA operation"),
        bound(manifest.instructions_max, "instruction")
    )
}

fn runs(manifest: &Manifest) -> &'static str {
    match (manifest.has_effects, manifest.uses_executor) {
        (false, false) => "anywhere; only reads, so it may be executed again and moves between places at any suspension point",
        (true, false) => "claims its request before its first effect, and stays on that executor from then on",
        (_, true) => "claims its request when it asks for its executor's number, and stays on that executor from then on",
    }
}

fn operation_text(bundle: &Bundle, operation: &Operation) -> String {
    let regions = &bundle.meaning.environment.regions;
    let names: Vec<&str> =
        (0..regions.len()).filter(|index| operation.regions >> index & 1 == 1).map(|index| regions[index].name.as_str()).collect();
    let length = match (operation.helper, operation.length_min, operation.length_max) {
        (Helper::CompareSwap | Helper::FetchAdd, _, _) => String::new(),
        (_, least, most) if least == most => format!(", {most} bytes"),
        (_, least, most) => format!(", {least} to {most} bytes"),
    };
    format!("{}({}, offset {}{length})", operation.helper.name(), names.join(" or "), offset_text(&operation.offset))
}

/// Offsets are unsigned.
fn offset_text(offset: &Scalar) -> String {
    let steps = if offset.stride > 1 { format!(" in steps of {}", offset.stride) } else { String::new() };
    match (offset.unsigned_min, offset.unsigned_max) {
        (least, most) if least == most => least.to_string(),
        (0, most) if most > u64::MAX / 2 && offset.stride > 1 => format!("any multiple of {}", offset.stride),
        (0, most) if most > u64::MAX / 2 => "any".to_string(),
        (least, most) => format!("{least} to {most}{steps}"),
    }
}

fn at_line(bundle: &Bundle, handler: usize, instruction: u32) -> String {
    bundle.line(handler, instruction).map(|line| format!("  {}:{}", line.file, line.line)).unwrap_or_default()
}

/// What lives across a suspension, in one line.
fn contract_text(contract: &Contract) -> String {
    let mut parts: Vec<String> = contract.registers.iter().map(|(register, value)| format!("{register} {value}")).collect();
    for range in &contract.live_stack {
        parts.push(format!("stack[{}..{}]", range.start as i64 - STACK_BYTES as i64, range.end as i64 - STACK_BYTES as i64));
    }
    for cell in &contract.cells {
        let place = match (cell.offset as usize).checked_sub(STACK_BYTES) {
            Some(offset) => format!("body[{offset}; {}]", cell.size.bytes()),
            None => format!("stack[{}; {}]", i64::from(cell.offset) - STACK_BYTES as i64, cell.size.bytes()),
        };
        parts.push(format!("{place} {}", cell.value));
    }
    parts.extend(contract.bounds.iter().map(|bound| format!("{} + {} at most {}", bound.left, bound.right, bound.max)));
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) }
}

/// Instructions with the C line above the first that belongs to it.
fn code_text(out: &mut String, bundle: &Bundle, index: usize, handler: &Handler) -> fmt::Result {
    let mut last = None;
    for (number, instruction) in handler.function.instructions.iter().enumerate() {
        let line = bundle.line(index, number as u32);
        if let Some(line) = &line
            && last.as_ref().is_none_or(|(file, number)| (file, number) != (&line.file, &line.line))
        {
            writeln!(out, "    ; {}:{}  {}", line.file, line.line, line.text.trim())?;
            last = Some((line.file.clone(), line.line));
        }
        writeln!(out, "    {number:>5}: {instruction}")?;
    }
    Ok(())
}

fn bundle_json(checked: &CheckedBundle, only: Option<&str>, code: bool) -> Value {
    let bundle = checked.bundle();
    let environment = &bundle.meaning.environment;
    let types = &bundle.meaning.types;
    let regions: Vec<Value> = environment
        .regions
        .iter()
        .map(|region| {
            json!({
                "name": region.name,
                "rights": region.rights.to_string(),
                "length_bytes_min": region.length_bytes_min,
                "element": region.element.map(|element| json!({ "name": types.name(element), "bytes": types.size(element) })),
            })
        })
        .collect();
    let constants: Vec<Value> = environment
        .constants
        .iter()
        .map(|constant| json!({ "name": constant.name, "type": types.name(constant.type_index), "value": constant_value(bundle, constant) }))
        .collect();
    let handlers: Vec<Value> = chosen(bundle, only).map(|(index, handler)| handler_json(bundle, index, handler, code)).collect();
    json!({
        "id": checked.id().to_string(),
        "read_only_bytes": environment.read_only.len(),
        "regions": regions,
        "constants": constants,
        "handlers": handlers,
    })
}

fn handler_json(bundle: &Bundle, index: usize, handler: &Handler, code: bool) -> Value {
    let types = &bundle.meaning.types;
    let manifest = &handler.manifest;
    let region = |region: usize| bundle.meaning.environment.regions[region].name.clone();
    let line = |instruction| {
        bundle.line(index, instruction).map(|line| json!({ "file": line.file, "line": line.line, "text": line.text }))
    };
    let points: Vec<Value> = manifest
        .operations
        .iter()
        .zip(&handler.contracts.suspensions)
        .map(|(operation, contract)| {
            json!({
                "instruction": operation.instruction,
                "operation": operation.helper.name(),
                "regions": (0..64).filter(|bit| operation.regions >> bit & 1 == 1).map(region).collect::<Vec<_>>(),
                "offset_min": operation.offset.unsigned_min,
                "offset_max": operation.offset.unsigned_max,
                "length_bytes_min": operation.length_min,
                "length_bytes_max": operation.length_max,
                "continuation_bytes": contract.continuation_bytes(),
                "contract": contract_text(contract).trim_start_matches(": "),
                "line": line(operation.instruction),
            })
        })
        .collect();
    let instructions: Vec<Value> = handler
        .function
        .instructions
        .iter()
        .enumerate()
        .map(|(number, instruction)| json!({ "text": instruction.to_string(), "line": line(number as u32) }))
        .collect();
    let fields: Vec<Value> = fields(types, handler.message)
        .into_iter()
        .map(|(depth, offset, name, type_index)| {
            json!({ "name": name, "type": types.name(type_index), "offset_bytes": offset, "bytes": types.size(type_index), "depth": depth })
        })
        .collect();
    let mut value = json!({
        "name": handler.function.name,
        "message": { "type": types.name(handler.message), "bytes": handler.function.entry.body_bytes, "fields": fields },
        "request_bytes": manifest.request_bytes,
        "reply_bytes_max": manifest.reply_bytes_max,
        "continuation_bytes_max": manifest.continuation_bytes_max,
        "rights": manifest.rights.iter().map(|(index, rights)| json!({ "region": region(usize::from(*index)), "rights": rights.to_string() })).collect::<Vec<_>>(),
        "udma_operations_max": manifest.udma_operations_max,
        "instructions_max": manifest.instructions_max,
        "metered": manifest.metered,
        "has_effects": manifest.has_effects,
        "uses_executor": manifest.uses_executor,
        "suspension_points": points,
    });
    if code {
        value["code"] = Value::Array(instructions);
    }
    value
}
