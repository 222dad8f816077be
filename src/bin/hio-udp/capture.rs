//! Captures: received datagrams as a pcapng file that Wireshark and tcpdump read.
//!
//! The receiving thread lays blocks end to end in a chunk of memory; a thread of its own writes full
//! chunks to the file, so that a slow disk does not keep the socket waiting. A fixed number of
//! chunks goes round between the two, and each holds whole blocks only: a file that ends at a
//! chunk's end is a good file.
//!
//! ```text
//!   receiver: grams → chunk ──full──▶ disk thread: write
//!                 ▲───────────free────────┘
//! ```
//!
//! The blocks are the library's, `hio_udp::pcapng`.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_queue::ArrayQueue;
use hio_udp::Gram;
use hio_udp::pcapng::{self, Packet, Statistics};

use crate::stop::Stop;

/// A chunk goes to the disk when it holds this much.
const CHUNK_BYTES: usize = 1 << 20;
/// The longest block: a 65,535-byte datagram with its headers, block fields and options.
const BLOCK_BYTES_MAX: usize = 70_000;
/// One in the receiver's hand, one in the disk thread's, the rest waiting: 16 MiB of patience.
const CHUNKS: usize = 16;
/// What is in a chunk goes to the disk after this long even if the chunk is not full.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Blocks ready for the disk.
struct Chunk {
    bytes: Vec<u8>,
    packets: u64,
}

/// Turns grams into pcapng blocks in memory.
struct Encoder {
    blocks: Vec<u8>,
    /// Packets in `blocks` now.
    packets: u64,
    packets_total: u64,
    local: SocketAddr,
    /// The kernel's drop counter, as the newest gram carried it.
    drops_seen: u32,
}

impl Encoder {
    fn new(local: SocketAddr) -> Self {
        let mut blocks = new_chunk();
        pcapng::put_section(&mut blocks, concat!("hio-udp ", env!("CARGO_PKG_VERSION")));
        pcapng::put_interface(&mut blocks, &format!("udp {local}"));
        Self { blocks, packets: 0, packets_total: 0, local, drops_seen: 0 }
    }

    fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Adds one gram, with the number of datagrams lost before it.
    fn add(&mut self, gram: &Gram<'_>) {
        let meta = gram.meta();
        let dst = SocketAddr::new(meta.dst.unwrap_or(self.local.ip()), self.local.port());
        let time = meta.rx_time.map_or_else(SystemTime::now, |since| SystemTime::UNIX_EPOCH + since);
        let mut packet = Packet::new(gram.data, gram.src, dst, time);
        packet.original_len = gram.original_len;
        if let Some(drops) = meta.kernel_drops {
            let new = drops.wrapping_sub(self.drops_seen);
            // The counter wraps; a difference that would be negative is an older reading.
            if new <= i32::MAX as u32 {
                packet.dropped = new.into();
                self.drops_seen = drops;
            }
        }
        packet.put(&mut self.blocks);
        self.packets += 1;
        self.packets_total += 1;
    }

    /// Adds what was received, dropped by the kernel and delivered since the start.
    fn add_statistics(&mut self, kernel_dropped: u64) {
        let statistics = Statistics {
            time: SystemTime::now(),
            received: self.packets_total + kernel_dropped,
            dropped: kernel_dropped,
            delivered: self.packets_total,
        };
        statistics.put(&mut self.blocks);
    }

    /// Takes what was encoded so far; encoding goes on in `next`.
    fn take(&mut self, next: Vec<u8>) -> Chunk {
        let bytes = std::mem::replace(&mut self.blocks, next);
        Chunk { bytes, packets: std::mem::take(&mut self.packets) }
    }
}

fn new_chunk() -> Vec<u8> {
    Vec::with_capacity(CHUNK_BYTES + BLOCK_BYTES_MAX)
}

/// What the disk thread and the receiver share.
struct Shared {
    full: ArrayQueue<Chunk>,
    free: ArrayQueue<Vec<u8>>,
    /// No more chunks will come.
    closing: AtomicBool,
    /// Writing has failed; what else comes is not written.
    failed: AtomicBool,
    packets_on_disk: AtomicU64,
    bytes_on_disk: AtomicU64,
    writes: AtomicU64,
}

