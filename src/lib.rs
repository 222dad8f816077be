//! UDP datagrams at the highest rates a kernel socket allows: hio's `Peer` in Rust, and a batch engine.
//!
//! Python's `hio` has a [`Peer`]: a non-blocking UDP socket with `receive() -> (data, sa)` and
//! `send(data, dst) -> count`, one datagram per call. This crate is that Peer, row for row
//! (`docs/HIO.md` says where it differs and why; H and a number in these pages is a row of it), and a
//! [`BatchPeer`] with the same results that moves many datagrams per system call, in memory allocated once.
//!
//! ```
//! use hio_udp::{BatchPeer, PeerConfig, Transport};
//! use std::time::Duration;
//!
//! // Longer datagrams are cut, flagged and counted; without it, at 1,240 bytes.
//! let config = PeerConfig::new().ha(("127.0.0.1", 0)).gram_size(9_000);
//! let mut peer = BatchPeer::new(config.reopen(true))?;
//! let me = peer.ha();
//! peer.send_batch([(&b"first"[..], me), (b"second", me)]);
//! for gram in peer.fill_wait(Duration::from_secs(1))? {
//!     println!("{} bytes from {}", gram.data.len(), gram.src);
//! }
//! assert_eq!(peer.stats().grams_received, 2);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The data path
//!
//! ```text
//!  kernel socket buffer          RecvRing: bc slots of gram_size bytes
//!  ┌───────────────┐   fill    ┌──────┬──────┬──────┬──────┐   Grams<'_>: borrowed,
//!  │ ▪ ▪ ▪ ▪ ▪ ▪ ▪ ├──────────▶│ gram │ gram │ gram │      │──▶ ordinary iterator
//!  └───────┬───────┘ 1 syscall └──────┴──────┴──────┴──────┘    exchange: the whole ring, to a thread
//!          ▼
//!   the only place where a datagram can be lost; counted in Stats::kernel_dropped
//! ```
//!
//! - **Sockets own no memory, memory owns no socket.** They meet in one call and part again.
//! - **Longer datagrams are cut.** A [`BatchPeer`] and a [`Pipeline`] keep 1,240 bytes ([`MAX_GRAM_SIZE`]) of each
//!   unless [`PeerConfig::gram_size`] asks for more, up to 65,535; one that is cut is flagged
//!   ([`Gram::truncated`]) and counted ([`Stats::grams_truncated`]). A [`Peer`] keeps 65,535, as hio does.
//! - **Nothing is lost silently.** Every datagram that reached the socket is counted in [`Stats`] as
//!   received, undecodable, or dropped by the kernel (Linux).
//! - **No allocation after open** where datagrams move, on every backend; a test counts them.
//! - **Three backends, same results**: `recvmmsg`/`sendmmsg` on Linux, with io_uring for deep queues where
//!   the system allows it, and one datagram per call elsewhere. `RUSTFLAGS='--cfg force_single'` picks
//!   the last on Linux too.
//!
//! # Which to use
//!
//! | you have | use |
//! |---|---|
//! | code written for hio, a datagram now and then | [`Peer`] |
//! | many datagrams: telemetry, relays, load | [`BatchPeer`] with [`fill_wait`](BatchPeer::fill_wait) and [`send_batch`](BatchPeer::send_batch) |
//! | to see what went over the wire | [`WireLog`], as text or for Wireshark |
//! | several threads behind one port | [`Pipeline`]; or [`RingPool`] with [`fill_into_wait`](BatchPeer::fill_into_wait) and threads of your own |
//! | hio's doers, or several peers in one thread | [`PeerDoer`] under a [`Doist`] |
//!
//! # Features
//!
//! - `io-uring` (default) lets a [`BatchPeer`] empty deep queues through io_uring, with the same results.
//!   Where the system refuses it, it goes by `recvmmsg`, and only [`Stats::backend`] tells.
//! - `cli` (default) builds the program `hio-udp`; a library user sets `default-features = false`.
//!
//! Messages go through the `log` crate, never one per datagram.

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod batch_peer;
mod buffers;
mod config;
mod deeds;
mod doer;
mod doist;
mod endpoint;
#[cfg(test)]
mod fault_tests;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gram;
mod grams;
mod multicast;
mod pace;
pub mod pcapng;
mod peer;
mod peer_doer;
mod pipeline;
mod policy;
mod pool;
mod receive;
mod ring;
mod segment;
mod send;
mod stats;
mod sys;
mod transport;
mod wire;

pub use batch_peer::{BatchPeer, BatchReceiver, BatchSender};
pub use buffers::{BufReport, Direction, datagrams_held};
pub use config::{DEFAULT_BC, DEFAULT_COALESCING_BC, DEFAULT_GATHER, Ha, PeerConfig};
pub use deeds::DoerId;
pub use doer::{Cue, Deed, Doer, Doified, Opts, doify};
pub use doist::{DoDoer, Doist};
pub use gram::{
    BUF_SIZE, Gram, MAX_DATAGRAM_SIZE, MAX_GRAM_SIZE, MAX_PACKET_SIZE, MAX_PAYLOAD_V4, MAX_SAFE_PAYLOAD, Meta,
};
pub use grams::Grams;
pub use multicast::Interface;
pub use peer::Peer;
pub use peer_doer::PeerDoer;
#[doc(hidden)]
pub use pipeline::Handoff;
pub use pipeline::{Batch, BoundPipeline, Monitor, Pipeline, PipelineBuilder, PipelineStats, ShardStats, Spread};
pub use pool::RingPool;
pub use ring::{Full, RecvRing, SendRing};
pub use send::{SendReport, Stopped};
pub use stats::{ErrnoCounts, Stats};
pub use transport::{OpenPeer, Transport, open_peer, with_peer};
pub use wire::{OpenWireLog, WireFormat, WireLog, WireLogConfig, WireLogDoer, open_wire_log};
