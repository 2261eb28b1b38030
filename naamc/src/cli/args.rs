//! The command line of `naamc`: every flag once.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Compiles and verifies eBPF handlers into portable message bundles.
#[derive(Parser)]
#[command(version, about, long_about = None, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  naamc new counter                               a first handler, counter.c, that builds
  naamc build counter.c -o counter.naam           compile, verify, bundle
  naamc inspect counter.naam                      what the bundle may touch, and why
  naamc trace counter.naam counter --message '{\"slot\": 3, \"amount\": 5}' --region counters=4K

Exit codes: 0 fine, 1 rejected, 2 usage, unreadable input or unwritable output.";

/// Commands.
#[derive(Subcommand)]
pub enum Command {
    /// Compile and verify handlers into a bundle
    Build {
        /// One ELF (.o), or C files that are compiled together
        #[arg(required = true)]
        inputs: Vec<PathBuf>,
        /// Where the bundle goes
        #[arg(short, long, value_name = "OUT.naam")]
        output: PathBuf,
    },
    /// Verify handlers and write nothing
    Check {
        /// ELFs (.o), bundles (.naam) or C files, each checked by itself
        #[arg(required = true)]
        inputs: Vec<PathBuf>,
        /// Print findings as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Show handlers, message layouts, regions, manifest, suspension points and code
    Inspect {
        /// A bundle (.naam), an ELF (.o) or a C file
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Only this handler
        #[arg(long, value_name = "NAME")]
        handler: Option<String>,
        /// Leave the code out
        #[arg(long)]
        no_code: bool,
    },
    /// Explain a code such as N301
    Explain {
        /// The code; without one, all codes are listed
        code: Option<String>,
    },
    /// Write a first handler, NAME.c, that builds
    New {
        /// Name of the file and the handler
        name: String,
    },
    /// Run one message through the interpreter and print every UDMA step; needs no cluster
    #[command(after_help = TRACE_EXAMPLES)]
    Trace {
        /// A bundle (.naam), an ELF (.o) or a C file
        file: PathBuf,
        /// The handler
        handler: String,
        /// The message, as JSON; fields that are left out are zero
        #[arg(long, default_value = "{}", value_name = "JSON")]
        message: String,
        /// Content of a region: a file, or a number of zero bytes, also with K, M or G (powers of 1,024); may be repeated
        #[arg(long = "region", value_name = "NAME=FILE|BYTES")]
        regions: Vec<String>,
        /// Value of a `const volatile` variable, as JSON or text; may be repeated
        #[arg(long = "set", value_name = "CONSTANT=VALUE")]
        settings: Vec<String>,
        /// Number that naam_executor() returns, 1 to 65535
        #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=u32::from(u16::MAX).into()))]
        executor: u32,
        /// Write a region's content afterwards to a file; may be repeated
        #[arg(long = "save", value_name = "NAME=FILE")]
        saves: Vec<String>,
        /// Print all steps; without it the first 200 and the last 50
        #[arg(long)]
        all: bool,
    },
}

const TRACE_EXAMPLES: &str = "\
Example:
  naamc trace counter.naam counter --message '{\"slot\": 3, \"amount\": 5}' --region counters=4K";
