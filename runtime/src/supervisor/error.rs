//! What control answers when it refuses: a stable code, what is wrong, and what to do. The same in a process and over HTTP.

use crate::channel::PACKET_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Bytes of a message, and of a hint: both may quote what came from outside, at any length, and what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 4096;
/// What a text that was cut ends with.
const CUT: &str = "...";
/// Bytes of an error as JSON at most: each byte of its texts may become an escape of six, and its names take some more.
const ERROR_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX * 6 + 128;

// An error reaches whoever waits for it, with room for what the packet says besides.
const _: () = assert!(ERROR_BYTES_MAX + 1024 <= PACKET_BYTES_MAX);

/// Why something was refused. Its name in kebab case is stable (`docs/formats/control.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not the JSON, name or number that was expected.
    BadRequest,
    /// The body is longer than this route takes.
    TooLarge,
    /// No such route.
    NoSuchRoute,
    /// The route exists for other methods.
    MethodNotAllowed,
    /// The peer does not own this or was not granted it.
    Forbidden,
    /// Nothing has this name.
    NotFound,
    /// The name is taken.
    Exists,
    /// Something still uses it.
    InUse,
    /// A limit of this cluster is reached, or memory is short.
    Exhausted,
    /// The bundle does not verify, or does not fit its bindings or constants.
    BundleRefused,
    /// It took longer than it may.
    TimedOut,
    /// A place died or did not start, and the cluster with it.
    PlaceFailed,
    /// The cluster is stopping.
    Stopping,
    /// No cluster of this name runs.
    NoCluster,
    /// A cluster of this name runs already.
    ClusterExists,
    /// The state directory is not the user's alone.
    UnsafeDirectory,
    /// A system call failed.
    System,
    /// The other end broke the protocol.
    Protocol,
}

impl Code {
    /// The HTTP status that carries it.
    pub fn status(self) -> u16 {
        match self {
            Code::BadRequest => 400,
            Code::Forbidden => 403,
            Code::NotFound | Code::NoSuchRoute => 404,
            Code::MethodNotAllowed => 405,
            Code::Exists | Code::InUse | Code::ClusterExists => 409,
            Code::TooLarge => 413,
            Code::BundleRefused => 422,
            Code::Exhausted => 507,
            Code::TimedOut => 504,
            Code::Stopping | Code::NoCluster => 503,
            Code::PlaceFailed | Code::UnsafeDirectory | Code::System | Code::Protocol => 500,
        }
    }
}

/// A refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
pub struct ControlError {
    /// Its kind.
    pub code: Code,
    /// One sentence with the facts of this case.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ControlError {
    /// An error without a hint. Beyond [`TEXT_BYTES_MAX`] the message is cut, and so is a hint.
    pub fn new(code: Code, message: impl Into<String>) -> ControlError {
        ControlError { code, message: cut(message.into()), hint: None }
    }

    /// A system call that failed while `doing` something.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> ControlError {
        ControlError::new(Code::System, format!("{doing}: {error}"))
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> ControlError {
        self.hint = Some(cut(hint.into()));
        self
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text, in whole characters.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - CUT.len()));
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_errors_fit_a_packet() {
        for text in ["x".repeat(100_000), "\u{e4}".repeat(50_000), "\u{1f980}".repeat(30_000), "\0".repeat(100_000)] {
            let error = ControlError::new(Code::BundleRefused, text.as_str()).hint(text.as_str());
            for cut in [&error.message, error.hint.as_ref().unwrap()] {
                assert!(cut.len() <= TEXT_BYTES_MAX && cut.len() > TEXT_BYTES_MAX - 8, "{} bytes", cut.len());
                assert!(text.starts_with(cut.strip_suffix(CUT).unwrap()));
            }
            assert!(serde_json::to_vec(&error).unwrap().len() <= ERROR_BYTES_MAX);
        }
        let whole = "y".repeat(TEXT_BYTES_MAX);
        assert_eq!(ControlError::new(Code::System, whole.as_str()).message, whole);
    }
}
