//! What the benchmarks of hio-udp share: paired rounds, quiet threads, traffic, and the bare loops to beat.
//!
//! A figure measured alone drifts with the machine; a ratio inside one interleaved run does not. So
//! every table comes from [`harness::rounds`], which runs A B C A B C in one process, and shows
//! medians, quartiles, and ratios of medians. Every contestant consumes every payload and every
//! address, and its [`Tally`](traffic::Tally) is checked after every round.
//!
//! `cargo bench` runs all, and ends with the table of goals; `cargo bench --bench drain` runs one. These
//! need Linux: the loops to beat are `recvmmsg` and `sendmmsg`.
#![cfg(target_os = "linux")]

pub mod drained;
pub mod flooded;
pub mod goals;
pub mod harness;
pub mod machine;
pub mod plot;
pub mod report;
pub mod rivals;
pub mod traffic;
