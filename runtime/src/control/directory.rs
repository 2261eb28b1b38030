//! Where a cluster can be found: `$XDG_RUNTIME_DIR/naam/NAME`, else `naam-UID/NAME` in the temporary directory.
//!
//! A directory holds a lock, the control socket and the session socket of one running cluster. It and its parent belong to the user and
//! are closed to everybody else; anything else is refused, by the cluster and by those who look for it.

use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::name::check_name;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of a cluster that was not given one.
pub const NAME_DEFAULT: &str = "default";
/// Bytes of a Unix socket's path (`sun_path` less its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How often a lock that is held is tried again, [`LOCK_PAUSE`] later: who only looks at it holds it for an instant, too.
const LOCK_TRIES_MAX: u32 = 3;
/// Time between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The place of one cluster's files. Whether a cluster runs there is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The cluster's name.
    pub name: String,
    /// The cluster's directory.
    pub directory: PathBuf,
}

impl Address {
    /// The address of the cluster with this name, for this user.
    pub fn of(name: &str) -> Result<Address, ControlError> {
        check_name("cluster", name)?;
        Address::below(&root(), name)
    }

    /// The same with another root than the user's.
    pub fn below(root: &Path, name: &str) -> Result<Address, ControlError> {
        let address = Address { name: name.to_owned(), directory: root.join(name) };
        if address.control_socket().as_os_str().len().max(address.session_socket().as_os_str().len()) > SOCKET_PATH_BYTES_MAX {
            return Err(ControlError::new(
                Code::BadRequest,
                format!(
                    "a socket's path takes {SOCKET_PATH_BYTES_MAX} bytes at most, and {} is too long",
                    address.directory.display()
                ),
            )
            .hint("use a shorter cluster name, or set XDG_RUNTIME_DIR to a shorter path"));
        }
        Ok(address)
    }

