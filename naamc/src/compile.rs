//! C to ELF: runs clang with the flags under which handlers verify best, and brings `naam.h` along.

use crate::diagnostic::{Code, Finding};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The header that handlers include, as it was when this program was built.
pub const NAAM_H: &str = include_str!("../../handlers/include/naam.h");

/// Compilers that are tried, in this order, unless `NAAM_CLANG` names one.
const CANDIDATES: [&str; 6] = ["clang-19", "clang-21", "clang-20", "clang-18", "clang-17", "clang"];

/// Flags of every build. Loop strength reduction makes pairs of induction variables that only a relational domain could bound;
/// unrolling multiplies suspension points; idiom recognition makes calls of memcpy and memset, which do not exist.
pub const FLAGS: [&str; 12] = [
    "-O2",
    "-g",
    "-target",
    "bpf",
    "-mcpu=v3",
    "-fno-unroll-loops",
    "-mllvm",
    "-disable-lsr",
    "-mllvm",
    "-disable-loop-idiom-all",
    "-mllvm",
    "-bpf-stack-size=4096",
];

/// Why there is no ELF.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sources or the compiler are not what they must be.
    #[error(transparent)]
    Refused(#[from] Finding),
    /// The system did not do what compiling needs.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// Compiles C files, taken together as one translation unit, into an eBPF ELF.
///
/// # Errors
/// N120 if there is no usable clang, N121 with the compiler's own words if the sources do not compile, and what the system says if it
/// does not let the compiler run.
pub fn compile(sources: &[PathBuf]) -> Result<Vec<u8>, Error> {
    let failed = |what: &'static str| move |error: io::Error| Error::System(what, error);
    let scratch = tempfile::tempdir().map_err(failed("no scratch directory, which TMPDIR can name"))?;
    std::fs::write(scratch.path().join("naam.h"), NAAM_H).map_err(failed("cannot write naam.h"))?;
    let here = std::env::current_dir().map_err(failed("no current directory"))?;
    let mut command = Command::new(find_clang()?);
    command.args(FLAGS).arg(format!("-ffile-prefix-map={}=.", here.display())).arg("-I").arg(scratch.path());
    command.args(["-x", "c", "-c", "-o", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let umbrella = match sources {
        [one] => {
            command.arg(one).stdin(Stdio::null());
            String::new()
        }
        _ => {
            command.arg("-").stdin(Stdio::piped());
            sources.iter().map(|source| format!("#include \"{}\"\n", absolute(&here, source).display())).collect()
        }
    };
    let mut child = command.spawn().map_err(failed("clang does not start"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(umbrella.as_bytes()).map_err(failed("clang does not read"))?;
    }
    let output = child.wait_with_output().map_err(failed("clang does not end"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
    let finding = Finding::new(Code::COMPILE_FAILED, format!("the C does not compile:\n{words}"));
    Err(Error::Refused(match known_complaint(&words) {
        Some(hint) => finding.hint(hint),
        None => finding,
    }))
}

/// What a finding in an object file advises and [`compile`] has done already.
const ADVICE: &str = ": build with `naamc build`";

/// Findings in an ELF that [`compile`] made, for the author of its sources: nobody needs to be told of flags that were given, and types,
/// which clang was asked for, are missing only where nothing has one.
pub fn found_in_sources(findings: Vec<Finding>) -> Vec<Finding> {
    let one = |mut finding: Finding| {
        if finding.code == Code::BTF_MISSING && finding.place.function.is_none() {
            return Finding::new(Code::HANDLER_ABSENT, "the C contains no handler")
                .hint("put `SEC(\"naam/NAME\")` before `int name(struct T *message)`");
        }
        if let Some(hint) = &mut finding.hint
            && let Some(start) = hint.find(ADVICE)
        {
            hint.truncate(start);
        }
        finding
    };
    findings.into_iter().map(one).collect()
}

/// What clang's eBPF backend means by its less obvious errors.
fn known_complaint(words: &str) -> Option<&'static str> {
    let no_library = "there is no libc, and none of its headers: naam.h has the types, and everything that a handler can call";
    let complaints = [
        ("/usr/include/", no_library),
        ("'stdio.h' file not found", no_library),
        ("'stdlib.h' file not found", no_library),
        ("'string.h' file not found", no_library),
        ("stack limit", "a handler's stack has 4,096 bytes; put large data into the message or read it in pieces"),
        ("too many args", "a function takes at most five arguments; pass a pointer to a struct on the stack"),
        ("pass by value not supported", "pass structs over 16 bytes by pointer"),
        ("aggregate returns are not supported", "return a struct through a pointer argument"),
        ("unsupported dynamic stack allocation", "arrays of variable length do not exist here; give the array its largest size"),
        ("unsupported signed division", "signed division needs `-mcpu=v4`; divide unsigned numbers, or shift"),
        (
            "A call to built-in function '__",
            "floating point does not exist in eBPF, nor do integers of 128 bits: calculate in integers",
        ),
        (
            "A call to built-in function",
            "memcpy, memset and memcmp of variable length do not exist; use naam_copy, naam_fill, naam_compare",
        ),
    ];
    complaints.into_iter().find(|(words_of_clang, _)| words.contains(words_of_clang)).map(|(_, hint)| hint)
}

fn find_clang() -> Result<PathBuf, Finding> {
    let missing = |what: &str| {
        Finding::new(Code::COMPILER_MISSING, what.to_string()).hint(
            "install clang 17 or later (Debian: `apt install clang-19`), or set NAAM_CLANG to one; prebuilt ELFs need no compiler",
        )
    };
    if let Some(named) = std::env::var_os("NAAM_CLANG") {
        return if knows_bpf(&named) {
            Ok(named.into())
        } else {
            Err(missing("NAAM_CLANG names no clang that knows the eBPF target"))
        };
    }
    let found = CANDIDATES.into_iter().find(|name| knows_bpf(name.as_ref()));
    found.map(PathBuf::from).ok_or_else(|| missing("found no clang that knows the eBPF target"))
}

fn knows_bpf(program: &std::ffi::OsStr) -> bool {
    let output = Command::new(program).arg("-print-targets").stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains("bpf"))
}

fn absolute(here: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_path_buf() } else { here.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clang 19 says of a `double`, and of a copy of unknown length.
    #[test]
    fn complaints_are_told_apart() {
        let hint =
            |name: &str| known_complaint(&format!("a.c:3:47: error: A call to built-in function '{name}' is not supported."));
        for name in ["__floatundidf", "__muldf3", "__gtsf2", "__fixunsdfdi", "__multi3"] {
            assert!(hint(name).is_some_and(|hint| hint.starts_with("floating point does not exist")), "{name}");
        }
        for name in ["memcpy", "memset", "memcmp"] {
            assert!(hint(name).is_some_and(|hint| hint.contains("naam_copy")), "{name}");
        }
        for words in [
            "In file included from a.c:1:\n/usr/include/stdio.h:28:10: fatal error: 'bits/libc-header-start.h' file not found",
            "a.c:1:10: fatal error: 'stdio.h' file not found",
        ] {
            assert!(known_complaint(words).is_some_and(|hint| hint.contains("no libc")), "{words}");
        }
        for words in ["a.c:1:1: error: unknown type name 'u46'", "a.c:1:10: fatal error: 'mine.h' file not found"] {
            assert_eq!(known_complaint(words), None);
        }
    }

    /// clang's copy of a tested value, as an object file and as if it had been compiled here.
    #[test]
    fn flags_that_were_given_are_not_advised() {
        let pair = include_bytes!("../../testdata/verifier/patterns/06_induction_pair.o");
        let Err(findings) = crate::build(pair) else { panic!("the pair is refused") };
        let hint = |findings: &[Finding]| findings[0].hint.clone().unwrap_or_default();
        assert!(hint(&findings).contains(ADVICE), "{findings:?}");
        let found = found_in_sources(findings);
        assert!(hint(&found).ends_with("the optimiser has moved the test to a copy"), "{found:?}");
    }

    #[test]
    fn sources_without_types_are_sources_without_handlers() {
        let missing = Finding::new(Code::BTF_MISSING, "the object has no section `.BTF`").hint("compile with `-g`");
        assert_eq!(found_in_sources(vec![missing])[0].code, Code::HANDLER_ABSENT);
    }
}
