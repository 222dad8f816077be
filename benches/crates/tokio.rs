//! tokio's `recv_from` and `send_to`, awaited one by one on a runtime of the calling thread.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hio_udp_benches::traffic;
use tokio::runtime::{Builder, Runtime};

fn on_this_thread(socket: UdpSocket) -> (Runtime, tokio::net::UdpSocket) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("descriptors are free");
    let _guard = runtime.enter();
    let socket = tokio::net::UdpSocket::from_std(socket).expect("the socket is non-blocking");
    (runtime, socket)
}

pub struct Receiver {
    runtime: Runtime,
    socket: tokio::net::UdpSocket,
    buffer: Vec<u8>,
}

impl Receiver {
    pub fn new(socket: UdpSocket) -> Self {
        let (runtime, socket) = on_this_thread(socket);
        Self { runtime, socket, buffer: vec![0xA5; 65_536] }
    }

    pub fn at(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is bound")
    }

    /// Takes `count` datagrams, or fewer if they are not there within seconds.
    pub fn take(&mut self, count: u64, mut each: impl FnMut(&[u8], u64)) {
        self.runtime.block_on(async {
            let all = async {
                for _ in 0..count {
                    let (len, src) = self.socket.recv_from(&mut self.buffer).await.expect("the socket works");
                    each(&self.buffer[..len], traffic::address(src));
                }
            };
            _ = tokio::time::timeout(Duration::from_secs(5), all).await;
        });
    }

    /// Takes what comes in this time.
    pub fn take_for(&mut self, time: Duration, mut each: impl FnMut(&[u8], u64)) {
        self.runtime.block_on(async {
            let all = async {
                loop {
                    let (len, src) = self.socket.recv_from(&mut self.buffer).await.expect("the socket works");
                    each(&self.buffer[..len], traffic::address(src));
                }
            };
            _ = tokio::time::timeout(time, all).await;
        });
    }
}

pub struct Sender {
    runtime: Runtime,
    socket: tokio::net::UdpSocket,
}

impl Sender {
    pub fn new(socket: UdpSocket) -> Self {
        let (runtime, socket) = on_this_thread(socket);
        Self { runtime, socket }
    }

    /// Sends one datagram to each destination; gives how many the kernel took.
    pub fn send(&self, payload: &[u8], to: &[SocketAddr]) -> usize {
        self.runtime.block_on(async {
            let mut sent = 0;
            for to in to {
                sent += usize::from(self.socket.send_to(payload, to).await.is_ok());
            }
            sent
        })
    }
}
