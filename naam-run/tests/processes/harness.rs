//! Clusters of the built program, each in a state directory of its own.

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts success.
    #[track_caller]
    pub fn fine(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// Asserts an exit code and words on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
    }
}

/// A scratch directory that clusters are found in, and the user and program that use it.
pub struct Scratch {
    directory: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch { directory: tempfile::tempdir().unwrap(), program: PathBuf::from(env!("CARGO_BIN_EXE_naam-run")), user: None }
    }

    /// Makes another user its owner and the one who runs all commands, which only root can do.
    pub fn give_to(&mut self, user: u32) {
        // The user may not reach where the program was built. Another process makes the copy: while this one had it open for writing, a
        // child that another test starts could inherit that, and nobody can execute a file that is open for writing.
        let program = self.file("naam-run");
        assert!(Command::new("cp").args([&self.program, &program]).status().unwrap().success());
        std::os::unix::fs::chown(self.directory.path(), Some(user), Some(user)).unwrap();
        (self.program, self.user) = (program, Some(user));
    }

    /// The parent of all cluster directories.
    pub fn clusters(&self) -> PathBuf {
        self.directory.path().join("naam")
    }

    /// A file beside them.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.env("XDG_RUNTIME_DIR", self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Runs one command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command().args(arguments).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a cluster and waits until it says that it runs.
    pub fn start(&self, arguments: &[&str]) -> Cluster<'_> {
        let mut child =
            self.command().arg("cluster").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        if !first.contains("is running") {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("the cluster did not start: {first:?} {stderr:?}");
        }
        Cluster { scratch: self, child, stdout }
    }
}

/// A running cluster. Dropping it kills its supervisor; its place follows.
pub struct Cluster<'a> {
    scratch: &'a Scratch,
    pub child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Cluster<'_> {
    /// Runs a command against the cluster of the default name.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.scratch.run(arguments)
    }

    /// The host place's process.
    pub fn place(&self) -> Process {
        let status = self.run(&["--json", "status"]).json();
        Process::open(status["places"][0]["process"].as_u64().unwrap() as u32)
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: exit code, and what it printed after its first line.
    pub fn ended(mut self) -> Ran {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Ran { code: self.child.wait().unwrap().code(), stdout, stderr }
    }

    /// Its control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.directory().join("control.socket")
    }

    /// Its session socket.
    pub fn session_socket(&self) -> PathBuf {
        self.directory().join("session.socket")
    }

    fn directory(&self) -> PathBuf {
        self.scratch.clusters().join("default")
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some process, which may not be a child.
pub struct Process {
    id: u32,
    descriptor: OwnedFd,
}

impl Process {
    pub fn open(id: u32) -> Process {
        let pid = Pid::from_raw(id as i32).unwrap();
        Process { id, descriptor: rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap() }
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.descriptor, signal).unwrap();
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits for its end.
    pub fn wait(&self) {
        rustix::event::poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], None).unwrap();
    }

    /// Whether the kernel knows nothing of it any more.
    pub fn is_gone(&self) -> bool {
        !Path::new(&format!("/proc/{}", self.id)).exists()
    }
}
