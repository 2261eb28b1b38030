//! A private Redis server beneath this program: found, started on a Unix socket, and gone with this program however that ends.
//!
//! Between this program and the server stands, for a moment, this program again: re-executed as a *keeper* it binds its life to its parent's
//! and itself to a processor, and then becomes the server, which inherits both. So not even SIGKILL leaves a server behind. The directory with
//! the socket is removed as soon as all clients are connected.

use super::resp::{self, Reply};
use crate::interruption;
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The name under which this program finds itself to be the keeper.
const KEEPER_PROCESS: &str = "naam-bench-redis-keeper";
/// What servers are called, in the order in which they are looked for.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// How long a server may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a server whose connection was lost may take until it has ended.
const END_MAX: Duration = Duration::from_millis(200);
/// How often these are looked at.
const START_TICK: Duration = Duration::from_millis(5);
/// How long one answer may take while nothing is measured.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of what a server tells of itself at most.
const INFORMATION_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a server's log that an error shows.
const LOG_BYTES_SHOWN: usize = 2048;

/// Becomes the server if this process was started as its keeper, and does not return then.
pub fn enter() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(KEEPER_PROCESS)) {
        return;
    }
    eprintln!("{KEEPER_PROCESS}: {}", keep(arguments));
    std::process::exit(1);
}

/// Becomes the server: arguments are the parent, the processor or nothing, the program, and its arguments. Returns why it did not.
fn keep(mut arguments: impl Iterator<Item = OsString>) -> String {
    let mut word = || arguments.next().unwrap_or_default();
    let (parent, processor, program) = (word(), word(), word());
    let Some(parent) = parent.to_str().and_then(|parent| parent.parse::<i32>().ok()) else {
        return "this process is started by naam-bench, not by hand".to_owned();
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("binding its life to the program above: {error}");
    }
    // It may have died before it was asked to tell.
    if getppid().map(|now| now.as_raw_nonzero().get()) != Some(parent) {
        return "the program above has ended".to_owned();
    }
    if let Some(processor) = processor.to_str().and_then(|processor| processor.parse().ok()) {
        let mut set = CpuSet::new();
        set.set(processor);
        if let Err(error) = sched_setaffinity(None, &set) {
            return format!("binding it to processor {processor}: {error}");
        }
    }
    let error = Command::new(&program).args(arguments).exec();
    format!("{}: {error}", Path::new(&program).display())
}

/// The program of a server: the one that is named, or one in PATH.
///
/// # Errors
/// If there is none; says what to do then.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        // A name without a folder would be looked up in PATH when it is executed.
        let program = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
        return if is_program(&program) { Ok(program) } else { Err(anyhow!("{}: no such program", named.display())) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = PROGRAMS.iter().flat_map(|program| directories.iter().map(move |directory| directory.join(program)));
    candidates.into_iter().find(|candidate| is_program(candidate)).with_context(|| {
        format!(
            "there is no Redis server to compare with: neither {} nor {} is in PATH. Install one (Debian and Ubuntu: `apt install \
             redis-server`; Fedora: `dnf install valkey`), or name one by --server PATH. It need not run: naam-bench starts its own",
            PROGRAMS[0], PROGRAMS[1]
        )
    })
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What runs and lies about, until it is removed.
#[derive(Default)]
struct Running {
    child: Option<Child>,
    directory: Option<TempDir>,
}

impl Running {
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        // What cannot be removed is in the temporary directory.
        drop(self.directory.take());
    }

    /// How the server ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok()?
    }
}

/// Locked while something is made, so that an interruption sees all of it.
type SharedRunning = Arc<Mutex<Running>>;

fn lock(running: &SharedRunning) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets signals end what runs before they end this process.
fn end_when_interrupted(running: &SharedRunning) -> Result<()> {
    let running = running.clone();
    let end = move || {
        let mut running = lock(&running);
        running.end();
        // Nobody else shall report what failed because the server is gone: the process ends now.
        std::mem::forget(running);
    };
    interruption::before_death(end, || {}).context("waiting for signals")
}

/// A private server. Dropping it ends it.
pub struct Server {
    running: SharedRunning,
    process: u32,
    log: File,
    /// Its name and version.
    pub name: String,
}

