//! How a command ends badly: what is printed and which exit code says so.

use runtime::control::directory::NAME_DEFAULT;
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

    /// Names the cluster in the commands of its hint.
    pub fn at(mut self, cluster: &str) -> Failure {
        self.hint = self.hint.map(|hint| at_cluster(&hint, cluster));
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

/// A text whose `naam-run` commands, in backticks, name the cluster that is meant, if that is not the default one.
pub fn at_cluster(text: &str, cluster: &str) -> String {
    if cluster == NAME_DEFAULT {
        return text.to_owned();
    }
    let command = |(index, part): (usize, &str)| match part.strip_prefix("naam-run ") {
        Some(rest) if index % 2 == 1 && !rest.starts_with("cluster") && !rest.contains("--cluster ") => {
            format!("naam-run --cluster {cluster} {rest}")
        }
        _ => part.to_owned(),
    };
    text.split('`').enumerate().map(command).collect::<Vec<String>>().join("`")
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Failure {
        let code = serde_json::to_value(error.code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
        let exit_code = if error.code == Code::BadRequest { 2 } else { 1 };
        Failure { exit_code, code, message: error.message, hint: error.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_hints_name_the_cluster() {
        let hint = "`naam-run region list` shows all; `naam-run cluster --nic 1` starts one; naam-run is a program";
        assert_eq!(at_cluster(hint, NAME_DEFAULT), hint);
        assert_eq!(
            at_cluster(hint, "staging"),
            "`naam-run --cluster staging region list` shows all; `naam-run cluster --nic 1` starts one; naam-run is a program"
        );
        let named = "stop it with `naam-run stop --cluster staging`";
        assert_eq!(at_cluster(named, "staging"), named);
    }
}