/// A capture being written.
pub struct Capture {
    encoder: Encoder,
    shared: Arc<Shared>,
    disk: Thread,
    disk_thread: JoinHandle<io::Result<()>>,
    path: PathBuf,
    last_flush: Instant,
    /// Kernel drops as the newest statistics block tells them.
    dropped_in_file: u64,
    /// Until it is asked for, the disk may take all the time it needs.
    stop: Stop,
    /// From then on: how long it may take for one write.
    patience: Duration,
    /// No more datagrams will come.
    ending: bool,
    /// The disk took longer; what else comes is not written.
    gave_up: bool,
}

/// How a capture ended.
pub struct Finished {
    pub packets_on_disk: u64,
    pub writes: u64,
    /// What went wrong, if anything did; what is on the disk is whole all the same.
    pub error: Option<io::Error>,
}

impl Capture {
    /// Creates the file, or empties the one that is there, and starts the disk thread.
    ///
    /// `local` is the address the datagrams came to, where they do not say so themselves. Once `stop`
    /// is asked for, a disk that ends no write for `patience` is given up.
    pub fn create(path: &Path, local: SocketAddr, stop: Stop, patience: Duration) -> io::Result<Self> {
        let file = File::create(path)?;
        let shared = Arc::new(Shared {
            full: ArrayQueue::new(CHUNKS),
            free: ArrayQueue::new(CHUNKS),
            closing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            packets_on_disk: AtomicU64::new(0),
            bytes_on_disk: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        for _ in 1..CHUNKS {
            let _ = shared.free.push(new_chunk()); // the encoder has the one missing here
        }
        let disk_thread = thread::Builder::new().name("disk".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || run_disk(&shared, file)
        })?;
        Ok(Self {
            encoder: Encoder::new(local),
            disk: disk_thread.thread().clone(),
            disk_thread,
            shared,
            path: path.to_owned(),
            last_flush: Instant::now(),
            dropped_in_file: 0,
            stop,
            patience,
            ending: false,
            gave_up: false,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one gram. Waits for the disk if every chunk is on its way to it; the socket's buffer
    /// takes what arrives meanwhile.
    pub fn add(&mut self, gram: &Gram<'_>) {
        if self.gave_up {
            return;
        }
        self.encoder.add(gram);
        if self.encoder.len() >= CHUNK_BYTES {
            self.hand_over();
        }
    }

    /// To be called now and then: hands over what has waited long enough, with the drops so far.
    pub fn tick(&mut self, kernel_dropped: u64) {
        if kernel_dropped > self.dropped_in_file {
            self.dropped_in_file = kernel_dropped;
            self.encoder.add_statistics(kernel_dropped);
        }
        if self.encoder.len() > 0 && self.last_flush.elapsed() >= FLUSH_EVERY {
            self.hand_over();
        }
    }

    /// Whether the disk thread has met an error, or was given up.
    pub fn failed(&self) -> bool {
        self.gave_up || self.shared.failed.load(Ordering::Relaxed)
    }

    /// Bytes handed to the kernel for the file.
    pub fn bytes_on_disk(&self) -> u64 {
        self.shared.bytes_on_disk.load(Ordering::Relaxed)
    }

    fn hand_over(&mut self) {
        let Some(next) = self.wait_for_disk(|capture| capture.shared.free.pop()) else {
            self.gave_up = true;
            return;
        };
        // The queue has room for every chunk there is.
        let _ = self.shared.full.push(self.encoder.take(next));
        self.disk.unpark();
        self.last_flush = Instant::now();
    }

    /// Waits until `ready` gives something; `None` if the disk thread is no more, or is stuck while
    /// all is to end.
    fn wait_for_disk<T>(&self, ready: impl Fn(&Self) -> Option<T>) -> Option<T> {
        let (mut writes, mut since) = (None, Instant::now());
        loop {
            // Asked first: what it did before it ended is then surely found.
            let is_gone = self.disk_thread.is_finished();
            let found = ready(self);
            if found.is_some() || is_gone {
                return found;
            }
            let now_writes = Some(self.shared.writes.load(Ordering::Relaxed));
            if writes != now_writes || !(self.ending || self.stop.asked()) {
                (writes, since) = (now_writes, Instant::now());
            } else if since.elapsed() >= self.patience {
                return None;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Writes the final statistics and everything that is left, and closes the file.
    pub fn finish(mut self, kernel_dropped: u64) -> Finished {
        self.ending = true;
        if !self.gave_up {
            self.encoder.add_statistics(kernel_dropped);
            self.hand_over();
        }
        // Release pairs with the disk thread's Acquire: it sees the last chunk before the flag.
        self.shared.closing.store(true, Ordering::Release);
        self.disk.unpark();
        // Given up before, it is not waited for again; its thread ends with the program.
        let is_done = |capture: &Self| capture.disk_thread.is_finished().then_some(());
        self.gave_up = self.gave_up || self.wait_for_disk(is_done).is_none();
        let written = if self.disk_thread.is_finished() {
            self.disk_thread.join().unwrap_or_else(|_| Err(io::Error::other("the disk thread panicked")))
        } else {
            Ok(())
        };
        let in_time = if self.gave_up {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no write has ended in {:?}", self.patience)))
        } else {
            Ok(())
        };
        Finished {
            packets_on_disk: self.shared.packets_on_disk.load(Ordering::Relaxed),
            writes: self.shared.writes.load(Ordering::Relaxed),
            error: written.and(in_time).err(),
        }
    }
}

/// The disk thread: writes chunks in order until there will be no more.
fn run_disk(shared: &Shared, mut file: File) -> io::Result<()> {
    let mut result = Ok(());
    loop {
        // Asked before the queue: what was pushed before the flag was raised is then surely found.
        let is_last_look = shared.closing.load(Ordering::Acquire);
        while let Some(mut chunk) = shared.full.pop() {
            if result.is_ok() {
                result = write_chunk(shared, &mut file, &chunk);
                shared.failed.store(result.is_err(), Ordering::Relaxed);
            }
            chunk.bytes.clear();
            let _ = shared.free.push(chunk.bytes);
        }
        if is_last_look {
            return result;
        }
        thread::park();
    }
}

/// Writes one chunk; on failure the file keeps every block that is whole.
fn write_chunk(shared: &Shared, file: &mut File, chunk: &Chunk) -> io::Result<()> {
    let mut done = 0;
    while done < chunk.bytes.len() {
        shared.writes.fetch_add(1, Ordering::Relaxed);
        match file.write(&chunk.bytes[done..]) {
            Ok(0) => return keep_whole_blocks(shared, file, chunk, done, io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return keep_whole_blocks(shared, file, chunk, done, error),
        }
    }
    shared.bytes_on_disk.fetch_add(done as u64, Ordering::Relaxed);
    shared.packets_on_disk.fetch_add(chunk.packets, Ordering::Relaxed);
    Ok(())
}

/// After a failed write: cuts the file behind the last whole block of those that went out.
fn keep_whole_blocks(shared: &Shared, file: &File, chunk: &Chunk, done: usize, error: io::Error) -> io::Result<()> {
    let (whole, packets) = whole_blocks(&chunk.bytes, done);
    let length = shared.bytes_on_disk.fetch_add(whole as u64, Ordering::Relaxed) + whole as u64;
    shared.packets_on_disk.fetch_add(packets, Ordering::Relaxed);
    // A pipe or a device cannot be cut; the first error is the one to tell.
    let _ = file.set_len(length);
    Err(error)
}

/// How many of the first `limit` bytes are whole blocks, and how many packets these hold.
fn whole_blocks(blocks: &[u8], limit: usize) -> (usize, u64) {
    const ENHANCED_PACKET: u32 = 6;
    let (mut end, mut packets) = (0, 0);
    let word = |at: usize| blocks.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    while let (Some(kind), Some(len)) = (word(end), word(end + 4)) {
        let next = end + len as usize;
        if len == 0 || next > limit {
            break;
        }
        packets += u64::from(kind == ENHANCED_PACKET);
        end = next;
    }
    (end, packets)
}
