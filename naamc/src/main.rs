//! `naamc`: compiles, verifies, explains and traces handlers. What it does is in the library; here are the command line, files and
//! print-outs.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
