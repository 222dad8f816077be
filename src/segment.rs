//! Pure arithmetic of datagrams that travel together: several of one size, laid end to end.
//!
//! With UDP_GRO the kernel may hand over many datagrams of one flow as one buffer and their size
//! beside it. All have that size except the last, which may be shorter (udp(7), UDP_GRO). With
//! UDP_SEGMENT it takes such a buffer and cuts it itself (udp(7), UDP_SEGMENT).

/// Most datagrams that leave as one message: UDP_MAX_SEGMENTS (include/linux/udp.h), which is 64 in
/// older kernels and 128 in newer ones. 128 would take 4% off datagrams of 64 bytes, and nothing off those of
/// 1,240 (Linux 6.18, loopback).
const SEGMENTS_MAX: usize = 64;

/// Most bytes of a segmented message: the longest UDP payload over IPv4. IPv6 would take 20 more.
const MESSAGE_BYTES_MAX: usize = 65_507;

/// Most batches in a row in which nothing is joined, after many refusals.
const PAUSE_BATCHES_MAX: u32 = 1024;

/// Says of each datagram of a batch whether its length lets it leave in one message with those right
/// before it.
///
/// A message has datagrams of one length but for the last, which may be shorter. None is empty: the
/// kernel cuts by length, so it could not be found again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joiner {
    /// Most bytes of a message of several; 0 lets nothing join.
    message_bytes_max: usize,
    /// Length of the last message's datagrams.
    segment_len: usize,
    /// Longest datagram that may join it: 0 when none may.
    room: usize,
}

impl Joiner {
    /// For a new batch, in which nothing joins if it is not `is_on`.
    #[inline(always)]
    pub(crate) fn new(is_on: bool) -> Self {
        Self { message_bytes_max: if is_on { MESSAGE_BYTES_MAX } else { 0 }, segment_len: 0, room: 0 }
    }

    /// Whether a datagram of this length may join the last message.
    #[inline(always)]
    pub(crate) fn takes(&self, len: usize) -> bool {
        len.wrapping_sub(1) < self.room // an empty one wraps round to more than there is ever room for
    }

    /// A datagram of this length is the last message's number `count`, from 1 on.
    #[inline(always)]
    pub(crate) fn on_pushed(&mut self, len: usize, count: usize) {
        if count == 1 {
            self.segment_len = len;
            let is_small = len <= self.message_bytes_max / 2;
            self.room = if is_small { len } else { self.message_bytes_max.saturating_sub(len) };
        } else {
            let is_last = len < self.segment_len || count == SEGMENTS_MAX;
            let bytes_left = self.message_bytes_max.saturating_sub(count * self.segment_len);
            self.room = if is_last { 0 } else { self.segment_len.min(bytes_left) };
        }
    }
}

/// How long nothing is joined after the system refused a segmented message: the n-th refusal of a socket
/// stops it for 2^(n-1) batches, at most 1,024.
///
/// One refusal may be of the moment (a route that is missing, an address that rotates), so segmentation is
/// never given up; where it can never work, one call in 1,025 is lost to it in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// Length in batches of the last pause.
    pause: u32,
    /// Batches still to come in it.
    left: u32,
}

impl Backoff {
    /// Whether datagrams of the next batch may be joined.
    #[inline]
    pub(crate) fn may_join(self) -> bool {
        self.left == 0
    }

