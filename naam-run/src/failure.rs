//! How a command ends badly: what is printed and which exit code says so.

use runtime::control::{Code, ControlError};
use serde_json::json;
use std::fmt::Display;
use std::process::ExitCode;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// 1 if it was refused or failed, 2 if it was asked wrongly or its input cannot be read.
    exit_code: u8,
    code: String,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Refused or failed.
    pub fn refused(code: &str, message: impl Display) -> Failure {
        Failure { exit_code: 1, code: code.to_owned(), message: message.to_string(), hint: None }
    }

    /// Asked wrongly, or with input that cannot be read.
    pub fn usage(message: impl Display) -> Failure {
        Failure { exit_code: 2, code: "usage".to_owned(), message: message.to_string(), hint: None }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it and gives the exit code.
    pub fn report(self, as_json: bool) -> ExitCode {
        if as_json {
            eprintln!("{}", json!({ "code": self.code, "message": self.message, "hint": self.hint }));
        } else {
            eprintln!("error: {}", self.message);
            if let Some(hint) = self.hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.exit_code)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Failure {
        let code = serde_json::to_value(error.code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
        let exit_code = if error.code == Code::BadRequest { 2 } else { 1 };
        Failure { exit_code, code, message: error.message, hint: error.hint }
    }
}
