//! Where the files of a wire log are, and what they are called.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The last directory of the path.
const TAIL: &str = "wirelogs";
/// Times a name that is taken is made anew.
const NAMES_MAX: usize = 100;

/// The open files of a log, in the order of the suffixes that were asked for, in one directory.
#[derive(Debug)]
pub(crate) struct LogFiles {
    pub directory: PathBuf,
    pub files: Vec<(File, PathBuf)>,
    /// What goes with the log when it is closed.
    pub temp_root: Option<PathBuf>,
}

/// Creates files in a directory of their own, which only this user can read.
///
/// hio puts that directory below `/tmp/hio/wirelogs`, which then belongs to whoever came first.
pub(crate) fn create_temp(prefix: &Path, name: &str, suffixes: &[&str]) -> io::Result<LogFiles> {
    let root = unique_directory(&std::env::temp_dir())?;
    let directory = root.join(prefix).join(TAIL);
    match create_in(&directory, name, suffixes) {
        Ok(files) => Ok(LogFiles { directory, files, temp_root: Some(root) }),
        Err(error) => {
            let _ = fs::remove_dir_all(&root); // the first error is the one to tell
            Err(error)
        }
    }
}

/// Creates files below `head`, or else in the user's home: `~/.<prefix>/wirelogs`.
pub(crate) fn create_persistent(
    head: &Path,
    home: Option<PathBuf>,
    prefix: &Path,
    name: &str,
    suffixes: &[&str],
) -> io::Result<LogFiles> {
    let directory = head.join(prefix).join(TAIL);
    let refused = match create_in(&directory, name, suffixes) {
        Ok(files) => return Ok(LogFiles { directory, files, temp_root: None }),
        Err(error) => error,
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(prefix);
    let Some(home) = home.map(|home| home.join(hidden).join(TAIL)) else { return Err(refused) };
    // The directory that was asked for is the one to tell about if neither can be used.
    let Ok(files) = create_in(&home, name, suffixes) else { return Err(refused) };
    log::warn!(
        "wire log '{name}': cannot use '{}': {refused}; it is in '{}' instead",
        directory.display(),
        home.display()
    );
    Ok(LogFiles { directory: home, files, temp_root: None })
}

/// The user's home directory.
pub(crate) fn home() -> Option<PathBuf> {
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    std::env::var_os(variable).filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Creates one new file `<name>.<time><suffix>` for each suffix, all with one time.
fn create_in(directory: &Path, name: &str, suffixes: &[&str]) -> io::Result<Vec<(File, PathBuf)>> {
    fs::create_dir_all(directory)?;
    let mut result: io::Result<Vec<_>> = Ok(Vec::new());
    for _ in 0..NAMES_MAX {
        let time = utc(SystemTime::now());
        let paths = suffixes.iter().map(|suffix| directory.join(format!("{name}.{time}{suffix}")));
        result = create_all(paths);
        match &result {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}

/// Creates all of these files, or none.
fn create_all(paths: impl Iterator<Item = PathBuf>) -> io::Result<Vec<(File, PathBuf)>> {
    let mut files = Vec::new();
    for path in paths {
        match create_new(&path) {
            Ok(file) => files.push((file, path)),
            Err(error) => {
                for (_, path) in files {
                    let _ = fs::remove_file(path); // the first error is the one to tell
                }
                return Err(error);
            }
        }
    }
    Ok(files)
}

/// Creates a file that was not there, so that no log is overwritten and no link is followed; of others, only its
/// group can read it.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.read(true).write(true).create_new(true).open(path)
}

/// Creates a directory nobody else has, and nobody else can look into.
fn unique_directory(parent: &Path) -> io::Result<PathBuf> {
    let mut result = Err(ErrorKind::AlreadyExists.into());
    for _ in 0..NAMES_MAX {
        // Each RandomState has keys of its own.
        let random = RandomState::new().hash_one(std::process::id()) as u32;
        let path = parent.join(format!("test_{random:08x}_temp"));
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => result = Err(error),
            Err(error) => return Err(error),
        }
    }
    result
}

/// A time in UTC as hio writes it into names: `2026-02-28_23-59-59_000001`.
fn utc(time: SystemTime) -> String {
    let micros = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    };
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}_{hour:02}-{minute:02}-{second:02}_{micros:06}")
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Years begin in March, so that the leap day is a year's last, and 400 of them are 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_have_the_time_in_utc() {
        let at = |seconds, micros: u32| utc(SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1_000));
        assert_eq!(at(0, 0), "1970-01-01_00-00-00_000000");
        assert_eq!(at(951_782_399, 1), "2000-02-28_23-59-59_000001");
        assert_eq!(at(951_782_400, 999_999), "2000-02-29_00-00-00_999999");
        assert_eq!(at(1_709_251_199, 5), "2024-02-29_23-59-59_000005");
        assert_eq!(at(1_735_689_599, 0), "2024-12-31_23-59-59_000000");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01_00-00-00_000000");
    }

    #[test]
    fn names_of_before_1970_differ_too() {
        let before = |micros| utc(SystemTime::UNIX_EPOCH - Duration::from_micros(micros));
        assert_eq!(before(1), "1969-12-31_23-59-59_999999");
        assert_eq!(before(86_400_000_000), "1969-12-31_00-00-00_000000");
    }

    #[test]
    fn h137_the_home_directory_stands_in_for_a_head_that_cannot_be_used() {
        let root = unique_directory(&std::env::temp_dir()).unwrap();
        let (head, home) = (root.join("a file"), root.join("home"));
        fs::write(&head, "").unwrap();
        let suffixes = &[".rx.log", ".tx.log"];
        let found = create_persistent(&head, Some(home.clone()), Path::new("hio"), "main", suffixes).unwrap();
        assert_eq!(found.directory, home.join(".hio/wirelogs"));
        assert_eq!(fs::read_dir(&found.directory).unwrap().count(), 2);
        drop(found); // Windows removes no file that is open
        // With no home either, the error is about the directory that was asked for.
        let (no_home, also_a_file) = (None, Some(head.clone()));
        for home in [no_home, also_a_file] {
            let error = create_persistent(&head, home, Path::new("hio"), "main", suffixes).unwrap_err();
            assert!(error.raw_os_error().is_some(), "{error}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_that_cannot_all_be_made_leave_none_behind() {
        let root = unique_directory(&std::env::temp_dir()).unwrap();
        for (suffixes, kind) in [
            ([".log", "/no/such/directory"], ErrorKind::NotFound),
            ([".log", ".log"], ErrorKind::AlreadyExists), // time and again
        ] {
            assert_eq!(create_in(&root, "x", &suffixes).unwrap_err().kind(), kind);
            assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "{suffixes:?}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_is_made_anew() {
        let root = unique_directory(&std::env::temp_dir()).unwrap();
        let taken = root.join("taken");
        drop(create_new(&taken).unwrap());
        assert_eq!(create_new(&taken).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let names: Vec<_> = (0..50).map(|_| create_in(&root, "x", &[".log"]).unwrap().remove(0).1).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        fs::remove_dir_all(root).unwrap();
    }
}
