//! The contract between handlers and everything that runs them: helper calls, error numbers, addresses, limits.
//!
//! `handlers/include/naam.h` is this file in C. Numbers here are part of the bundle format.

use minicbor::{Decode, Encode};

/// Bytes of a handler's stack; it is 64-byte aligned and reads as zero at entry.
pub const STACK_BYTES: usize = 4096;
/// Bytes that a message takes at most under way: header, body and continuation.
pub const MESSAGE_BYTES_MAX: usize = 8192;
/// Bytes of a message header on the wire (`docs/formats/message.md`).
pub const HEADER_BYTES: usize = 64;
/// Bytes of a body at most: what a message can carry without a continuation.
pub const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - HEADER_BYTES;
/// Bytes of a continuation before its first register: suspension point and reply length.
pub const CONTINUATION_PREFIX_BYTES: usize = 8;
/// Depth of inlined calls, as in the kernel.
pub const CALL_DEPTH_MAX: usize = 8;
/// Registers of a flat function: r0 to r5 and r10 once, r6 to r9 for every depth of inlined calls.
pub const REGISTERS_MAX: usize = 11 + 4 * (CALL_DEPTH_MAX - 1);
/// Instructions of one handler after inlining.
pub const INSTRUCTIONS_MAX: usize = 65_536;
/// Handlers of one bundle.
pub const HANDLERS_MAX: usize = 256;
/// Bytes of the name of a handler, region or constant.
pub const NAME_BYTES_MAX: usize = 64;
/// Regions declared by one bundle.
pub const REGIONS_MAX: usize = 64;
/// Bytes of read-only data of one bundle.
pub const READ_ONLY_BYTES_MAX: usize = 1 << 20;
/// Back edges of metered loops that one message may take, unless the deployment says less.
pub const BACK_EDGES_MAX: u32 = 1 << 20;
/// UDMA operations that one message may issue, unless the deployment says less.
pub const UDMA_OPERATIONS_MAX: u32 = 4096;

/// Bytes of a message under way: header, body and, at the next multiple of 8, the continuation.
pub const fn message_bytes(body_bytes: usize, continuation_bytes: usize) -> usize {
    HEADER_BYTES + body_bytes.next_multiple_of(8) + continuation_bytes
}

/// Names of handlers, regions and constants: a letter or `_`, then letters, digits, `_` or `-`, at most [`NAME_BYTES_MAX`].
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Addresses as handlers see them. They are the same on every engine, machine and place, so registers and stack of a message
/// under way mean the same everywhere. No handler can learn one: verified code never lets a pointer become data.
///
/// Stack and body lie side by side, the stack below: the hot end of the stack and the body share cache lines and pages.
pub mod address {
    use super::{BODY_BYTES_MAX, STACK_BYTES};
    /// Lowest byte of the stack.
    pub const STACK_START: u64 = 1 << 32;
    /// One past the stack: the value of r10.
    pub const STACK_END: u64 = STACK_START + STACK_BYTES as u64;
    /// First byte of the body: the value of r1 at entry.
    pub const BODY_START: u64 = STACK_END;
    /// One past the largest body.
    pub const BODY_END_MAX: u64 = BODY_START + BODY_BYTES_MAX as u64;
    /// First byte of the bundle's read-only data.
    pub const READ_ONLY_START: u64 = 2 << 32;
    /// Handle of region 0; region `i` has this plus `i`.
    pub const REGION_START: u64 = 3 << 32;
}

/// UDMA call result: the access lies outside the region.
pub const EFAULT: i64 = 14;
/// UDMA call result (negated): an atomic at an offset that is not a multiple of 8.
pub const EINVAL: i64 = 22;

/// What a UDMA call's result, or a handler's that passes it on, says in words; nothing if it is none of the errors.
pub fn error_meaning(result: i64) -> Option<&'static str> {
    match result.wrapping_neg() {
        EFAULT => Some("out of range"),
        EINVAL => Some("unaligned"),
        _ => None,
    }
}

/// Rights on a region, as a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Rights(#[n(0)] pub u8);

impl Rights {
    /// No right.
    pub const NONE: Rights = Rights(0);
    /// `naam_read`.
    pub const READ: Rights = Rights(1);
    /// `naam_write`.
    pub const WRITE: Rights = Rights(2);
    /// `naam_compare_swap` and `naam_fetch_add`.
    pub const ATOMIC: Rights = Rights(4);
    /// All three.
    pub const ALL: Rights = Rights(7);

    /// Whether every right of `other` is among these.
    pub fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Rights {
    type Output = Rights;
    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = [(Rights::READ, "read"), (Rights::WRITE, "write"), (Rights::ATOMIC, "atomic")]
            .into_iter()
            .filter(|(right, _)| self.contains(*right))
            .map(|(_, name)| name)
            .collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join("+"))
    }
}

