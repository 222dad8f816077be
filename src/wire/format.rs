//! What an entry of a wire log looks like: hio's printf-style text, parsed once, or a pcapng packet.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::SystemTime;

use crate::pcapng::{Flow, Packet};

/// hio's default.
const DEFAULT: &[u8] = b"\n%(dx)b %(who)b:\n%(data)b\n";

/// What stands in an entry's text.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Literal(Vec<u8>),
    /// `Rx` or `Tx`.
    Dx,
    /// The other side's address.
    Who,
    Data,
}

/// How a [`WireLog`](crate::WireLog) writes an entry.
///
/// Text is given as to hio's `fmt`: printf-style, over three keys. By default it is
/// `"\n%(dx)b %(who)b:\n%(data)b\n"`.
///
/// | in the text | becomes |
/// |---|---|
/// | `%(dx)b` | `Rx` or `Tx` |
/// | `%(who)b` | the source or destination, as Python writes it: `('127.0.0.1', 6102)` |
/// | `%(data)b` | the datagram's bytes as they are |
/// | `%%` | one `%` |
///
/// `%(…)s` is the same as `%(…)b`. Anything else behind a `%` is refused here, where hio fails when the
/// first entry is written (H134).
///
/// ```
/// use hio_udp::{WireFormat, WireLog, WireLogConfig};
///
/// let log = WireLog::new(WireLogConfig::new().fmt(WireFormat::parse("%(dx)b 100%% %(data)b;")?).reopen(true))?;
/// log.write_rx(b"abc", "127.0.0.1:6102".parse().unwrap())?;
/// assert_eq!(log.read_rx()?.unwrap(), b"Rx 100% abc;");
/// assert!(WireFormat::parse("%(payload)b").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WireFormat {
    /// `None` for pcapng.
    parts: Option<Vec<Part>>,
}

impl WireFormat {
    /// Reads a text in which `%(dx)b`, `%(who)b` and `%(data)b` stand for the parts of an entry.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an unknown key or conversion, with its place.
    pub fn parse(text: impl AsRef<[u8]>) -> io::Result<Self> {
        let text = text.as_ref();
        let (mut parts, mut literal, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some(&byte) = text.get(at) {
            if byte != b'%' {
                literal.push(byte);
                at += 1;
                continue;
            }
            let (part, len) = placeholder(&text[at..]).ok_or_else(|| unknown(text, at))?;
            match part {
                Part::Literal(bytes) => literal.extend(bytes),
                part => {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                    parts.push(part);
                }
            }
            at += len;
        }
        parts.push(Part::Literal(literal));
        parts.retain(|part| !matches!(part, Part::Literal(bytes) if bytes.is_empty()));
        Ok(Self { parts: Some(parts) })
    }

    /// Entries are packets of a pcapng capture, for Wireshark and tcpdump, with their direction
    /// (epb_flags), and with IP and UDP headers made from their addresses.
    ///
    /// The log, or each of its two files, is then a whole capture. Of a peer on a wildcard address
    /// the local address is that wildcard, unless the datagram says where it was sent to
    /// ([`PeerConfig::dst_addr`](crate::PeerConfig::dst_addr)); the time is the kernel's with
    /// [`PeerConfig::rx_time`](crate::PeerConfig::rx_time), else that of the entry.
    pub fn pcapng() -> Self {
        Self { parts: None }
    }

    /// Whether entries are packets of a capture, not text.
    pub fn is_pcapng(&self) -> bool {
        self.parts.is_none()
    }
}

impl Default for WireFormat {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the default is well-formed")
    }
}

impl FromStr for WireFormat {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        Self::parse(text)
    }
}

/// Reads what starts with the `%` at the front; gives its length too.
fn placeholder(text: &[u8]) -> Option<(Part, usize)> {
    const KEYS: [(&[u8], Part); 3] = [(b"dx", Part::Dx), (b"who", Part::Who), (b"data", Part::Data)];
    if text.starts_with(b"%%") {
        return Some((Part::Literal(b"%".to_vec()), 2));
    }
    let rest = text.strip_prefix(b"%(")?;
    let end = rest.iter().position(|byte| *byte == b')')?;
    let (_, part) = KEYS.into_iter().find(|(key, _)| *key == &rest[..end])?;
    // As bytes, b and s are the same to Python.
    matches!(rest.get(end + 1), Some(b'b' | b's')).then_some((part, end + 4))
}

#[cold]
fn unknown(text: &[u8], at: usize) -> io::Error {
    let text = String::from_utf8_lossy(text);
    let message = format!(
        "wire log format {text:?}: what stands behind the % at byte {at} is not known; there are %(dx)b, %(who)b, \
         %(data)b and %%"
    );
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// One datagram as it is logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub flow: Flow,
    pub data: &'a [u8],
    pub original_len: usize,
    /// The other side.
    pub who: SocketAddr,
    pub local: SocketAddr,
    /// When the kernel received it, if that is known.
    pub time: Option<SystemTime>,
}

impl Entry<'_> {
    /// Appends the entry as `fmt` has it.
    pub(super) fn put(&self, fmt: &WireFormat, out: &mut Vec<u8>) {
        let Some(parts) = &fmt.parts else { return self.put_packet(out) };
        for part in parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Dx if self.flow == Flow::Inbound => out.extend_from_slice(b"Rx"),
                Part::Dx => out.extend_from_slice(b"Tx"),
                Part::Who => out.extend_from_slice(python_text(self.who).as_bytes()),
                Part::Data => out.extend_from_slice(self.data),
            }
        }
    }

    fn put_packet(&self, out: &mut Vec<u8>) {
        let (src, dst) = match self.flow {
            Flow::Inbound => (self.who, self.local),
            Flow::Outbound => (self.local, self.who),
        };
        let mut packet = Packet::new(self.data, src, dst, self.time.unwrap_or_else(SystemTime::now));
        packet.original_len = self.original_len;
        packet.flow = Some(self.flow);
        packet.put(out);
    }
}

/// An address as Python's sockets have it and `str` writes it.
fn python_text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("('{}', {})", v4.ip(), v4.port()),
        // Python turns the flow label around, the standard library does not.
        SocketAddr::V6(v6) => {
            format!("('{}', {}, {}, {})", v6.ip(), v6.port(), u32::from_be(v6.flowinfo()), v6.scope_id())
        }
    }
}
