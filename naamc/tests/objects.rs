//! What is read of object files: goldens of every file in `testdata/objects`, good and bad. `BLESS=1` rewrites them.

use naamc::diagnostic::{CODES, Code, Finding};
use naamc::object::{self, Object};
use naamc::types::Type;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").join("testdata").join(name)
}

fn objects(folder_name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(folder_name)).expect("the folder can be read");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("its entries too").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "o"));
    files.sort();
    files
}

fn describe_findings(out: &mut String, findings: &[Finding]) {
    for finding in findings {
        let function = finding.place.function.as_ref().map_or(String::new(), |function| format!(" in {function}"));
        let line = finding
            .place
            .line
            .as_ref()
            .map_or(String::new(), |line| format!(" at {}:{}:{}: {}", line.file, line.line, line.column, line.text.trim()));
        let _ = writeln!(out, "{}{function}{line}\n    {}", finding.code, finding.message);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(out, "    hint: {hint}");
        }
    }
}

fn describe_types(out: &mut String, object: &Object) {
    for (index, entry) in object.types.list.iter().enumerate() {
        let size = object.types.size(index as u32).expect("the type exists");
        let _ = writeln!(out, "type {index} {} of {size} bytes", object.types.name(index as u32));
        match entry {
            Type::Structure { fields, .. } => {
                for field in fields {
                    let bits = match field.width_bits {
                        0 => String::new(),
                        width => format!(" bit {} width {width}", field.offset_bits % 8),
                    };
                    let name = object.types.name(field.type_index);
                    let _ = writeln!(out, "    +{}{bits} {}: {name}", field.offset_bits / 8, field.name);
                }
            }
            Type::Enumeration { signed, names, .. } => {
                let _ = writeln!(out, "    signed {signed}: {names:?}");
            }
            _ => {}
        }
    }
}

fn describe(bytes: &[u8]) -> String {
    let mut out = String::new();
    let object = match object::read(bytes) {
        Ok(object) => object,
        Err(findings) => {
            describe_findings(&mut out, &findings);
            return out;
        }
    };
    object.types.validate().expect("the types of an object make sense");
    for region in &object.environment.regions {
        let element = region.element.map_or("anything".to_string(), |element| object.types.name(element));
        let _ = writeln!(out, "region {}: {}, at least {} bytes, {element}", region.name, region.rights, region.length_bytes_min);
    }
    for constant in &object.environment.constants {
        let value = &object.environment.read_only[constant.offset as usize..][..constant.bytes as usize];
        let value = object.types.to_json(constant.type_index, value);
        let _ = writeln!(
            out,
            "constant {} at {}: {} = {value}",
            constant.name,
            constant.offset,
            object.types.name(constant.type_index)
        );
    }
    let _ = writeln!(out, "read-only data: {}", object.environment.read_only.escape_ascii());
    describe_types(&mut out, &object);
    for handler in &object.handlers {
        let _ = writeln!(out, "handler {}: {}, {} bytes", handler.name, object.types.name(handler.message), handler.body_bytes);
        match object.flatten(handler) {
            Ok((function, lines)) => {
                assert_eq!(function.instructions.len(), lines.len());
                for (index, (instruction, line)) in function.instructions.iter().zip(lines).enumerate() {
                    let line = line.checked_sub(1).map_or(0, |line| object.lines[line as usize].line);
                    let _ = writeln!(out, "{index:5}  {line:4}  {instruction}");
                }
            }
            Err(findings) => describe_findings(&mut out, &findings),
        }
    }
    out
}

/// Regions, constants, types, flat code with C lines, or findings: as they were when the golden was read by a person.
#[test]
fn objects_are_read_as_their_goldens_say() {
    let mut differing = Vec::new();
    let objects = objects("objects");
    for file in &objects {
        let found = describe(&std::fs::read(file).expect("the object can be read"));
        let golden = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &found).expect("the golden can be written");
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != found {
            differing.push(file.file_name().expect("a file has a name").to_owned());
        }
    }
    assert!(objects.len() >= 20, "{} objects", objects.len());
    assert!(differing.is_empty(), "{differing:?} differ from their goldens; BLESS=1 rewrites them");
}

