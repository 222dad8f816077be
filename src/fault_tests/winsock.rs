//! What only Windows does: errors of earlier sends, and its own numbers of errors.

use super::*;

/// The errors of Winsock by the names that they have on Unix; behind them, of the system's own, such as have none.
pub(super) mod errno {
    pub const EINTR: i32 = 10_004;
    pub const EBADF: i32 = 10_009;
    pub const EACCES: i32 = 10_013;
    pub const EFAULT: i32 = 10_014;
    pub const EINVAL: i32 = 10_022;
    pub const EAGAIN: i32 = 10_035;
    pub const EWOULDBLOCK: i32 = EAGAIN;
    pub const ENOTSOCK: i32 = 10_038;
    pub const EMSGSIZE: i32 = 10_040;
    pub const EAFNOSUPPORT: i32 = 10_047;
    pub const ENETDOWN: i32 = 10_050;
    pub const ENETUNREACH: i32 = 10_051;
    pub const ENETRESET: i32 = 10_052;
    pub const ECONNRESET: i32 = 10_054;
    pub const ENOBUFS: i32 = 10_055;
    pub const ECONNREFUSED: i32 = 10_061;
    pub const EHOSTUNREACH: i32 = 10_065;
    /// ERROR_ACCESS_DENIED.
    pub const EPERM: i32 = 5;
    /// ERROR_NOT_ENOUGH_MEMORY.
    pub const ENOMEM: i32 = 8;
    /// ERROR_BROKEN_PIPE.
    pub const EPIPE: i32 = 109;
    /// ERROR_IO_DEVICE.
    pub const EIO: i32 = 1_117;
}

use errno::{ECONNRESET, ENETRESET};

#[test]
fn h094_what_an_earlier_send_has_met_is_no_error_of_a_receive() {
    for errno in [ECONNRESET, ENETRESET] {
        receive::interrupted_receive::<Peer>(errno);
        receive::interrupted_receive::<BatchPeer>(errno);
    }
}

#[test]
fn h094_what_an_earlier_send_has_met_is_no_error_of_the_next_send() {
    for errno in [ECONNRESET, ENETRESET] {
        let faults = Faults::new();
        let (mut from, mut peer): (BatchPeer, BatchPeer) = (open(), open());
        faults.errno(Call::Send, 2, errno);
        assert_eq!(from.send(b"one", peer.ha()).unwrap(), 3);
        faults.errno_at_gram(1, errno);
        assert_eq!(from.send_batch(to(&numbered(3), peer.ha())).sent, 3);
        let expected = Stats { send_calls: 3 + 4, grams_sent: 4, bytes_sent: 9, ..Stats::default() };
        assert_stats(&from, expected, &[]);
        for data in [&b"one"[..], b"#\0", b"#\x01", b"#\x02"] {
            assert_eq!(receive_one(&mut peer), data);
        }
    }
}

/// A receive into a buffer that is too short fails on Windows, after it has taken the datagram away.
#[test]
fn h083_a_datagram_longer_than_its_slot_is_cut_and_never_an_error() {
    const SENT: usize = 60_000;
    let (mut from, mut peer): (Peer, BatchPeer) = (open(), open());
    for _ in 0..3 {
        from.send(&[7; SENT], peer.ha()).unwrap();
        let grams = peer.fill_wait(PATIENCE).unwrap().map(|gram| (gram.data.to_vec(), gram.original_len));
        assert_eq!(grams.collect::<Vec<_>>(), [(vec![7; 64], SENT)]);
    }
    let stats = peer.stats();
    assert_eq!((stats.grams_received, stats.grams_truncated, stats.recv_failed), (3, 3, 0));
}
