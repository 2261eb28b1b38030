//! The text that `exec` takes: whatever it is, there is a program, or a clear refusal.

use fastrand::Rng;
use naamc::abi::BODY_BYTES_MAX;
use naamc::diagnostic::Code;
use naamc::exec::{self, ExecError};

const RETURN_1: &str = "b7 00 00 00 01 00 00 00 95 00 00 00 00 00 00 00";

/// Proves that blanks may stand anywhere, and that no memory is memory of length 0.
#[test]
fn blanks_mean_nothing() {
    for text in [
        RETURN_1.to_owned(),
        RETURN_1.replace(' ', ""),
        format!("\n\t{RETURN_1}\r\n"),
        RETURN_1.to_uppercase().replace("00 ", "0\n0"),
    ] {
        let program = exec::parse(&text, Some(" 0A\tfF 1\n0 ")).unwrap();
        assert_eq!(program.memory, [0x0a, 0xff, 0x10]);
        assert_eq!(program.proof.function().entry.second_argument, Some(3));
    }
    for memory in [None, Some(""), Some("  ")] {
        let program = exec::parse(RETURN_1, memory).unwrap();
        assert_eq!((program.memory.len(), program.proof.function().entry.body_bytes), (0, 0));
    }
}

/// Proves that what is not hex text, or too much, is refused in words that say what to mend.
#[test]
fn unreadable_text_is_refused() {
    let message = |program: &str, memory: Option<&str>| exec::parse(program, memory).unwrap_err().to_string();
    assert_eq!(message("b7 0g", None), "the program is not hex text: it has 'g'");
    assert_eq!(message("b7 0", None), "the program is not hex text: it has 3 digits, and a byte has two");
    assert_eq!(message(RETURN_1, Some("0x00")), "the memory is not hex text: it has 'x'");
    assert_eq!(message(RETURN_1, Some("٣٣")), "the memory is not hex text: it has '٣'");
    assert!(exec::parse(RETURN_1, Some(&"00".repeat(BODY_BYTES_MAX))).is_ok());
    let too_large = message(RETURN_1, Some(&"00".repeat(BODY_BYTES_MAX + 1)));
    assert_eq!(too_large, format!("the memory has {} bytes; a message has at most {BODY_BYTES_MAX}", BODY_BYTES_MAX + 1));
}

/// Proves that code which cannot run is refused before it runs, under a stable code.
#[test]
fn code_that_cannot_run_is_refused() {
    let first = |text: &str| match exec::parse(text, None) {
        Err(ExecError::Refused(findings)) => findings[0].code,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(first("b7 00 00 00 01 00 00"), Code::CODE_LENGTH);
    assert_eq!(first("8d 00 00 00 00 00 00 00"), Code::INDIRECT);
    assert_eq!(first("85 20 00 00 2a 00 00 00"), Code::KERNEL_REFERENCE);
    // No code, and code that does not end.
    assert_eq!(first(""), Code::FUNCTION_LENGTH);
    assert_eq!(first("b7 00 00 00 01 00 00 00"), Code::FALLS_OFF_END);
    // A call that leaves the program, and one of itself.
    assert_eq!(first("85 10 00 00 64 00 00 00 95 00 00 00 00 00 00 00"), Code::JUMP_TARGET);
    assert_eq!(first("85 10 00 00 ff ff ff ff 95 00 00 00 00 00 00 00"), Code::RECURSION);
}

/// Proves that no text makes it panic: programs with bytes changed, and text that is hex only in part.
#[test]
fn no_text_makes_it_panic() {
    let mut random = Rng::with_seed(0xe8ec);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut code: Vec<u8> =
            (0..random.usize(1..8)).flat_map(|_| [0xb7, random.u8(0..10), 0, 0, random.u8(..), 0, 0, 0]).collect();
        code.extend([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..random.usize(0..3) {
            let at = random.usize(0..code.len());
            code[at] = random.u8(..);
        }
        let mut text: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        if round % 8 == 0 {
            let at = random.usize(0..text.len());
            text.insert(at, char::from(random.u8(..)));
        }
        match exec::parse(&text, Some("0102030405060708")) {
            Ok(_) => taken += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    println!("10000 texts: {taken} proved, {refused} refused");
    assert!(taken > 1_000 && refused > 1_000);
}
