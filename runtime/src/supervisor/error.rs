//! What control answers when it refuses: a stable code, what is wrong, and what to do. The same in a process and over HTTP.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

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
    /// A message that does not fit its handler.
    MessageRefused,
    /// The request was run and did not end well.
    InvocationFailed,
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
            Code::BundleRefused | Code::MessageRefused | Code::InvocationFailed => 422,
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
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> ControlError {
        ControlError { code, message: message.into(), hint: None }
    }

    /// A system call that failed while `doing` something.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> ControlError {
        ControlError::new(Code::System, format!("{doing}: {error}"))
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> ControlError {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
