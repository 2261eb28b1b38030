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
    OBJECT_LIMIT = 102, "the object file exceeds a limit",
        "naamc reads object files of bounded size with bounded numbers of sections, types, functions and strings, so that no file can exhaust its memory. The message names the limit. Split the handlers over several bundles.";
    BTF_MISSING = 103, "no type information",
        "Message layouts, regions and C lines are read from BTF, which clang writes with `-g`. Build with `naamc build FILE.c`, or add `-g`; do not strip the object.";
    BTF_MALFORMED = 104, "malformed type information",
        "The BTF section, or .BTF.ext with the C lines, does not have the form that the kernel's documentation describes, or refers to types or names that do not exist. The object was damaged or not written by clang.";
    SECTION_UNKNOWN = 105, "something in an unknown section",
        "Handlers lie in sections `naam/NAME`, functions that they call in `.text`, regions in `.maps`, constants in `.rodata`. What is placed elsewhere would be ignored, so it is refused.";
    MUTABLE_GLOBAL = 106, "a mutable global variable",
        "A handler runs wherever its message is, so there is no memory that all messages share except regions. Make the variable `const`, `const volatile` if a deployment shall set it, a local variable, a field of the message, or keep it in a region.";
    FUNCTION_UNDEFINED = 107, "a function or variable that is not defined",
        "The object calls a function, or uses a variable, that no source defined. Handlers are not linked with libraries. The compiler itself calls `memcpy`, `memset` and `memcmp` for lengths that it does not know: use `naam_copy`, `naam_fill` and `naam_compare`.";
    RELOCATION = 108, "a relocation that cannot be applied",
        "The object refers to something in a way that naamc does not know, or outside of what it refers to. The object was damaged or not written by clang.";
    ADDRESS_TABLE = 109, "an address inside constant data",
        "Constant data that contains addresses (a table of pointers to strings, functions or other data) would need to be changed wherever the handler is loaded. Use indices into arrays instead of pointers, and arrays of characters (`char names[3][8]`) instead of arrays of strings.";
    FUNCTION_POINTER = 110, "a function's address is taken",
        "Calls through pointers cannot be verified, so functions have no addresses. Call them by their names, chosen by `if` or `switch`.";
    HANDLER_NAME = 111, "a handler's name",
        "A handler is the one function in a section `naam/NAME`. NAME begins with a letter or `_`, goes on with letters, digits, `_` and `-`, has at most 64 characters and is different for each handler of a bundle.";
    HANDLER_PROTOTYPE = 112, "a handler's prototype",
        "A handler is `SEC(\"naam/NAME\") int name(struct T *message)`: it returns an int and takes a pointer to its message, a struct with at least one byte. `recover` takes a `struct naam_recover *`.";
    MESSAGE_TYPE = 113, "a type that has no place in messages or regions",
        "Messages, region elements and constants consist of integers, enumerations, arrays, structs and unions. Pointers mean nothing on another machine, and eBPF has no floating-point numbers. Send an offset or an index instead of a pointer.";
    REGION_DECLARATION = 114, "a region's declaration",
        "A region is `struct { __uint(rights, NAAM_READ | ...); __uint(min_length, BYTES); __type(element, struct T); } name SEC(\".maps\");`. `rights` is required, the others may be left out. Its address is a handle for the functions of naam.h, without an offset.";
    HANDLER_ABSENT = 115, "no handler",
        "The object contains no handler. Put `SEC(\"naam/NAME\")` before a function of the form `int name(struct T *message)`.";
    COMPILER_MISSING = 120, "no C compiler for eBPF",
        "Building from C needs clang 17 or later with the eBPF target (Debian: `apt install clang-19`). Set NAAM_CLANG to use a particular one. Prebuilt ELFs (.o) and bundles (.naam) need no compiler.";
    COMPILE_FAILED = 121, "the C does not compile",
        "clang refused the source; its own words follow the finding. Handlers are freestanding C: no libc, no structs by value over 16 bytes, at most five arguments, no arrays of variable length, no signed division below -mcpu=v4, and no memcpy, memset or memcmp of variable length: naam.h has naam_copy, naam_fill and naam_compare for that.";
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
    RECURSION = 212, "recursion",
        "Calls between functions are inlined, so a function cannot call itself, directly or through others. Write a loop, with an array as its stack if need be.";
    CALL_DEPTH = 213, "calls nested too deeply",
        "Calls are inlined up to a depth of 8 functions, the handler included, as in the kernel. Let the functions in the middle be `__always_inline`.";
    STACK_TOTAL = 214, "the stack is too small for these calls",
        "The handler and the functions that it calls share one stack of 4,096 bytes, each with its own part of it. Make local arrays smaller, pass pointers to one buffer, or keep large data in the message.";
    STACK_POINTER = 215, "an unusual use of the stack pointer",
        "A called function gets its own part of the stack, so uses of r10 in it are rewritten: loads, stores, copies and additions. clang uses r10 in no other way.";
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
    MESSAGE_TOO_LONG = 228, "the message struct is too large",
        "A message under way carries its header and the whole message struct in 8 KiB. Make the struct smaller, or read and write large values in several messages.";
    INSTRUCTION_IMPOSSIBLE = 229, "an instruction that cannot be",
        "The bundle has an instruction with a width, size or flag that eBPF does not know, so it was not decoded from an object file. The bundle was changed after it was built: build it anew.";
    MESSAGE_BOUNDS = 301, "outside the message",
        "A load, store or helper call may touch bytes before or after the handler's message struct. The verifier knows the values that an index or length can have at that place; where they do not fit, test them first, or clamp them with `naam_at_most`, which the optimiser cannot see through.";
    STACK_BOUNDS = 302, "outside the stack",
        "A load, store or helper call may touch bytes below or above the handler's stack of 4,096 bytes: usually an index or length into a local array that was not tested, or that was tested on a copy which the optimiser then changed. Test it, or clamp it with `naam_at_most`.";
    READ_ONLY_BOUNDS = 303, "outside the read-only data",
        "A load may touch bytes outside the object's constants and strings: an index into a constant table that was not tested.";
    NEVER_WRITTEN = 304, "read but never written",
        "Bytes of the stack are read, and no path writes them before: a local variable without initialisation. (The stack reads as zero, so this is no danger to others, but it is no value that the handler computed.) Initialise the variable.";
    POINTER_LEAK = 305, "an address becomes data",
        "An address, or a number that was computed from one, is written to the message or to a region, passed as a number, or returned. Addresses mean nothing to anybody else, and a handler gives the same result wherever it runs.";
    NOT_A_POINTER = 306, "an access through something that is not an address",
        "Handlers can only access memory through their argument, their local variables and constants. The value used here is a number, or was computed from an address by something else than adding and subtracting numbers.";
    MAYBE_NULL = 307, "the pointer may be null",
        "On some path this pointer is null. Test it before the access.";
    RIGHT_MISSING = 308, "a right that the region's declaration does not give",
        "The operation needs a right that the declaration of the region in the handler's source does not list: `NAAM_READ` for naam_read, `NAAM_WRITE` for naam_write, `NAAM_ATOMIC` for naam_compare_swap and naam_fetch_add.";
    REGISTER_UNDEFINED = 309, "a register without a value",
        "A register is read that no instruction has set on some path, or that a call has clobbered: a local variable without initialisation, or a handler that does not return a value on every path.";
    READ_ONLY_WRITTEN = 310, "a write to read-only data",
        "Constants, strings and `const volatile` variables cannot be written. Copy them to a local variable first.";
    ATOMIC_PLACE = 311, "an atomic operation in the wrong place",
        "Atomic instructions work on numbers in the message and on the stack, at addresses that are multiples of their size. For regions there are `naam_compare_swap` and `naam_fetch_add`.";
    REPLY_TOO_LONG = 312, "a reply longer than the message",
        "`naam_reply(length)` sends back a prefix of the message struct, so the length can be at most the struct's size. Test it, or clamp it with `naam_at_most`.";
    REGION_EXPECTED = 313, "not a region",
        "The first argument of UDMA calls and of naam_length is the address of a region that is declared in section `.maps`, or one of several. It cannot be null or computed.";
    REGION_ACCESSED = 314, "a region is accessed like memory",
        "Regions are the server's memory and can be far away. Read them with `naam_read`, write them with `naam_write`.";
    POINTER_COMPARED = 315, "a comparison of unlike things",
        "An address can be compared with null, for equality with another address, and for order with another address into the same object. Anything else depends on where objects lie.";
    SLOT_MIXED = 316, "stack bytes that are not the same kind of value on every path",
        "These stack bytes hold an address, or a part of one, on some path, and on another path something else; or they are read in pieces. Keep addresses and numbers in different variables.";
    BUNDLE_FOREIGN = 401, "not a bundle",
        "The file is no NAAM bundle: bundles begin with the four bytes \"NAAM\". Build one with `naamc build HANDLERS.c -o HANDLERS.naam`.";
    BUNDLE_VERSION = 402, "a bundle of another format version",
        "The bundle was written by another version of naamc. Format version 0 is without promise: build the bundle again from its sources or its ELF.";
    BUNDLE_CHANGED = 403, "a bundle that was changed",
        "The file's checksum, or the hash that is its name, does not match its bytes: it was damaged or changed after it was built. Fetch or build it again.";
    BUNDLE_MALFORMED = 404, "a malformed bundle",
        "A part of the file is not what this version of naamc writes: a length, an index, a name, a limit, or the encoding itself. No naamc wrote this file.";
    BUNDLE_MANIFEST = 405, "a manifest that does not follow from the code",
        "What the bundle says its handler may touch is not what this program proves of the handler's code and contracts. No naamc wrote this bundle.";
    BUNDLE_CONSTANT = 406, "a constant that cannot be set",
        "`--set NAME=VALUE` changes `const volatile` variables at file scope and nothing else. A constant without `volatile` is folded into the code by the compiler and cannot be changed afterwards.";
    CONTINUATION_TOO_LONG = 501, "a suspended message is too large",
        "At every UDMA call a message may have to go on elsewhere. It then takes 8 KiB at most: 64 bytes of header, the whole message struct, and the local variables and registers that are used after the call. Make the struct smaller, or keep less across the call: let large arrays lie in the message, or fill them after the call.";
    MESSAGE_JSON = 520, "JSON that does not fit the message",
        "The JSON of a message is an object with the fields of the handler's message struct; `naamc inspect` prints them. Fields that are left out are zero; fields that do not exist and numbers that do not fit are errors. docs/formats/message-json.md has the whole convention.";
    TYPES_MALFORMED = 521, "a type table that makes no sense",
        "The bundle's table of C types refers to types that are not there, or has sizes that do not fit. The bundle was changed after it was built: build it anew.";
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