    /// The socket that speaks HTTP.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.socket")
    }

    /// The socket that hands out sessions.
    pub fn session_socket(&self) -> PathBuf {
        self.directory.join("session.socket")
    }

    fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Checks, for a client, that the directory is this user's alone. A cluster that is not there is [`Code::NoCluster`].
    pub fn check(&self) -> Result<(), ControlError> {
        let root = self.directory.parent().expect("a cluster's directory has a parent");
        for directory in [root, self.directory.as_path()] {
            match check_private(directory) {
                Err(Unfit::Missing) => return Err(self.not_running()),
                Err(Unfit::Refused(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// The error that says how to start this cluster.
    pub fn not_running(&self) -> ControlError {
        let name = if self.name == NAME_DEFAULT { String::new() } else { format!(" --name {}", self.name) };
        ControlError::new(Code::NoCluster, format!("no cluster {:?} is running ({})", self.name, self.directory.display()))
            .hint(format!("start it with `naam-run cluster{name}` in another terminal"))
    }

    /// The process whose cluster holds this directory, reachable or not. `None` if no cluster runs here.
    pub fn holder(&self) -> Option<Holder> {
        let mut file = File::open(self.lock()).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut process = String::new();
        file.read_to_string(&mut process).ok()?;
        let process: u32 = process.parse().ok()?;
        let descriptor = pidfd_open(Pid::from_raw(i32::try_from(process).ok()?)?, PidfdFlags::empty()).ok();
        Some(Holder { process, descriptor })
    }

    /// The error that says that this process holds the directory and cannot be asked for anything.
    pub fn unreachable(&self, holder: &Holder) -> ControlError {
        let process = holder.process;
        let what = format!(
            "cluster {:?} runs (process {process}) but cannot be reached: its control socket is gone ({})",
            self.name,
            self.control_socket().display()
        );
        ControlError::new(Code::System, what).hint(format!("end it with `kill {process}`"))
    }
}

/// Who holds a cluster's directory.
#[derive(Debug)]
pub struct Holder {
    /// The supervisor's process.
    pub process: u32,
    /// Nothing if it has ended meanwhile.
    descriptor: Option<OwnedFd>,
}

impl Holder {
    /// Waits until its process has ended, and its directory is free; `false` if that takes longer than `limit`.
    pub fn ended_within(&self, limit: Duration) -> bool {
        let Some(descriptor) = &self.descriptor else { return true };
        let Ok(limit) = Timespec::try_from(limit) else { return false };
        poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
    }
}

/// A directory that this process holds for its cluster. Dropping it removes everything in it.
#[derive(Debug)]
pub struct Held {
    address: Address,
    _lock: File,
}

impl Held {
    /// Takes the directory for a new cluster; refused while another process holds it, and if others could reach it.
    pub fn take(address: &Address) -> Result<Held, ControlError> {
        let root = address.directory.parent().expect("a cluster's directory has a parent");
        loop {
            for directory in [root, address.directory.as_path()] {
                create_private(directory)?;
            }
            match Held::lock(address)? {
                Some(lock) => {
                    let held = Held { address: address.clone(), _lock: lock };
                    held.remove_sockets();
                    remove_dead(root, &address.directory);
                    return Ok(held);
                }
                // The holder that was just ending removed the file that we had opened.
                None => continue,
            }
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    fn lock(address: &Address) -> Result<Option<File>, ControlError> {
        let path = address.lock();
        let failed = |error: io::Error| ControlError::io(format!("locking {}", path.display()), &error);
        let mut file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(failed)?,
        };
        let mut tries = 1;
        let taken = loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(_) if tries < LOCK_TRIES_MAX => std::thread::sleep(LOCK_PAUSE),
                result => break result,
            }
            tries += 1;
        };
        if taken.is_err() {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            return Err(ControlError::new(
                Code::ClusterExists,
                format!("cluster {:?} is running already (process {process})", address.name),
            )
            .hint(format!("use it as it is, stop it with `naam-run stop --cluster {}`, or give another --name", address.name)));
        }
        if !is_at(&file, &path) {
            return Ok(None);
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Some(file))
    }

    fn remove_sockets(&self) {
        for path in [self.address.control_socket(), self.address.session_socket()] {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.remove_sockets();
        let _ = fs::remove_file(self.address.lock());
        let _ = fs::remove_dir(&self.address.directory);
        // Fails while other clusters are there.
        let _ = fs::remove_dir(self.address.directory.parent().expect("a cluster's directory has a parent"));
    }
}

/// Removes what clusters left beside `own` that were killed, and so could not. Nobody may ever ask for their names again.
fn remove_dead(root: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for directory in entries.flatten().map(|entry| entry.path()).filter(|directory| directory != own) {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let address = Address { name, directory };
        // One without a lock may be about to get one.
        let Ok(lock) = File::open(address.lock()) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&lock, &address.lock()) {
            drop(Held { address, _lock: lock });
        }
    }
}

/// Whether an open file is the one that is found at a path now.
fn is_at(file: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|held| named.ino() == held.ino()))
}

/// The directory above all clusters of this user.
pub fn root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("naam"),
        None => std::env::temp_dir().join(format!("naam-{}", rustix::process::getuid().as_raw())),
    }
}

enum Unfit {
    Missing,
    Refused(ControlError),
}

fn check_private(directory: &Path) -> Result<(), Unfit> {
    let metadata = match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unfit::Missing),
        Err(error) => return Err(Unfit::Refused(ControlError::io(format!("reading {}", directory.display()), &error))),
        Ok(metadata) => metadata,
    };
    let refused = |what: String, hint: String| Err(Unfit::Refused(ControlError::new(Code::UnsafeDirectory, what).hint(hint)));
    let shown = directory.display();
    if !metadata.is_dir() {
        return refused(format!("{shown} is not a directory"), format!("remove it: `rm {shown}`"));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return refused(
            format!("{shown} belongs to user {}, not to you ({user})", metadata.uid()),
            "set XDG_RUNTIME_DIR to a directory of your own".into(),
        );
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return refused(format!("{shown} is open to other users (mode {mode:04o})"), format!("close it: `chmod 700 {shown}`"));
    }
    Ok(())
}

