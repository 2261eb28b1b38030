//! Findings: what is wrong with an input, under a stable code, at a place, with what was known and what to do.
//!
//! Every stage reports through [`Finding`]. Turning one into terminal output or JSON happens in the program, not here.

use std::fmt;

/// A stable name for one kind of finding. `naamc explain CODE` prints [`Code::explanation`].
///
/// Numbers: N1xx object files, N2xx instructions and control flow, N3xx memory and values, N4xx bundles, N5xx continuations and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "N{:03}", self.0)
    }
}

/// One row of the table of codes.
pub struct Explanation {
    /// The code.
    pub code: Code,
    /// One line: what is wrong.
    pub title: &'static str,
    /// A few sentences: why it is refused and how to mend it.
    pub explanation: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $title:literal, $explanation:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($number);)*
        }
        /// All codes, ascending.
        pub const CODES: &[Explanation] = &[$(Explanation { code: Code($number), title: $title, explanation: $explanation },)*];
    };
}

codes! {
    OBJECT_MALFORMED = 101, "not a well-formed eBPF object file",
        "The file is not a little-endian 64-bit ELF relocatable object for eBPF, or one of its tables points outside the file. Build handlers with `naamc build FILE.c`, or with clang and `-target bpf -g -c`.";
    CODE_LENGTH = 201, "the code has an impossible length",
        "eBPF code is a sequence of 8-byte slots; a 64-bit load takes two of them. The code ends inside a slot or inside such a load, or is longer than all handlers of a bundle may be together.";
    OPCODE_UNKNOWN = 202, "unknown instruction",
        "The opcode is not one of RFC 9669's base, divmul or atomic groups, which are what clang emits up to `-mcpu=v4`. Build with `-mcpu=v3`.";
    RESERVED_FIELD = 203, "a reserved field is not zero",
        "RFC 9669 demands that fields which an instruction does not use are zero, so that they can get a meaning later. The object was damaged or not written by clang.";
    REGISTER_UNKNOWN = 204, "a register that does not exist",
        "eBPF has the registers r0 to r10. The object was damaged or not written by clang.";
    REGISTER_READ_ONLY = 205, "r10 is written",
        "r10 holds the end of the stack and cannot be changed. Copy it to another register first; clang always does.";
    JUMP_TARGET = 206, "a jump to where no instruction begins",
        "A jump leaves its section or lands in the second half of a 64-bit load. The object was damaged or not written by clang.";
    LEGACY_PACKET_ACCESS = 207, "legacy packet access",
        "The instructions `ld_abs` and `ld_ind` read a network packet in ways that only kernels know; RFC 9669 keeps them as history. A handler's data is its message: read it through the handler's argument.";
    INDIRECT = 208, "a jump or call through a register",
        "The code goes to an address that it computes: a function pointer, or a `switch` that was compiled to a table. Such targets cannot be verified. Call functions by their names, and build with `-fno-jump-tables`.";
    MAY_GOTO = 209, "may_goto",
        "`may_goto` (the kernel's `can_loop` and `cond_break`) is not an instruction of RFC 9669. Handlers do not need it: a loop without a provable bound is metered, that is, it takes fuel.";
    ATOMIC_UNKNOWN = 210, "unknown atomic operation",
        "Atomic operations on stack and body are add, or, and, xor, exchange and compare-exchange, on 4 or 8 bytes. For regions there are `naam_compare_swap` and `naam_fetch_add`.";
    KERNEL_REFERENCE = 211, "a reference to something in a kernel",
        "The instruction refers to a map's file descriptor, a kernel variable or a kernel function. Handlers run outside kernels: they know their message, their regions and the functions of `naam.h`.";
    FUNCTION_LENGTH = 220, "a handler without code, or with too much",
        "A handler has 1 to 65,536 instructions, the functions that it calls included: calls are inlined. Make functions that are called in many places smaller, or loop over the calls.";
    FALLS_OFF_END = 221, "the code runs off its end",
        "The last instruction on some path is neither `exit` nor a jump. clang emits this after a call to a function that it takes not to return, or for undefined behaviour such as division by a constant zero.";
    CALL_NOT_INLINED = 222, "a call that was not inlined",
        "The verifier and the engines take one flat function a handler. The bundle was not made by `naamc build`.";
    LOOP_WITHOUT_EXIT = 223, "a loop without an exit",
        "From this loop no path leads to the end of the handler, so no message that enters it would ever be answered. A loop whose number of rounds merely cannot be proved is fine: it is metered.";
    BUDGET_EXCEEDED = 224, "too complex to verify",
        "The verifier gave up within its budget of steps. Split the handler, or make values that grow in loops simpler: bound them by constants, and keep independent loops out of each other.";
    HELPER_UNKNOWN = 225, "a call of a helper that does not exist",
        "Helpers are called by their numbers, and `naam.h` declares all that exist. Calls of the kernel's helpers (`bpf_...`) are not available: handlers do not run in a kernel.";
    CONTRACT_BROKEN = 226, "a contract does not hold",
        "The contracts that came with the code are not what the code keeps. The bundle was changed after it was built, or was made by a different verifier: build it anew.";
    CONTRACT_MALFORMED = 227, "a contract that makes no sense",
        "A contract names registers, bytes or values that cannot be. The bundle was changed after it was built: build it anew.";
}

/// Where a finding lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The handler or function.
    pub function: Option<String>,
    /// Index of the instruction in the flat function.
    pub instruction: Option<u32>,
    /// The C line, if the object has line information.
    pub line: Option<SourceLine>,
}

/// A line of C.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceLine {
    /// File as the compiler names it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 is unknown.
    pub column: u32,
    /// The line's text, empty if unknown.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// One sentence with the facts of this case.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What was known there, in words: "`r3` is 8 to 64".
    pub known: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without place, facts or hint.
    pub fn new(code: Code, message: impl Into<String>) -> Finding {
        Finding { code, message: message.into(), place: Place::default(), known: Vec::new(), hint: None }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a fact.
    pub fn known(mut self, fact: impl Into<String>) -> Finding {
        self.known.push(fact.into());
        self
    }

    /// Adds the instruction.
    pub fn at(mut self, instruction: u32) -> Finding {
        self.place.instruction = Some(instruction);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(line) = &self.place.line {
            write!(f, " ({}:{})", line.file, line.line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Finding {}
