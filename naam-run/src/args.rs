//! The command line: every flag is defined here, once, with its help.

use crate::steering::{Flowset, parse_flows};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use naamc::abi::Rights;
use naamc::quantity::{parse_bytes, values_may_be_negative};
use runtime::control::directory::NAME_DEFAULT;
use runtime::message::Place;
use runtime::supervisor::EXECUTORS_MAX;
use runtime::supervisor::protocol::EngineChoice;
use runtime::supervisor::records::{Binding, parse_rights};
use runtime::udma::dma::{LATENCY_NS_DEFAULT, LATENCY_NS_MAX};
use std::path::PathBuf;

/// Starts nodes, deploys bundles, inspects and steers.
#[derive(Debug, Parser)]
#[command(
    name = "naam-run",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "\
Examples:
  naam-run cluster --host 2
starts a cluster in this terminal; then, in another one, give it memory, handlers and a message:
  naam-run region create shared --bytes 64K
  naam-run deploy tally.naam --as tally --bind counters=shared
  naam-run invoke tally/tally --message '{\"slot\": 3, \"amount\": 5}'

Exit codes: 0 fine, 1 refused or failed, 2 usage, unreadable input or unwritable output."
)]
pub struct Arguments {
    /// Which cluster, if several run [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Print JSON, with units in the names
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The arguments of this process; ends it with help or a usage error if they are none.
    pub fn of_this_process() -> Arguments {
        let matches = command().get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        self.cluster.as_deref().unwrap_or(NAME_DEFAULT)
    }
}

