//! Many executors on one store, on both engines: MICA's table (counters are exact, no value is torn, no block leaks) and Cell's tree (scans
//! are sorted and complete, no value is torn, nothing is lost).
//!
//! Each executor here is a thread that takes several messages in turn, as a real one does, with the same rules for turns, over memory that
//! all of them share. Sessions and transports are left out: what is tested is the code, the engines and region memory.

mod cell;
mod executor;
mod mica;
#[allow(dead_code, reason = "no block is looked for in a certain list")]
#[path = "../../../testdata/handlers/mica_table.rs"]
mod table;
#[path = "../../../testdata/handlers/cell_tree.rs"]
mod tree;