/// Every finding that the goldens can show is shown by one: no refusal goes untested.
#[test]
fn every_code_of_objects_has_a_golden() {
    let goldens: String =
        objects("objects").iter().map(|file| std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default()).collect();
    // Damage and limits are the campaign's and the directed tests' below.
    let elsewhere = [Code::OBJECT_MALFORMED, Code::OBJECT_LIMIT, Code::BTF_MALFORMED, Code::RELOCATION];
    let codes = CODES.iter().map(|entry| entry.code).filter(|code| (100..120).contains(&code.0) && !elsewhere.contains(code));
    let missing: Vec<String> = codes.map(|code| code.to_string()).filter(|code| !goldens.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "no golden shows {missing:?}");
}

/// The handlers of this repository are read without a finding, every instruction with a C line, and give the same object twice.
#[test]
fn the_handlers_of_this_repository_are_read() {
    let files = objects("handlers");
    assert!(files.len() > 3, "{} objects", files.len());
    for file in files {
        let bytes = std::fs::read(&file).expect("the object can be read");
        let object = object::read(&bytes).unwrap_or_else(|findings| panic!("{}: {findings:?}", file.display()));
        assert_eq!(object::read(&bytes), Ok(object.clone()), "{}", file.display());
        for handler in &object.handlers {
            let (function, lines) = object.flatten(handler).unwrap_or_else(|findings| panic!("{}: {findings:?}", file.display()));
            assert!(!function.instructions.is_empty());
            assert!(lines.iter().all(|line| *line != 0), "{}: `{}` has instructions without a line", file.display(), handler.name);
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    let good = std::fs::read(folder("objects").join("calls.o")).expect("the object can be read");
    let patched = |offset: usize, bytes: &[u8]| {
        let mut copy = good.clone();
        copy[offset..offset + bytes.len()].copy_from_slice(bytes);
        copy
    };
    let cases: Vec<(Vec<u8>, Code, &str)> = vec![
        (vec![], Code::OBJECT_MALFORMED, "not an ELF"),
        (b"int main(void)".to_vec(), Code::OBJECT_MALFORMED, "not an ELF"),
        (vec![0; object::FILE_BYTES_MAX + 1], Code::OBJECT_LIMIT, "an object file has at most"),
        (good[..good.len() / 2].to_vec(), Code::OBJECT_MALFORMED, "cannot be read"),
        // e_machine: x86-64; EI_DATA: big-endian; e_type: executable; e_shnum; e_shoff
        (patched(18, &[62, 0]), Code::OBJECT_MALFORMED, "not for little-endian 64-bit eBPF"),
        (patched(5, &[2]), Code::OBJECT_MALFORMED, "not for little-endian 64-bit eBPF"),
        (patched(16, &[2, 0]), Code::OBJECT_MALFORMED, "not a relocatable object"),
        (patched(60, &[0, 0]), Code::OBJECT_MALFORMED, "no sections"),
        (patched(60, &[255, 127]), Code::OBJECT_LIMIT, "32767 sections"),
        (patched(40, &[255; 8]), Code::OBJECT_MALFORMED, "section table cannot be read"),
    ];
    for (bytes, code, message) in cases {
        let findings = object::read(&bytes).expect_err(message);
        assert!(findings[0].code == code && findings[0].message.contains(message), "{findings:?} lack {message}");
    }
}

/// Lab, needs clang 19: what is checked in is what the C beside it compiles to.
#[test]
fn a_fresh_build_gives_the_same_objects() {
    let clang = std::env::var("NAAM_CLANG").unwrap_or_else(|_| "clang-19".to_string());
    if std::process::Command::new(&clang).arg("--version").output().is_err() {
        assert!(std::env::var_os("NAAM_LAB").is_none(), "`{clang}` is missing");
        println!("skipped: `{clang}` is missing (apt install clang-19)");
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let script = std::process::Command::new(folder("scripts/build-objects.sh")).arg(&clang).arg(scratch.path()).output();
    let output = script.expect("the script can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in objects("objects") {
        let fresh = scratch.path().join("testdata/objects").join(file.file_name().expect("a file has a name"));
        let read = |file: &Path| object::read(&std::fs::read(file).expect("the object can be read"));
        assert!(read(&fresh) == read(&file), "{} is not what its C compiles to", file.display());
    }
}
