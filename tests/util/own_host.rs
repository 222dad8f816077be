//! Loopback hosts that nobody else uses.

/// A loopback host of this call alone.
///
/// On a host that others use too, any of them may be given the port of a peer that has just closed,
/// and the peer cannot come back. Only Linux has all of 127.0.0.0/8; elsewhere it is 127.0.0.1.
#[cfg(target_os = "linux")]
pub fn own_host() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 127.0.… and 127.255.… are left to others; a process comes round after 250 hosts.
    format!("127.{}.{}.{}", 1 + high % 254, low, 1 + n % 250)
}

#[cfg(not(target_os = "linux"))]
pub fn own_host() -> String {
    "127.0.0.1".to_owned()
}