impl Server {
    /// Starts `program`, on `processor` if there is one, and connects so many clients to it. It keeps everything in memory, reads no
    /// configuration, and nobody else can reach it. The calling thread must live as long as the server.
    ///
    /// # Errors
    /// If it does not start, with what it says; or if it does not answer as a Redis server does.
    pub fn start(program: &Path, processor: Option<usize>, clients: usize) -> Result<(Server, Vec<UnixStream>)> {
        let log = tempfile::tempfile().context("making a file for the server's log")?;
        let shared = SharedRunning::default();
        end_when_interrupted(&shared)?;
        let mut running = lock(&shared);
        let directory = tempfile::Builder::new()
            .prefix("naam-bench-redis-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("making a directory for the server's socket")?;
        let socket = directory.path().join("socket");
        let child = command(program, processor, directory.path(), &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the server's log")?)
            .stderr(log.try_clone().context("sharing the server's log")?)
            // A Ctrl-C at the terminal is for this program, which ends the server itself.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let process = child.id();
        *running = Running { child: Some(child), directory: Some(directory) };
        drop(running);
        let mut server = Server { running: shared, process, log, name: String::new() };
        let streams = server.connect(&socket, clients).map_err(|error| server.explain(error))?;
        // All who will ever connect are connected.
        lock(&server.running).directory = None;
        Ok((server, streams))
    }

    /// Waits until the server accepts connections, asks who it is, and connects the clients.
    fn connect(&mut self, socket: &Path, clients: usize) -> Result<Vec<UnixStream>> {
        let started = Instant::now();
        let first = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > START_MAX => {
                    return Err(error).with_context(|| format!("no answer at {}", socket.display()));
                }
                Err(_) if lock(&self.running).ended().is_some() => bail!("the server accepted no connection"),
                Err(_) => std::thread::sleep(START_TICK),
            }
        };
        self.name = name(&information(first)?);
        let connect = |_| UnixStream::connect(socket).context("connecting a client");
        (0..clients).map(connect).collect()
    }

    /// An error of somebody who talked to the server; if that has ended, with how it did and what it said last.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let started = Instant::now();
        // A connection ends a moment before its process.
        let status = loop {
            match lock(&self.running).ended() {
                Some(status) => break status,
                None if started.elapsed() > END_MAX => return error,
                None => {}
            }
            std::thread::sleep(START_TICK);
        };
        let words = self.last_words().map_or_else(String::new, |words| format!(" Its last words:\n{words}"));
        anyhow!("{error:#}. The Redis server ended by itself ({status}).{words}")
    }

    fn last_words(&self) -> Option<String> {
        // Not by reading on: position and file are the server's, too.
        let mut bytes = vec![0; LOG_BYTES_SHOWN];
        let start = self.log.metadata().ok()?.len().saturating_sub(LOG_BYTES_SHOWN as u64);
        let length = self.log.read_at(&mut bytes, start).ok()?;
        let text = String::from_utf8_lossy(&bytes[..length]).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Time that the thread which serves commands has run so far, in nanoseconds, if the kernel tells.
    pub fn busy_ns(&self) -> Option<u64> {
        let times = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process)).ok()?;
        times.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        lock(&self.running).end();
    }
}

/// This program as the keeper that becomes the server.
fn command(program: &Path, processor: Option<usize>, directory: &Path, socket: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(KEEPER_PROCESS).arg(std::process::id().to_string());
    command.arg(processor.map(|processor| processor.to_string()).unwrap_or_default()).arg(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]);
    command.args(["--unixsocketperm", "700"]).arg("--unixsocket").arg(socket).arg("--dir").arg(directory);
    command
}

/// What a server tells of itself.
fn information(mut stream: UnixStream) -> Result<String> {
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut command = Vec::new();
    resp::write_command(&mut command, &[b"INFO", b"server"]);
    stream.write_all(&command).context("asking the server who it is")?;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).context("asking the server who it is")?;
        if length == 0 {
            bail!("the server closed the connection instead of saying who it is");
        }
        bytes.extend_from_slice(&piece[..length]);
        match resp::parse(&bytes, INFORMATION_BYTES_MAX).map_err(|error| anyhow!("not a Redis server: it sent {error}"))? {
            Some((Reply::Bulk(text), _)) => return Ok(String::from_utf8_lossy(text).into_owned()),
            Some((reply, _)) => bail!("not a Redis server: it answered INFO by {reply:?}"),
            None => {}
        }
    }
}

/// Name and version out of what `INFO server` answers. Valkey tells the version of Redis that it resembles, too.
fn name(information: &str) -> String {
    let field = |name: &str| information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "a Redis server of unknown version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_they_say() {
        assert_eq!(name("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"), "Redis 7.0.15");
        assert_eq!(name("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n"), "Valkey 8.0.1");
        assert_eq!(name(""), "a Redis server of unknown version");
    }

    /// A file that cannot be executed, a directory and nothing are no programs.
    #[test]
    fn only_programs_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redis-server");
        assert!(find(Some(&file)).is_err() && find(Some(directory.path())).is_err());
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(find(Some(&file)).is_err());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find(Some(&file)).unwrap(), file);
    }
}
