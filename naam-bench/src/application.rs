//! The applications under `handlers` that are measured: their compiled handlers, and what requests to them are called.

use serde::Serialize;

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Application {
    /// The hash table of `handlers/mica`.
    Mica,
    /// The tree of `handlers/cell`.
    Cell,
}

/// The handlers that requests go to; an application has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Handler {
    /// Reads a record.
    Get,
    /// Replaces a record's value.
    Put,
    /// Adds a record.
    Insert,
    /// Reads and changes a record.
    ReadModifyWrite,
    /// Reads records with neighbouring keys.
    Scan,
}

impl Handler {
    /// All of them, by their numbers.
    pub const ALL: [Handler; 5] = [Handler::Get, Handler::Put, Handler::Insert, Handler::ReadModifyWrite, Handler::Scan];
}

impl Application {
    /// Its handlers, compiled: nobody needs a C compiler to measure.
    pub fn elf(self) -> &'static [u8] {
        match self {
            Application::Mica => include_bytes!("../../testdata/handlers/mica.o"),
            Application::Cell => include_bytes!("../../testdata/handlers/cell.o"),
        }
    }

    /// What it calls a handler, if it has it.
    pub fn name_of(self, handler: Handler) -> Option<&'static str> {
        match (self, handler) {
            (Application::Mica, Handler::Get) => Some("get"),
            (Application::Mica, Handler::Put) => Some("put"),
            (Application::Mica, Handler::ReadModifyWrite) => Some("read_modify_write"),
            (Application::Mica, Handler::Scan) => None,
            (_, Handler::Insert) => Some("insert"),
            (Application::Cell, Handler::Get) => Some("lookup"),
            (Application::Cell, Handler::Scan) => Some("scan"),
            (Application::Cell, Handler::Put | Handler::ReadModifyWrite) => None,
        }
    }

    /// Its name in prose.
    pub fn in_words(self) -> &'static str {
        match self {
            Application::Mica => "MICA's table",
            Application::Cell => "Cell's tree",
        }
    }
}
