//! nix's `recvmmsg` and `sendmmsg`, with headers made once, 64 a call.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use hio_udp_benches::traffic;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

const SLOTS: usize = 64;
const SLOT_BYTES: usize = hio_udp::MAX_GRAM_SIZE.next_multiple_of(64);

pub struct Receiver {
    socket: UdpSocket,
    bytes: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Receiver {
    pub fn new(socket: UdpSocket) -> Self {
        Self { socket, bytes: vec![0xA5; SLOTS * SLOT_BYTES], headers: MultiHeaders::preallocate(SLOTS, None) }
    }

    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes all there is: bytes and source of each datagram.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8], u64)) {
        loop {
            let mut slots = self.bytes.chunks_exact_mut(SLOT_BYTES);
            // They are borrowed for as long as the headers are, so each call needs new ones.
            let mut slices: [[IoSliceMut<'_>; 1]; SLOTS] =
                array::from_fn(|_| [IoSliceMut::new(slots.next().expect("one per header"))]);
            let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let Ok(received) = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) else { return };
            for message in received {
                let source = message.address.expect("IPv4 has addresses");
                let data = message.iovs().next().unwrap_or_default();
                each(data, traffic::ipv4(source.ip().to_bits(), source.port()));
            }
        }
    }
}

pub struct Sender {
    socket: UdpSocket,
    headers: MultiHeaders<SockaddrIn>,
}

// SAFETY: the headers' pointers lead only into memory on the heap that the headers own.
#[allow(unsafe_code)]
unsafe impl Send for Sender {}

impl Sender {
    pub fn new(socket: UdpSocket) -> Self {
        Self { socket, headers: MultiHeaders::preallocate(SLOTS, None) }
    }

    /// Sends one datagram to each destination; gives how many the kernel took.
    pub fn send(&mut self, payload: &[u8], to: &[SocketAddr]) -> usize {
        let mut sent = 0;
        for to in to.chunks(SLOTS) {
            let slices = [[IoSlice::new(payload)]; SLOTS];
            let names: Vec<Option<SockaddrIn>> = to.iter().map(|to| Some(v4(*to).into())).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let taken = sendmmsg(self.socket.as_raw_fd(), &mut self.headers, &slices[..to.len()], &names, [], flags);
            sent += taken.map_or(0, Iterator::count);
        }
        sent
    }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(v4) => v4,
        SocketAddr::V6(_) => panic!("the benchmarks send over IPv4"),
    }
}
