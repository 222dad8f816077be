//! How files that datagrams go to are opened: for their owner and its group, for one writer, and never through a link.
//!
//! In a directory that others may write to, anything may lie under a name that they can guess, such as a link
//! to a file of ours. Places below /dev and /proc, like /dev/stdout, are links by nature and nobody else's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::{thread, time::Duration};

/// How often it looks whether somebody reads a pipe.
#[cfg(unix)]
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a pipe is not waited for any longer.
#[cfg(unix)]
const UNREAD: &str = "nobody has read this pipe before the stop";

/// Opens a file to write, which nobody else writes to, and leaves in it what it holds. A pipe that nobody reads is
/// waited for until `is_over`.
pub fn create(path: &Path, is_over: impl Fn() -> bool) -> io::Result<File> {
    let mut options = options(path);
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    let file = open_when_read(path, &mut options, is_over)?;
    #[cfg(not(unix))]
    let (file, _) = (open(path, &options)?, is_over);
    lock_file(&file)?;
    Ok(file)
}

/// Opens a file that is a pipe, perhaps, without a wait that no signal would end.
#[cfg(unix)]
fn open_when_read(path: &Path, options: &mut OpenOptions, is_over: impl Fn() -> bool) -> io::Result<File> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

    let is_unread = |error: &io::Error| {
        error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
            && fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
    };
    options.custom_flags(flags(path) | rustix::fs::OFlags::NONBLOCK.bits() as i32);
    loop {
        match open(path, options) {
            Err(error) if is_unread(&error) && is_over() => return Err(io::Error::other(UNREAD)),
            Err(error) if is_unread(&error) => thread::sleep(LOOK_EVERY),
            Err(error) => return Err(error),
            Ok(file) => {
                rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - rustix::fs::OFlags::NONBLOCK)?;
                return Ok(file);
            }
        }
    }
}

/// Waits until something that is open takes a little at once, which a full pipe does not, or until `is_over`.
#[cfg(unix)]
pub fn wait_for_room(file: &File, is_over: impl Fn() -> bool) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let at_once = Timespec::default();
    while poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&at_once)) == Ok(0) {
        if is_over() {
            return Err(io::Error::other(UNREAD));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn wait_for_room(_file: &File, _is_over: impl Fn() -> bool) -> io::Result<()> {
    Ok(())
}

/// Opens a file to write behind what it holds, which nobody else writes to; what it holds can be read.
pub fn append(path: &Path) -> io::Result<File> {
    let file = open(path, options(path).read(true).append(true).create(true))?;
    lock_file(&file)?;
    Ok(file)
}

/// Makes a file whose name must be free.
pub fn create_new(path: &Path) -> io::Result<File> {
    open(path, options(path).write(true).create_new(true))
}

/// Opens a file that is there, to read and write.
pub fn existing(path: &Path) -> io::Result<File> {
    open(path, options(path).read(true).write(true))
}

/// Makes a directory that only its owner and its group can look into, unless it is there; says whether others
/// may change what is in it.
pub fn directory(path: &Path) -> io::Result<bool> {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
    match builder.create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(is_others(&fs::metadata(path)?)),
        Ok(()) => Ok(false),
    }
}

/// Keeps other ingests and sinks from a file as long as it is open, but for what anybody may share: pipes, devices.
fn lock_file(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { lock(file, "file") } else { Ok(()) }
}

/// Keeps other ingests and sinks from what is open, a `kind` of thing, until it is closed.
#[cfg(unix)]
pub fn lock(open: &File, kind: &str) -> io::Result<()> {
    match rustix::fs::flock(open, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let message = format!("another ingest or sink writes to this {kind}");
            Err(io::Error::new(io::ErrorKind::WouldBlock, message))
        }
        // Some network file systems know no locks.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub fn lock(_open: &File, _kind: &str) -> io::Result<()> {
    Ok(())
}

/// Whether a path leads to a file that is open.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(open), Ok(there)) if id(&open) == id(&there))
}

#[cfg(not(unix))]
pub fn is_at(_file: &File, _path: &Path) -> bool {
    false
}

/// Whether a path leads to where standard output goes.
#[cfg(unix)]
pub fn is_stdout(path: &Path) -> bool {
    let both = (rustix::fs::fstat(io::stdout()), rustix::fs::stat(path));
    matches!(both, (Ok(open), Ok(there)) if (open.st_dev, open.st_ino) == (there.st_dev, there.st_ino))
}

#[cfg(not(unix))]
pub fn is_stdout(_path: &Path) -> bool {
    false
}

#[cfg(unix)]
fn is_others(directory: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    let owner = directory.uid();
    directory.mode() & 0o022 != 0 || (owner != 0 && owner != nix::unistd::geteuid().as_raw())
}

#[cfg(not(unix))]
fn is_others(_directory: &fs::Metadata) -> bool {
    false
}

/// Options for a file that its owner may write and its group may read, whose name is no link.
fn options(path: &Path) -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        options.mode(0o640).custom_flags(flags(path));
    }
    #[cfg(not(unix))]
    let _ = path;
    options
}

/// Flags of open(2) beside those that the standard library gives.
#[cfg(unix)]
fn flags(path: &Path) -> i32 {
    let may_be_link = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|root| path.starts_with(root));
    if may_be_link { 0 } else { rustix::fs::OFlags::NOFOLLOW.bits() as i32 }
}

fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    options.open(path).map_err(|error| {
        // Its errno differs from system to system.
        let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        if cfg!(unix) && is_link && error.kind() != io::ErrorKind::AlreadyExists {
            return io::Error::other("it is a symbolic link, which is not followed; name the file itself");
        }
        error
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A way to open a file.
    type Way = fn(&Path) -> io::Result<File>;

    fn create_now(path: &Path) -> io::Result<File> {
        create(path, || true)
    }

    #[test]
    fn no_way_of_opening_a_file_follows_a_link_that_lies_under_its_name() {
        let dir = std::env::temp_dir().join(format!("hio-udp-opening-{}", std::process::id()));
        assert!(!directory(&dir).unwrap());
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o007, 0, "nobody else can look into it");
        let (victim, nothing, name) = (dir.join("victim"), dir.join("nothing"), dir.join("name"));
        fs::write(&victim, "kept").unwrap();
        for target in [&victim, &nothing] {
            symlink(target, &name).unwrap();
            for open in [create_now as Way, append, create_new, existing] {
                open(&name).unwrap_err();
            }
            let error = create_now(&name).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
            fs::remove_file(&name).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert!(!nothing.exists());
        // A link on the way to the file is the user's own affair.
        symlink(&dir, &name).unwrap();
        create_new(&name.join("new")).unwrap();
        assert!(!directory(&name).unwrap());
        assert_eq!(fs::metadata(dir.join("new")).unwrap().permissions().mode() & 0o117, 0);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(directory(&dir).unwrap(), "others may write to it");
        fs::remove_dir_all(&dir).unwrap();
    }
}