    /// A batch goes out.
    #[inline]
    pub(crate) fn on_batch(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Starts a pause, twice as long as the one before.
    pub(crate) fn on_refusal(&mut self) {
        self.pause = (2 * self.pause).clamp(1, PAUSE_BATCHES_MAX);
        self.left = self.pause;
    }
}

/// How many datagrams a slot with `len` bytes holds.
///
/// `segment_len` 0 means that nothing was coalesced: one datagram, whatever its length.
#[inline]
pub(crate) fn count(len: usize, segment_len: usize) -> usize {
    if segment_len == 0 || len <= segment_len { 1 } else { len.div_ceil(segment_len) }
}

/// The datagram that starts `offset` bytes into a slot, and where the next one starts.
///
/// `offset` must be 0 or a value this function returned; the result is `None` once all are out.
#[inline]
pub(crate) fn piece(data: &[u8], segment_len: usize, offset: usize) -> (&[u8], Option<usize>) {
    let rest = &data[offset..];
    if segment_len == 0 || rest.len() <= segment_len {
        return (rest, None);
    }
    (&rest[..segment_len], Some(offset + segment_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(data: &[u8], segment_len: usize) -> Vec<&[u8]> {
        let (mut pieces, mut offset) = (Vec::new(), Some(0));
        while let Some(at) = offset {
            let (one, next) = piece(data, segment_len, at);
            pieces.push(one);
            offset = next;
        }
        pieces
    }

    #[test]
    fn t12_all_lengths_split_as_the_naive_chunks_do() {
        let data: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in 0..=data.len() {
            for segment_len in [0, 1, 2, 3, 99, 100, 101, 350, 699, 700, 701, 65_535] {
                let data = &data[..len];
                let naive: Vec<&[u8]> =
                    if segment_len == 0 || len == 0 { vec![data] } else { data.chunks(segment_len).collect() };
                assert_eq!(split(data, segment_len), naive, "{len} by {segment_len}");
                assert_eq!(count(len, segment_len), naive.len(), "{len} by {segment_len}");
            }
        }
    }

    /// Cuts a batch to one destination into messages: how many datagrams each has.
    fn messages(lens: &[usize]) -> Vec<usize> {
        let (mut joiner, mut messages) = (Joiner::new(true), Vec::new());
        for len in lens {
            if joiner.takes(*len) {
                *messages.last_mut().expect("the first joins nothing") += 1;
            } else {
                messages.push(1);
            }
            joiner.on_pushed(*len, messages[messages.len() - 1]);
        }
        messages
    }

    /// Whether the kernel takes these as one message, which then falls into the same lengths again.
    fn is_message(lens: &[usize]) -> bool {
        let total: usize = lens.iter().sum();
        let bytes = vec![0_u8; total];
        let is_cut_so = || bytes.chunks(lens[0]).map(<[u8]>::len).eq(lens.iter().copied());
        let is_small = lens.len() <= SEGMENTS_MAX && total <= MESSAGE_BYTES_MAX;
        lens.len() == 1 || (lens[0] > 0 && is_small && is_cut_so())
    }

    /// The naive model: from each start on, as many as are a message.
    fn naive_messages(lens: &[usize]) -> Vec<usize> {
        let (mut messages, mut start) = (Vec::new(), 0);
        while start < lens.len() {
            let count = (1..=lens.len() - start).take_while(|n| is_message(&lens[start..start + n])).count();
            messages.push(count);
            start += count;
        }
        messages
    }

    #[test]
    fn every_short_batch_is_joined_as_the_naive_model_joins_it() {
        const LENS: [usize; 6] = [0, 1, 2, 5, 32_754, 65_507];
        for count in 0..=6 {
            for number in 0..LENS.len().pow(count) {
                let lens: Vec<_> = (0..count).map(|place| LENS[number / LENS.len().pow(place) % LENS.len()]).collect();
                assert_eq!(messages(&lens), naive_messages(&lens), "{lens:?}");
            }
        }
    }

    #[test]
    fn t13_no_message_is_over_a_limit() {
        for len in (1..=1100).chain([21_835, 21_836, 32_753, 32_754, 65_506, 65_507, 65_508, 65_527, 65_536, 131_072]) {
            for last in [1, len / 2, len - 1, len] {
                let mut lens = vec![len; 129];
                lens.push(last);
                assert_eq!(messages(&lens), naive_messages(&lens), "{len}, then {last}");
            }
        }
        assert_eq!(messages(&[64; 130]), [64, 64, 2]);
        assert_eq!(messages(&[32_753, 32_753, 1]), [3]);
        assert_eq!(messages(&[32_753, 32_753, 2]), [2, 1]);
    }

    #[test]
    fn what_is_off_is_joined_by_nothing() {
        let mut joiner = Joiner::new(false);
        for len in [0, 1, 5, 5, 65_507, 100_000] {
            joiner.on_pushed(len, 1);
            assert!([0, 1, 5, 65_507, 100_000, usize::MAX].iter().all(|len| !joiner.takes(*len)));
        }
    }

    #[test]
    fn pauses_double_and_have_an_end() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..13 {
            assert!(backoff.may_join());
            backoff.on_batch();
            backoff.on_refusal();
            let mut pause = 0;
            while !backoff.may_join() {
                backoff.on_batch();
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
    }
}
