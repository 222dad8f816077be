//! quinn-udp with its defaults: coalescing, ECN and destination address on; 32 buffers, each for a
//! whole coalesced run, as quinn itself uses it.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};

use hio_udp_benches::traffic;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};

pub struct Receiver {
    socket: UdpSocket,
    state: UdpSocketState,
    slot_bytes: usize,
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Receiver {
    pub fn new(socket: UdpSocket) -> Self {
        let state = UdpSocketState::new((&socket).into()).expect("quinn-udp takes any UDP socket");
        let slot_bytes = 1500 * state.gro_segments();
        let bytes = vec![0xA5; BATCH_SIZE * slot_bytes];
        Self { socket, state, slot_bytes, bytes, metas: [RecvMeta::default(); BATCH_SIZE] }
    }

    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes all there is: bytes and source of each datagram.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8], u64)) {
        let mut slices: Vec<IoSliceMut<'_>> =
            self.bytes.chunks_exact_mut(self.slot_bytes).map(IoSliceMut::new).collect();
        while let Ok(filled) = self.state.recv((&self.socket).into(), &mut slices, &mut self.metas) {
            for (meta, slice) in self.metas[..filled].iter().zip(&slices) {
                let source = traffic::address(meta.addr);
                slice[..meta.len].chunks(meta.stride).for_each(|data| each(data, source));
            }
        }
    }
}

pub struct Sender {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Sender {
    pub fn new(socket: UdpSocket) -> Self {
        let state = UdpSocketState::new((&socket).into()).expect("quinn-udp takes any UDP socket");
        Self { socket, state }
    }

    /// Most datagrams of one size that go in one call.
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends `contents`, cut into datagrams of `segment_size` bytes if that is given.
    pub fn send(&self, contents: &[u8], destination: SocketAddr, segment_size: Option<usize>) -> bool {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send((&self.socket).into(), &transmit).is_ok()
    }
}
