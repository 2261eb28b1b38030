//! Flat programs: what the verifier, the engines and bundles all work on.
//!
//! [`crate::object`] reads functions from an ELF; [`flatten()`] inlines their calls into one [`Function`] a handler. Nothing after that
//! knows calls between functions.

mod flatten;

pub use flatten::{CallableCode, Flat, FunctionSpan, flatten};

use crate::abi::Rights;
use crate::isa::Instruction;
use minicbor::{Decode, Encode};

/// What a handler's instructions may refer to besides registers and memory: shared by all handlers of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Environment {
    /// Declared regions; [`crate::isa::Symbol::Region`] is an index into them.
    #[n(0)]
    pub regions: Vec<RegionDeclaration>,
    /// Read-only data: `.rodata` and strings, constants included; [`crate::isa::Symbol::ReadOnly`] is an offset into it.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub read_only: Vec<u8>,
    /// `const volatile` variables inside the read-only data, which a deployment may set.
    #[n(2)]
    pub constants: Vec<Constant>,
}

/// A region as a handler declares it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RegionDeclaration {
    /// Its name in C.
    #[n(0)]
    pub name: String,
    /// Rights that handlers may use on it.
    #[n(1)]
    pub rights: Rights,
    /// Bytes that a bound region has at least; 0 if nothing was declared.
    #[n(2)]
    pub length_bytes_min: u64,
    /// Type of an element (index into the bundle's types), if declared.
    #[n(3)]
    pub element: Option<u32>,
}

/// A `const volatile` variable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Constant {
    /// Its name in C.
    #[n(0)]
    pub name: String,
    /// Offset in the read-only data.
    #[n(1)]
    pub offset: u32,
    /// Its type (index into the bundle's types).
    #[n(2)]
    pub type_index: u32,
    /// Its size in bytes.
    #[n(3)]
    pub bytes: u32,
}

/// One handler's code with every call inlined.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Function {
    /// The handler's name, from section `naam/NAME`.
    #[n(0)]
    pub name: String,
    /// What holds at entry.
    #[n(1)]
    pub entry: Entry,
    /// Its instructions. No `CallLocal`; targets are indices into this list.
    #[n(2)]
    pub instructions: Vec<Instruction>,
}

/// What holds when a function starts: r1 points to the body, r10 one past the zeroed stack, every other register is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Bytes of the body: the size of the handler's message struct. Its bytes are unknown at entry.
    #[n(0)]
    pub body_bytes: u32,
    /// Value of r2, for programs that are handed their memory's length; handlers have none.
    #[n(1)]
    pub second_argument: Option<u64>,
}