fn create_private(directory: &Path) -> Result<(), ControlError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // The holder of another cluster has just removed the parent: the caller's loop makes it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound && directory.parent().is_some_and(Path::exists) => {}
        Err(error) => {
            return Err(ControlError::io(format!("creating {}", directory.display()), &error)
                .hint("set XDG_RUNTIME_DIR to a directory of your own, or unset it to use the temporary directory"));
        }
        Ok(()) => {}
    }
    match check_private(directory) {
        Err(Unfit::Refused(error)) => Err(error),
        Err(Unfit::Missing) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_a_name_and_nothing_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("naam");
        let address = Address::below(&root, "one").unwrap();
        assert_eq!(address.check().unwrap_err().code, Code::NoCluster);
        let held = Held::take(&address).unwrap();
        let other = Held::take(&Address::below(&root, "two").unwrap()).unwrap();
        address.check().unwrap();
        let error = Held::take(&address).unwrap_err();
        assert_eq!(error.code, Code::ClusterExists);
        assert!(error.message.contains(&std::process::id().to_string()), "{error}");
        let holder = address.holder().unwrap();
        assert_eq!(holder.process, std::process::id());
        assert!(!holder.ended_within(Duration::ZERO));
        fs::write(address.control_socket(), "").unwrap();
        drop(held);
        assert!(root.exists() && !address.directory.exists());
        drop(other);
        assert!(!root.exists());
    }

    #[test]
    fn what_a_dead_holder_left_is_taken_over() {
        let scratch = tempfile::tempdir().unwrap();
        let address = Address::below(&scratch.path().join("naam"), "one").unwrap();
        create_private(address.directory.parent().unwrap()).unwrap();
        create_private(&address.directory).unwrap();
        fs::write(address.lock(), "4194304").unwrap();
        fs::write(address.control_socket(), "").unwrap();
        assert!(address.holder().is_none());
        let held = Held::take(&address).unwrap();
        assert!(!held.address().control_socket().exists());
    }

    #[test]
    fn what_killed_clusters_left_goes_when_another_starts() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("naam");
        let at = |name: &str| Address::below(&root, name).unwrap();
        let runs = Held::take(&at("runs")).unwrap();
        create_private(&at("killed").directory).unwrap();
        fs::write(at("killed").lock(), "4194304").unwrap();
        fs::write(at("killed").control_socket(), "").unwrap();
        create_private(&at("starts").directory).unwrap();
        create_private(&at("strange").directory).unwrap();
        fs::write(at("strange").lock(), "4194304").unwrap();
        fs::write(at("strange").directory.join("notes"), "").unwrap();
        let other = Held::take(&at("other")).unwrap();
        assert!(!at("killed").directory.exists());
        assert!(at("runs").lock().exists() && at("starts").directory.exists(), "one runs, the other may be about to");
        assert!(at("strange").directory.join("notes").exists(), "that is no cluster's");
        drop((runs, other));
    }

    #[test]
    fn directories_of_others_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("naam");
        let address = Address::below(&root, "one").unwrap();
        drop(Held::take(&address).unwrap());
        create_private(&root).unwrap();
        for mode in [0o755, 0o710, 0o707] {
            fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Held::take(&address).unwrap_err().code, Code::UnsafeDirectory);
            assert_eq!(address.check().unwrap_err().code, Code::UnsafeDirectory);
        }
        fs::remove_dir(&root).unwrap();
        std::os::unix::fs::symlink(scratch.path(), &root).unwrap();
        assert_eq!(Held::take(&address).unwrap_err().code, Code::UnsafeDirectory);
    }

    #[test]
    fn long_paths_are_refused() {
        assert_eq!(Address::below(Path::new(&format!("/{}", "d".repeat(90))), "name").unwrap_err().code, Code::BadRequest);
    }
}
