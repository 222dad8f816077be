//! What is read from front to back: a file, or what others write to meanwhile, such as a pipe, which may stand still.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
#[cfg(unix)]
use std::{os::fd::AsFd, os::unix::fs::OpenOptionsExt, rc::Rc};

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(unix)]
use rustix::fs::OFlags;
#[cfg(unix)]
use rustix::io::Errno;

use crate::stop::Stop;

/// Where bytes come from.
pub type Input = Box<dyn Read>;

/// How often a stop is looked for while nothing comes.
#[cfg(unix)]
const LOOK_AROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Whether a path is standard input (`-`), a pipe or a device: gone when it has been read.
pub fn is_read_once(path: &Path) -> bool {
    path == Path::new("-") || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Tells of something that may stand still whether a read of it would give something, or its end, at once.
#[cfg_attr(not(unix), allow(dead_code))]
pub struct Readiness {
    #[cfg(unix)]
    file: Rc<File>,
}

impl Readiness {
    #[cfg(unix)]
    pub fn is_ready(&self) -> bool {
        poll(&mut [PollFd::new(&*self.file, PollFlags::IN)], Some(&Timespec::default())) != Ok(0)
    }

    #[cfg(not(unix))]
    pub fn is_ready(&self) -> bool {
        true
    }
}

/// Opens a file, or standard input for `-`. What stands still is waited for until a stop is asked for, also a pipe that
/// nobody writes to yet; then reading it is an error.
#[cfg(unix)]
pub fn open(path: &Path, stop: &Stop) -> io::Result<(Input, Option<Readiness>)> {
    if path == Path::new("-") {
        // Not through the standard library's buffer, into which nobody can look.
        return Ok(waiting(File::from(io::stdin().as_fd().try_clone_to_owned()?), stop));
    }
    if !is_read_once(path) {
        return Ok((Box::new(File::open(path)?), None));
    }
    // Otherwise the opening itself would wait for somebody who writes to a pipe.
    let at_once = OFlags::NONBLOCK.bits() as i32;
    Ok(waiting(File::options().read(true).custom_flags(at_once).open(path)?, stop))
}

#[cfg(not(unix))]
pub fn open(path: &Path, _stop: &Stop) -> io::Result<(Input, Option<Readiness>)> {
    let input: Input = if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
    Ok((input, None))
}

#[cfg(unix)]
fn waiting(file: File, stop: &Stop) -> (Input, Option<Readiness>) {
    let file = Rc::new(file);
    (Box::new(Waiting { file: Rc::clone(&file), stop: stop.clone() }), Some(Readiness { file }))
}

/// Something that may stand still, and is read only when it has something.
#[cfg(unix)]
struct Waiting {
    file: Rc<File>,
    stop: Stop,
}

#[cfg(unix)]
impl Read for Waiting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.stop.asked() {
            match poll(&mut [PollFd::new(&*self.file, PollFlags::IN)], Some(&LOOK_AROUND)) {
                Ok(0) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => match (&*self.file).read(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {} // another reader was faster
                    result => return result,
                },
            }
        }
        Err(io::Error::other("a stop came before its end"))
    }
}
