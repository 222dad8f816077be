//! Pure arithmetic of coalesced slots: several datagrams of one size, laid end to end by the kernel.
//!
//! With UDP_GRO the kernel may hand over many datagrams of one flow as one buffer and their size
//! beside it. All have that size except the last, which may be shorter (udp(7), UDP_GRO).

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
}