/// A helper function that handlers call by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[repr(u8)]
#[cbor(index_only)]
pub enum Helper {
    /// `long naam_read(const void *region, u64 offset, void *destination, u32 length)`
    #[n(0)]
    Read = 1,
    /// `long naam_write(const void *region, u64 offset, const void *source, u32 length)`
    #[n(1)]
    Write = 2,
    /// `long naam_compare_swap(const void *region, u64 offset, u64 expected, u64 desired, u64 *old)`
    #[n(2)]
    CompareSwap = 3,
    /// `long naam_fetch_add(const void *region, u64 offset, u64 addend, u64 *old)`
    #[n(3)]
    FetchAdd = 4,
    /// `u64 naam_length(const void *region)`
    #[n(4)]
    Length = 5,
    /// `void naam_reply(u32 length)`
    #[n(5)]
    Reply = 6,
    /// `void naam_copy(void *to, const void *from, u32 length)`
    #[n(6)]
    Copy = 7,
    /// `void naam_fill(void *to, u32 byte, u32 length)`
    #[n(7)]
    Fill = 8,
    /// `long naam_compare(const void *a, const void *b, u32 length)`
    #[n(8)]
    Compare = 9,
    /// `u32 naam_executor(void)`
    #[n(9)]
    Executor = 10,
}

/// What a helper expects in one of r1 to r5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// A region handle on which `Rights` are needed.
    Region(Rights),
    /// A 64-bit number.
    U64,
    /// A number: the low 32 bits of the register.
    U32,
    /// Memory that the call reads; its length is the parameter at this index, or eight bytes.
    Source(Extent),
    /// Memory that the call writes; likewise.
    Destination(Extent),
}

/// How long the memory behind a pointer parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// As many bytes as the u32 parameter at this index (0 is r1) says.
    Parameter(usize),
    /// Eight bytes.
    Word,
}

impl Helper {
    /// All helpers in the order of their numbers.
    pub const ALL: [Helper; 10] = [
        Helper::Read,
        Helper::Write,
        Helper::CompareSwap,
        Helper::FetchAdd,
        Helper::Length,
        Helper::Reply,
        Helper::Copy,
        Helper::Fill,
        Helper::Compare,
        Helper::Executor,
    ];

    /// The helper with this number.
    pub fn from_number(number: i32) -> Option<Helper> {
        Helper::ALL.into_iter().find(|helper| *helper as i32 == number)
    }

    /// Its name in C.
    pub fn name(self) -> &'static str {
        match self {
            Helper::Read => "naam_read",
            Helper::Write => "naam_write",
            Helper::CompareSwap => "naam_compare_swap",
            Helper::FetchAdd => "naam_fetch_add",
            Helper::Length => "naam_length",
            Helper::Reply => "naam_reply",
            Helper::Copy => "naam_copy",
            Helper::Fill => "naam_fill",
            Helper::Compare => "naam_compare",
            Helper::Executor => "naam_executor",
        }
    }

    /// Its parameters, in r1 and the following registers.
    pub fn parameters(self) -> &'static [Parameter] {
        use Parameter::{Destination, Region, Source, U32, U64};
        match self {
            Helper::Read => &[Region(Rights::READ), U64, Destination(Extent::Parameter(3)), U32],
            Helper::Write => &[Region(Rights::WRITE), U64, Source(Extent::Parameter(3)), U32],
            Helper::CompareSwap => &[Region(Rights::ATOMIC), U64, U64, U64, Destination(Extent::Word)],
            Helper::FetchAdd => &[Region(Rights::ATOMIC), U64, U64, Destination(Extent::Word)],
            Helper::Length => &[Region(Rights::NONE)],
            Helper::Reply => &[U32],
            Helper::Copy => &[Destination(Extent::Parameter(2)), Source(Extent::Parameter(2)), U32],
            Helper::Fill => &[Destination(Extent::Parameter(2)), U32, U32],
            Helper::Compare => &[Source(Extent::Parameter(2)), Source(Extent::Parameter(2)), U32],
            Helper::Executor => &[],
        }
    }

    /// Whether this is a UDMA operation, and so a suspension point.
    pub fn is_udma(self) -> bool {
        matches!(self, Helper::Read | Helper::Write | Helper::CompareSwap | Helper::FetchAdd)
    }

    /// Whether it can change a region.
    pub fn has_effect(self) -> bool {
        matches!(self, Helper::Write | Helper::CompareSwap | Helper::FetchAdd)
    }
}
