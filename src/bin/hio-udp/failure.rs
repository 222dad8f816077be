//! What ends the program early: one line that names the input and says what would be right.

use std::fmt;
use std::process::ExitCode;

use crate::account::say;
use crate::events::{self, Event};

#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// A file or the environment gives wrong options: exit code 2.
    Config(String),
    /// The command line is right, but something failed: exit code 1.
    Run(String),
}

impl Failure {
    pub fn run(message: impl Into<String>) -> Self {
        Self::Run(message.into())
    }

    /// Tells it on standard error.
    pub fn say(&self) {
        if events::is_on() {
            Event::error("failed").with("message", self.to_string()).log();
        } else {
            say(&format!("hio-udp: {self}"));
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Config(_) => ExitCode::from(2),
            Self::Run(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => write!(f, "{message} (see hio-udp --help)"),
            Self::Config(message) | Self::Run(message) => f.write_str(message),
        }
    }
}
