//! A directory of a test's own.
#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    /// `name` is the test's own.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hio-udp-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
