//! Rival crates, each as its own documentation uses it.
#![allow(dead_code, reason = "each bench takes some of them")]

pub mod io_uring;
pub mod nix;
pub mod quinn;
pub mod tokio;
