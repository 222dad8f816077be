//! Coalesced slots: every length and segment size splits exactly as the naive chunks do.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (segment_len, data) = (usize::from(input.0), input.1);
    // Nothing coalesced, or an empty datagram: one piece, whatever its length.
    let naive: Vec<&[u8]> =
        if segment_len == 0 || data.is_empty() { vec![data] } else { data.chunks(segment_len).collect() };
    assert!(hio_udp::fuzzing::split(data, segment_len).eq(naive.iter().copied()));
    assert_eq!(hio_udp::fuzzing::count(data.len(), segment_len), naive.len());
});
