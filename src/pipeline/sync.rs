//! What `idle.rs` and `handoff.rs` take from the standard library to synchronise threads, and nothing else: so that
//! `tests/loom/` can put models of it in its place, and run these very files through every interleaving.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::OnceLock;
pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
pub(super) use std::thread::{Thread, current, park, park_timeout};
pub(super) use std::time::Instant;

/// One of several looks so many times before it sleeps: some microseconds, because there may be nothing for long.
pub(super) const LOOKS: u32 = 100;