/// The definitions, with `--cluster` hidden from the commands for people that talk to no cluster: of the new one's names, `--name` is shown.
fn command() -> clap::Command {
    let command = Arguments::command();
    let cluster = command.get_arguments().find(|argument| argument.get_id() == "cluster").expect("there is --cluster").clone();
    // A subcommand that has an argument of its own is not handed the global one.
    let hidden = cluster.hide(true);
    let command = command.mut_subcommand("compile", |compile| compile.arg(hidden.clone()));
    values_may_be_negative(command.mut_subcommand("cluster", |start| start.arg(hidden)))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster and stay in the foreground until Ctrl-C or `naam-run stop`
    #[command(after_help = "\
Examples:
  naam-run cluster
  naam-run cluster --host 4 --name staging
  naam-run cluster --host 1 --nic 1
  naam-run cluster --engine interpreter")]
    Cluster(Cluster),
    /// Create, fill, save, remove and list regions: the memory that handlers reach
    #[command(subcommand)]
    Region(Region),
    /// Check a bundle and run it under a name, bound to regions
    #[command(after_help = "\
Examples, with mica.naam from `naamc build testdata/handlers/mica.o -o mica.naam` in a checkout, and the regions that \
`naam-run region create --help` creates:
  naam-run deploy mica.naam --as store --bind table=index --bind heap=items
A cache of the same bundle needs regions of its own:
  naam-run region create index2 --bytes 1M
  naam-run region create items2 --bytes 16M
  naam-run deploy mica.naam --as cache --bind table=index2 --bind heap=items2 --set cache=1

The place that will run the bundle proves every handler again first. A region that is shorter than its handlers \
demand is refused. Constants that are set make a bundle of its own, which is verified anew.")]
    Deploy(Deploy),
    /// Take no more requests for a deployment, wait for those under way, and remove it
    Undeploy {
        /// The deployment
        name: String,
    },
    /// Send one message to a handler and print its reply
    #[command(after_help = "\
Examples:
  naam-run invoke store/put --message '{\"key_length\": 8, \"value_length\": 2, \"data\": \"key-0001hi\"}'
  naam-run invoke store/get --message '{\"key_length\": 8, \"data\": \"key-0001\"}'
`naam-run deploy --help` deploys this store.

The message is the handler's struct as JSON: members by name, arrays as lists, byte arrays also as text. What is left \
out is zero.")]
    Invoke(Invoke),
    /// Let another user send requests to a deployment
    #[command(after_help = "\
Examples:
  naam-run grant root store invoke
  naam-run grant 1001 store direct
  naam-run grant root store none
The last one takes the first one back.

Today only the user who started a cluster, and root, can reach its sockets. A grant is kept and checked, but lets nobody
else in: it takes effect once there is another way to reach the cluster.")]
    Grant {
        /// User name or id
        tenant: String,
        /// The deployment
        deployment: String,
        /// What they may do
        grant: GrantChoice,
    },
    /// Show places, regions and deployments
    Status,
    /// Show where messages go: the place and executors of each flow
    ///
    /// A message's flow is the low 10 bits of its key's hash, or of its session's number if it has no key.
    Flows,
    /// Send flows to a place from now on, spread over its executors; what is under way follows if nobody has claimed it
    #[command(after_help = "\
Examples:
  naam-run steer all nic
  naam-run steer 25% nic
  naam-run steer 0-255,512-767 host")]
    Steer {
        /// Which: `all`, numbers and ranges as in 0-255,512-767, or a share as in 25%, counted from flow 0
        #[arg(value_parser = parse_flows)]
        flows: Flowset,
        /// Where to
        place: PlaceName,
    },
    /// Stop the cluster; its regions are gone then
    Stop,
    /// Write the code that the JIT makes of a bundle as a native object, for disassemblers and profilers
    #[command(after_help = "\
Example:
  naam-run compile mica.naam -o mica.o && objdump -d mica.o")]
    Compile {
        /// The bundle
        file: PathBuf,
        /// Where the object goes
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Run one program of the public eBPF conformance suite
    #[command(hide = true)]
    Exec(Exec),
}

/// `naam-run cluster`
#[derive(Debug, Args)]
pub struct Cluster {
    /// Executors of the host place: threads that run handlers, each on a core of its own if there are enough
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(EXECUTORS_MAX)))]
    pub host: u16,
    /// Executors of the NIC place: a process that reaches regions as a SmartNIC does, through a DMA engine; with 0 there is none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=i64::from(EXECUTORS_MAX)))]
    pub nic: u16,
    /// Latency of the NIC's DMA engine in nanoseconds, at most a second; the default is a measured one (Neugebauer et al., SIGCOMM 2018)
    #[arg(long, value_name = "N", default_value_t = LATENCY_NS_DEFAULT, value_parser = clap::value_parser!(u64).range(0..=LATENCY_NS_MAX), requires = "nic")]
    pub dma_latency_ns: u64,
    /// Name of the cluster, as --cluster gives it to other commands
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What runs handlers
    #[arg(long, value_enum, default_value_t = EngineName::default())]
    pub engine: EngineName,
    /// Leave it to the kernel which core an executor runs on
    #[arg(long)]
    pub unpinned: bool,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// The reference: slow, and the same everywhere
    Interpreter,
    /// Compiled code
    Jit,
}

impl From<EngineName> for EngineChoice {
    fn from(name: EngineName) -> EngineChoice {
        match name {
            EngineName::Interpreter => EngineChoice::Interpreter,
            EngineName::Jit => EngineChoice::Jit,
        }
    }
}

impl Default for EngineName {
    fn default() -> EngineName {
        match EngineChoice::default() {
            EngineChoice::Interpreter => EngineName::Interpreter,
            EngineChoice::Jit | EngineChoice::Native => EngineName::Jit,
        }
    }
}

/// A place that messages can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlaceName {
    /// The host's cores
    Host,
    /// The SmartNIC's cores
    Nic,
    /// The process of each client that serves messages itself; those of other clients go to servers
    Client,
}

impl From<PlaceName> for Place {
    fn from(name: PlaceName) -> Place {
        match name {
            PlaceName::Host => Place::Host,
            PlaceName::Nic => Place::Nic,
            PlaceName::Client => Place::Client,
        }
    }
}

/// What a tenant may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GrantChoice {
    /// Send requests
    Invoke,
    /// Also reach the deployment's regions directly: authority over the data itself
    Direct,
    /// Nothing any more
    None,
}

