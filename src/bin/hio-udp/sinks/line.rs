//! A datagram as a line of JSON.
//!
//! ```text
//! {"time":"2026-11-25T00:26:00.123456789Z","src":"192.0.2.1:9000","dst":"192.0.2.2:2055","len":5,"text":"hello"}
//! {"time":…,"src":…,"dst":…,"dropped":3,"len":1000,"original_len":9001,"truncated":true,"base64":"/wD/…"}
//! ```
//!
//! The time is text because a number of nanoseconds does not fit what most readers of JSON take numbers
//! for, a double. A payload that is UTF-8 is `text`, any other is `base64` (RFC 4648, 4). `dropped` is
//! how many datagrams the kernel dropped before this one; `original_len` and `truncated` are only there
//! for one that was cut.

use std::io::Write;

use super::chunk::Datagram;
use crate::utc;

/// Appends a datagram's line.
pub(super) fn put_line(out: &mut Vec<u8>, datagram: &Datagram<'_>) {
    let Datagram { time_ns, src, dst, data, original_len, dropped } = *datagram;
    let ends_well = "memory takes everything";
    write!(out, r#"{{"time":"{}","src":"{src}","dst":"{dst}""#, utc::exact(time_ns.into())).expect(ends_well);
    if dropped > 0 {
        write!(out, r#","dropped":{dropped}"#).expect(ends_well);
    }
    write!(out, r#","len":{}"#, data.len()).expect(ends_well);
    if datagram.is_cut() {
        write!(out, r#","original_len":{original_len},"truncated":true"#).expect(ends_well);
    }
    match std::str::from_utf8(data) {
        Ok(text) => {
            out.extend_from_slice(br#","text":"#);
            serde_json::to_writer(&mut *out, text).expect("a string always serialises");
        }
        Err(_) => {
            out.extend_from_slice(br#","base64":""#);
            put_base64(out, data);
            out.push(b'"');
        }
    }
    out.extend_from_slice(b"}\n");
}

fn put_base64(out: &mut Vec<u8>, data: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for part in data.chunks(3) {
        let byte = |at: usize| u32::from(part.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
        let padded = |at: usize| if at <= part.len() { digit(at) } else { b'=' };
        out.extend_from_slice(&[digit(0), digit(1), padded(2), padded(3)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (data, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            let mut out = Vec::new();
            put_base64(&mut out, data.as_bytes());
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        put_base64(&mut out, &[0xFB, 0xFF, 0xFE]);
        assert_eq!(out, b"+//+");
    }

    #[test]
    fn a_line_is_one_object_with_text_or_base64() {
        let datagram = |data, original_len, dropped| Datagram {
            time_ns: 1_709_251_199_000_000_007,
            src: "192.0.2.1:9".parse().unwrap(),
            dst: "[2001:db8::1]:10".parse().unwrap(),
            data,
            original_len,
            dropped,
        };
        let mut out = Vec::new();
        put_line(&mut out, &datagram(b"say \"hi\"\n", 9, 0));
        put_line(&mut out, &datagram(&[0xFF, 0], 9001, 3));
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"time": "2024-02-29T23:59:59.000000007Z", "src": "192.0.2.1:9",
                "dst": "[2001:db8::1]:10", "len": 9, "text": "say \"hi\"\n"})
        );
        assert_eq!(
            lines[1],
            serde_json::json!({"time": "2024-02-29T23:59:59.000000007Z", "src": "192.0.2.1:9",
                "dst": "[2001:db8::1]:10", "dropped": 3, "len": 2, "original_len": 9001, "truncated": true,
                "base64": "/wA="})
        );
    }
}
