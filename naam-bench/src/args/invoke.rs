//! `naam-bench invoke`: a user's own workload against a cluster that runs.

use super::{CLIENTS_MAX, count, seconds};
use clap::Args;
use runtime::control::directory::NAME_DEFAULT;
use runtime::session::SLOTS_MAX;
use std::path::PathBuf;

pub const EXAMPLES: &str = r#"Example:
  echo '{"slot": {"$uniform": [0, 511]}, "amount": 1}' > tally.json
  naam-bench invoke tally/tally --template tally.json --seconds 2

A template is a message as `naam-run invoke` takes it, in which any value may be drawn anew for each message:
  {"$uniform": [LOW, HIGH]}   an integer from LOW to HIGH, both included
  {"$zipfian": N}             an integer below N, small ones most often (theta 0.99)
  {"$sequence": START}        START, START + 1, ...; clients share the numbers
  {"$choose": [A, B, ...]}    one of these
  {"$bytes": N}               N random bytes, for arrays of bytes

Exit codes: 0 every request has a result, 1 a runtime error or no cluster, 2 usage or a bad template."#;

/// Messages that are drawn at most: a template that needs more has a generator for it.
pub const MESSAGES_MAX: u64 = 1 << 28;
/// Messages that are drawn unless something else is asked for, if they fit.
pub const MESSAGES_DEFAULT: u64 = 1_000_000;

/// `naam-bench invoke`.
#[derive(Args, Clone, Debug)]
pub struct Invoke {
    /// The handler: NAME/HANDLER, as `naam-run status` shows it
    #[arg(value_name = "NAME/HANDLER", value_parser = handler)]
    pub handler: (String, String),

    /// JSON of a message, with generators
    #[arg(long, value_name = "FILE", help_heading = "Workload")]
    pub template: PathBuf,
    /// Messages to draw before the clock starts, for all clients together; then they repeat. 1M is a million [default: 1M, or as many as fit
    /// into 1 GiB]
    #[arg(long, value_name = "N", value_parser = count(1..=MESSAGES_MAX), help_heading = "Workload")]
    pub messages: Option<u64>,
    /// Seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Workload")]
    pub seed: u64,

    /// Seconds to measure
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds, help_heading = "Load")]
    pub seconds: f64,
    /// Clients, each with a session and a thread of its own: 1 to 64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX), help_heading = "Load")]
    pub clients: u64,
    /// Requests that each client keeps under way: 1 to 1024
    #[arg(long, value_name = "W", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=u64::from(SLOTS_MAX)), help_heading = "Load")]
    pub window: u64,

    /// The running cluster
    #[arg(long, value_name = "NAME", default_value = NAME_DEFAULT, help_heading = "Server")]
    pub cluster: String,

    /// Print the report as JSON (docs/formats/report.md)
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

fn handler(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((deployment, handler)) if !deployment.is_empty() && !handler.is_empty() => {
            Ok((deployment.to_owned(), handler.to_owned()))
        }
        _ => Err("a handler is NAME/HANDLER; `naam-run status` shows all by these names".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use clap::{CommandFactory, Parser};

    /// Limits that the help tells are the ones that hold, and so are the generators.
    #[test]
    fn help_tells_the_limits() {
        let help = Arguments::command().find_subcommand_mut("invoke").expect("there is invoke").render_long_help().to_string();
        for told in [format!("under way: 1 to {SLOTS_MAX}"), format!("thread of its own: 1 to {CLIENTS_MAX}"), "$choose".to_owned()]
        {
            assert!(help.contains(&told), "{told:?} is missing: {help}");
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let taken = |arguments: &[&str]| Arguments::try_parse_from(["naam-bench", "invoke"].iter().chain(arguments)).is_ok();
        assert!(taken(&["a/b", "--template", "t", "--window", "1", "--clients", "64", "--messages", "1", "--seed", "0"]));
        let refused: [&[&str]; 7] = [
            &["a/b"],
            &["ab", "--template", "t"],
            &["a/", "--template", "t"],
            &["a/b", "--template", "t", "--window", "0"],
            &["a/b", "--template", "t", "--clients", "65"],
            &["a/b", "--template", "t", "--messages", "0"],
            &["a/b", "--template", "t", "--seconds", "-1"],
        ];
        for arguments in refused {
            assert!(!taken(arguments), "{arguments:?} was taken");
        }
    }
}
