//! An application whose keys are registers: what is asked of it, and what its answers say of each key.

use crate::checker::Action;
use naamc::bundle::CheckedBundle;
use std::fmt::Debug;
use std::ops::Range;

/// Not the number of any write: what is read of a torn record.
pub const TORN: u64 = u64::MAX;

/// An application, and the keys that its requests are about.
pub trait Application: Sync {
    /// What is asked of it. Written values are numbers that no other request writes.
    type Request: Copy + Debug + Send;
    /// Of its ELF and its deployment.
    const NAME: &'static str;
    /// What its deployment sets.
    const CONSTANTS: &'static [(&'static str, u32)];
    /// Regions and their bytes, in the order in which the bundle declares them.
    const REGIONS: &'static [(&'static str, u64)];
    /// Handlers that only read, each with the bytes of its request that say what.
    const READERS: &'static [(&'static str, Range<usize>)];

    /// A request, as the `turn`th of a session, which changes something only if a writer asks. If it writes, it writes this number.
    fn draw(&self, random: &mut fastrand::Rng, is_writer: bool, number: u64, turn: u64) -> Self::Request;

    /// Reads of every key, for when nobody writes any more.
    fn last(&self) -> Vec<Self::Request>;

    fn handler(&self, request: Self::Request) -> &'static str;

    fn body(&self, request: Self::Request) -> Vec<u8>;

    /// What it did to keys, by its answer; nothing if it says that it did nothing.
    ///
    /// # Panics
    /// If no handler has such a result.
    fn actions(&self, request: Self::Request, result: i32, reply: &[u8]) -> Vec<(u64, Action)>;

    /// What it may have done, if nobody knows.
    fn action_if_any(&self, request: Self::Request) -> Option<(u64, Action)>;

    /// Looks at regions, by name, that nobody changes any more.
    ///
    /// # Panics
    /// If they are not whole, or the run was not what it was to be.
    fn check_regions(&self, content: &dyn Fn(&str) -> Vec<u8>);
}

/// An application's bundle with its constants set.
pub fn bundle<A: Application>() -> CheckedBundle {
    let path = format!("{}/../testdata/handlers/{}.o", env!("CARGO_MANIFEST_DIR"), A::NAME);
    let built = naamc::build::build(&std::fs::read(path).expect("a readable ELF")).expect("it verifies");
    let constants: Vec<_> = A::CONSTANTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    built.bundle().with_constants(&constants).expect("it verifies with these constants").check().expect("it is checked")
}
