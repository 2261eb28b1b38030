//! What programs write: files, there as a whole or as they were before, and standard output.
//!
//! A regular file, and one that is not there yet, is written without a name and put in its place at the end, so that a failure at any
//! moment leaves the old one and nothing beside it. A device or a FIFO has no old content and is not ours to replace: it is written to.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Symbolic links that a path may go through, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Where a process finds its own descriptors by path.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A file that is being written. Its errors name it. Without [`OutputFile::finish`] the old one stays.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    place: Place,
    failed: bool,
}

/// Where what is written goes.
#[derive(Debug)]
enum Place {
    /// To where the path leads, at once.
    There,
    /// To a file without a name, which becomes this one.
    Unnamed(PathBuf),
    /// To the second file, which becomes the first one.
    Beside(PathBuf, PathBuf),
}

/// Writes a whole file.
///
/// # Errors
/// What the system says, with the path before it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Prints to standard output. Whoever reads may go away before the end (`naamc inspect ... | head`): it has seen enough.
///
/// # Errors
/// What the system says, if the text is lost otherwise.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

impl OutputFile {
    /// Begins to write what `path` shall be.
    ///
    /// # Errors
    /// What the system says, with the path before it.
    pub fn create(path: &Path) -> io::Result<OutputFile> {
        let (file, place) = open(path).map_err(|error| named(path, &error))?;
        Ok(OutputFile { path: path.to_owned(), file, place, failed: false })
    }

    /// Whether something could not be written.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// What the system says, with the path before it; the old file is still there.
    pub fn finish(mut self) -> io::Result<()> {
        self.place_it().map_err(|error| named(&self.path, &error))
    }

    fn place_it(&mut self) -> io::Result<()> {
        if let Place::Unnamed(target) = &self.place {
            let unnamed = format!("{DESCRIPTORS}/{}", self.file.as_raw_fd());
            let link = |to: &Path| rustix::fs::linkat(CWD, &unnamed, CWD, to, AtFlags::SYMLINK_FOLLOW);
            match link(target) {
                // A link never replaces; only a rename does.
                Err(Errno::EXIST) => {
                    let beside = beside(target);
                    link(&beside)?;
                    self.place = Place::Beside(target.clone(), beside);
                }
                linked => return Ok(linked?),
            }
        }
        if let Place::Beside(target, beside) = &self.place {
            std::fs::rename(beside, target)?;
            self.place = Place::There;
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            self.failed |= error.kind() != io::ErrorKind::Interrupted;
            named(&self.path, &error)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Place::Beside(_, beside) = &self.place {
            let _ = std::fs::remove_file(beside);
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

fn open(path: &Path) -> io::Result<(File, Place)> {
    let old = match std::fs::metadata(path) {
        Ok(old) if !old.is_file() => return Ok((File::options().write(true).open(path)?, Place::There)),
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(target) = target(path)? else { return Ok((File::create(path)?, Place::There)) };
    if old.is_some() {
        // Who may not write to a file may not replace it.
        File::options().write(true).open(&target)?;
    }
    let (file, place) = open_beside(target)?;
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    Ok((file, place))
}

/// What a path leads to behind its symbolic links; nothing if that is an open descriptor, as with `/dev/stdout`.
fn target(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() && target.starts_with("/proc") => return Ok(None),
            Ok(metadata) if metadata.is_symlink() => target = directory(&target).join(std::fs::read_link(&target)?),
            _ => return Ok(Some(target)),
        }
    }
    Err(Errno::LOOP.into())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same directory that nobody else uses.
fn beside(target: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    directory(target).join(format!(".naam.{}.{count}.partial", std::process::id()))
}

/// A new file that can become `target`. One with a name, where the file system knows no other, stays if the process is killed.
fn open_beside(target: PathBuf) -> io::Result<(File, Place)> {
    if Path::new(DESCRIPTORS).is_dir() {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory(&target), flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => return Ok((file.into(), Place::Unnamed(target))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let beside = beside(&target);
    Ok((File::create_new(&beside)?, Place::Beside(target, beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(scratch.path())), (b"old".to_vec(), vec!["file".to_owned()]));
        file.finish().unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), metadata.permissions().mode() & 0o777), (b"new".to_vec(), 0o640));
        assert_ne!(metadata.ino(), inode, "it is another file, not this one written over");
        assert_eq!(names(scratch.path()), ["file"]);
    }

    /// With and without a name until then.
    #[test]
    fn what_is_not_finished_leaves_the_old_file_and_nothing_beside_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        write(&path, b"old").unwrap();
        for with_a_name in [false, true] {
            let (mut file, place) = if with_a_name {
                let beside = beside(&path);
                (File::create_new(&beside).unwrap(), Place::Beside(path.clone(), beside))
            } else {
                open(&path).unwrap()
            };
            file.write_all(b"new").unwrap();
            drop(OutputFile { path: path.clone(), file, place, failed: false });
            assert_eq!((fs::read(&path).unwrap(), names(scratch.path())), (b"old".to_vec(), vec!["file".to_owned()]));
        }
    }

    #[test]
    fn links_stay_and_what_they_lead_to_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let (link, chain, target) = (scratch.path().join("link"), scratch.path().join("chain"), scratch.path().join("folder/file"));
        fs::create_dir(scratch.path().join("folder")).unwrap();
        symlink("folder/file", &link).unwrap();
        symlink(&link, &chain).unwrap();
        for content in [b"new", b"old"] {
            write(&chain, content).unwrap();
            assert_eq!(fs::read(&target).unwrap(), content);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::symlink_metadata(&chain).unwrap().is_symlink());
        }
        let circle = scratch.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(write(&circle, b"").unwrap_err().to_string().contains("circle: "));
    }

    #[test]
    fn a_fifo_is_written_to() {
        let scratch = tempfile::tempdir().unwrap();
        let (fifo, link) = (scratch.path().join("fifo"), scratch.path().join("link"));
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        symlink("fifo", &link).unwrap();
        for path in [&fifo, &link] {
            let reader = std::thread::spawn({
                let fifo = fifo.clone();
                move || fs::read(fifo).unwrap()
            });
            write(path, b"through").unwrap();
            assert_eq!(fs::symlink_metadata(&fifo).unwrap().mode() & 0o170_000, 0o010_000, "it is still a FIFO");
            assert_eq!(reader.join().unwrap(), b"through");
        }
        assert_eq!(names(scratch.path()), ["fifo", "link"]);
    }

    #[test]
    fn errors_name_the_file() {
        let scratch = tempfile::tempdir().unwrap();
        for path in [scratch.path().to_owned(), scratch.path().join("no/file")] {
            let error = write(&path, b"").unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
        }
    }
}