/// `naam-run region`
#[derive(Debug, Subcommand)]
pub enum Region {
    /// Create a region of zeros, or filled from a file
    #[command(after_help = "\
Examples:
  naam-run region create index --bytes 4M
  naam-run region create items --bytes 64M
  naam-run region save index index.bin
  naam-run region create copy --bytes 4M --from index.bin
  naam-run region create log --bytes 4G --huge-pages")]
    Create {
        /// Its name
        name: String,
        /// Its length: a number, or one with K, M, G or T (powers of 1,024); rounded up to whole pages
        #[arg(long, value_name = "N", value_parser = parse_bytes)]
        bytes: u64,
        /// Use 2 MiB pages, which must have been reserved
        #[arg(long)]
        huge_pages: bool,
        /// Copy this file to its beginning
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Copy a region to a file, as it is while messages go on
    Save {
        /// The region
        name: String,
        /// The file; it is replaced, or written to if it is a device or a FIFO
        file: PathBuf,
    },
    /// Copy a file to the beginning of a region
    Load {
        /// The region
        name: String,
        /// The file, at most as long as the region
        file: PathBuf,
    },
    /// Remove a region that no deployment is bound to
    Remove {
        /// The region
        name: String,
    },
    /// List all regions
    List,
}

/// `naam-run deploy`
#[derive(Debug, Args)]
pub struct Deploy {
    /// The bundle, from `naamc build`
    pub file: PathBuf,
    /// Name of the deployment: handlers are called NAME/HANDLER
    #[arg(long = "as", value_name = "NAME")]
    pub name: String,
    /// Bind a region that the bundle declares to a region of the cluster, with all rights or with some of
    /// read+write+atomic after a colon; repeatable
    #[arg(long = "bind", value_name = "REGION=REGION_NAME[:RIGHTS]", value_parser = parse_binding)]
    pub bindings: Vec<(String, Binding)>,
    /// Set a `const volatile` variable; the value is JSON; repeatable
    #[arg(long = "set", value_name = "CONSTANT=VALUE", value_parser = parse_pair)]
    pub constants: Vec<(String, String)>,
    /// What runs it, if not the cluster's engine
    #[arg(long, value_enum)]
    pub engine: Option<EngineName>,
    /// Back edges of unbounded loops that one message may take; until it ends or waits for memory it holds its executor, and others wait
    #[arg(long, value_name = "N", default_value_t = naamc::abi::BACK_EDGES_MAX)]
    pub back_edges: u32,
    /// UDMA operations that one message may issue
    #[arg(long, value_name = "N", default_value_t = naamc::abi::UDMA_OPERATIONS_MAX)]
    pub udma_operations: u32,
}

/// `naam-run invoke`
#[derive(Debug, Args)]
pub struct Invoke {
    /// NAME/HANDLER
    pub handler: String,
    /// The message, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub message: String,
}

/// `naam-run exec`: the runner of the suite decides what the arguments look like.
#[derive(Debug, Args)]
pub struct Exec {
    /// `--engine interpreter|jit`, then memory as hex text, if there is any
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

fn parse_binding(text: &str) -> Result<(String, Binding), String> {
    let (declared, bound) = parse_pair(text)?;
    let (region, rights) = match bound.split_once(':') {
        None => (bound.as_str(), Rights::ALL),
        Some((region, rights)) => (region, parse_rights(rights).ok_or("rights are some of read+write+atomic")?),
    };
    Ok((declared, Binding { region: region.to_owned(), rights }))
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => Ok((left.to_owned(), right.to_owned())),
        _ => Err("expected two parts with `=` between them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap's own check of the definitions.
    #[test]
    fn definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_commands_that_talk_to_a_cluster_offer_one() {
        for (name, offered) in [("compile", false), ("cluster", false), ("status", true), ("deploy", true)] {
            let help = command().try_get_matches_from(["naam-run", name, "--help"]).expect_err("help is no command").to_string();
            assert_eq!(help.contains("--cluster <"), offered, "{help}");
            assert!(help.contains("--json"), "{help}");
        }
    }
}
