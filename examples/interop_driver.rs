//! One peer, worked by lines on standard input: the side of this crate in `tests/interop/interop.py`.
//!
//! `cargo run --example interop_driver` reads one command per line and answers each with one line:
//! `ok` and the result, or `err` and the errno, or the kind of an error without one. Data is in
//! hexadecimal, `-` if it is empty; addresses are written as `127.0.0.1:6102`. The commands are the
//! arms of [`answer`] and of [`on_peer`]; the script has the same ones for hio's Peer.

use std::fmt::Write as _;
use std::io::{self, BufRead, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hio_udp::{BatchPeer, Peer, PeerConfig, SendReport, Stopped, Transport, WireLog, WireLogConfig};

/// How long to look for a datagram that is on its way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What an answer ends with if a datagram did not come.
const IN_VAIN: &str = " waited in vain";

type Grams = Vec<(Vec<u8>, SocketAddr)>;

fn main() -> io::Result<()> {
    let mut subject = None;
    for line in io::stdin().lock().lines() {
        let mut stdout = io::stdout().lock();
        match answer(&mut subject, &line?) {
            Ok(result) => writeln!(stdout, "ok{result}")?,
            Err(error) => writeln!(stdout, "err {}", class(&error))?,
        }
    }
    Ok(())
}

/// The errno of an error, or its kind.
fn class(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| format!("{:?}", error.kind()), |errno| errno.to_string())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, format!("what is {what:?}?"))
}

enum AnyPeer {
    Single(Box<Peer>),
    Batch(Box<BatchPeer>),
}

struct Subject {
    peer: AnyPeer,
    log: Option<WireLog>,
}

/// Runs the expression with the peer, whichever it is.
macro_rules! with_peer {
    ($any:expr, $peer:ident => $result:expr) => {
        match $any {
            AnyPeer::Single($peer) => $result,
            AnyPeer::Batch($peer) => $result,
        }
    };
}

/// What the two peers do each in their own way.
trait Subjected: Transport {
    /// Sends grams; what became of each.
    fn send_all(&mut self, grams: &Grams, queued: bool) -> Vec<io::Result<usize>>;
    /// Takes the whole batch that is there; each datagram is given to `each`.
    fn take(&mut self, each: impl FnMut(&[u8], SocketAddr)) -> io::Result<()>;
    fn cut_at(&mut self, bytes: usize) -> io::Result<()>;
}

impl Subjected for Peer {
    fn send_all(&mut self, grams: &Grams, _: bool) -> Vec<io::Result<usize>> {
        grams.iter().map(|(data, dst)| self.send(data, *dst)).collect()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8], SocketAddr)) -> io::Result<()> {
        while let (data, Some(src)) = self.receive()? {
            each(data, src);
        }
        Ok(())
    }

    fn cut_at(&mut self, bytes: usize) -> io::Result<()> {
        self.set_bs(bytes);
        Ok(())
    }
}

impl Subjected for BatchPeer {
    fn send_all(&mut self, grams: &Grams, queued: bool) -> Vec<io::Result<usize>> {
        let mut results = Vec::new();
        let slices = || grams.iter().map(|(data, dst)| (&data[..], *dst));
        if queued {
            for (data, dst) in slices() {
                if self.queue(data, dst).is_err() {
                    return vec![Err(bad("a gram no slot takes"))];
                }
            }
        }
        while results.len() < grams.len() {
            let done = results.len();
            let report = if queued { self.flush() } else { self.send_batch(slices().skip(done)) };
            let SendReport { sent, stopped, first_error, .. } = report;
            results.extend(grams[done..done + sent].iter().map(|(data, _)| Ok(data.len())));
            results.extend(first_error.map(|(_, error)| Err(error)));
            if !matches!(stopped, Stopped::Done | Stopped::Failed) {
                break;
            }
        }
        results
    }

    fn take(&mut self, mut each: impl FnMut(&[u8], SocketAddr)) -> io::Result<()> {
        loop {
            let grams = self.fill()?;
            if grams.is_empty() {
                return Ok(());
            }
            grams.for_each(|gram| each(gram.data, gram.src));
        }
    }

    fn cut_at(&mut self, _: usize) -> io::Result<()> {
        Err(bad("bs of a BatchPeer"))
    }
}

fn answer(subject: &mut Option<Subject>, line: &str) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    if words[0] == "new" {
        *subject = None; // frees its port
        let (peer, log) = made(&words)?;
        let described = described(&peer);
        *subject = Some(Subject { peer, log });
        return Ok(described);
    }
    if words[0] == "try" {
        return Ok(described(&made(&words)?.0));
    }
    let Subject { peer, log } = subject.as_mut().ok_or_else(|| bad("a command before 'new'"))?;
    let log = || log.as_ref().ok_or_else(|| bad("the log of a peer without one"));
    match &words[..] {
        ["read_rx"] => Ok(logged(log()?.read_rx()?)),
        ["read_tx"] => Ok(logged(log()?.read_tx()?)),
        ["log_close"] => log()?.close().map(|()| String::new()),
        ["log_reopen"] => log()?.reopen().map(|()| String::new()),
        ["fields"] => Ok(described(peer)),
        ["options"] => Ok(with_peer!(peer, p => options(p.as_ref())?)),
        ["set_host", host] => with_peer!(peer, p => p.set_host(text(host))).map(|()| String::new()),
        ["set_port", port] => {
            with_peer!(peer, p => p.set_port(number(port)?));
            Ok(String::new())
        }
        ["set_bcast", bcast] => {
            with_peer!(peer, p => p.set_bcast(*bcast == "1"));
            Ok(String::new())
        }
        words => with_peer!(peer, p => on_peer(p.as_mut(), words)),
    }
}

fn on_peer<P: Subjected>(peer: &mut P, words: &[&str]) -> io::Result<String> {
    match words {
        ["open"] => peer.open().map(|()| String::new()),
        ["reopen"] => peer.reopen().map(|()| String::new()),
        ["close"] => Ok(format!(" {}", peer.close())),
        ["set_bs", bytes] => peer.cut_at(number(bytes)?).map(|()| String::new()),
        ["send", data, dst] => Ok(format!(" {}", peer.send(&unhex(data)?, address(dst)?)?)),
        [how @ ("batch" | "queue"), grams @ ..] => {
            let grams = grams.chunks(2).map(|gram| Ok((unhex(gram[0])?, address(gram[1])?)));
            let results = peer.send_all(&grams.collect::<io::Result<Grams>>()?, *how == "queue");
            let shown = results.iter().map(|result| match result {
                Ok(len) => format!(" {len}"),
                Err(error) => format!(" err:{}", class(error)),
            });
            Ok(shown.collect())
        }
        // So many datagrams as are on their way, one by one; of none, whatever one call gives.
        ["receive", count] => {
            let (mut shown, mut left) = (String::new(), number::<usize>(count)?.max(1));
            let deadline = Instant::now() + if *count == "0" { Duration::ZERO } else { PATIENCE };
            while left > 0 {
                if let (data, Some(src)) = peer.receive()? {
                    show(&mut shown, data, src);
                    left -= 1;
                } else if Instant::now() >= deadline {
                    shown.push_str(if *count == "0" { "" } else { IN_VAIN });
                    break;
                }
            }
            Ok(shown)
        }
        // All there is, at least so many as are on their way.
        ["take", count] => {
            let (mut shown, mut taken, count) = (String::new(), 0, number::<usize>(count)?);
            let deadline = Instant::now() + PATIENCE;
            loop {
                peer.take(|data, src| {
                    show(&mut shown, data, src);
                    taken += 1;
                })?;
                if taken < count && Instant::now() >= deadline {
                    return Ok(shown + IN_VAIN);
                }
                if taken >= count {
                    return Ok(shown);
                }
            }
        }
        _ => Err(bad(&words.join(" "))),
    }
}

/// `new|try KIND HOST PORT BC BS GRAM_SIZE BCAST REOPEN LOG`; `-` is what is not given, and the empty host.
fn made(words: &[&str]) -> io::Result<(AnyPeer, Option<WireLog>)> {
    let [_, kind, host, port, bc, bs, gram_size, bcast, reopen, log] = words else { return Err(bad("new")) };
    let mut config = PeerConfig::new().name("subject").host(text(host)).port(number(port)?);
    if *bc != "-" {
        config = config.bc(number(bc)?);
    }
    if *bs != "-" {
        config = config.bs(number(bs)?);
    }
    if *log != "-" {
        let log = WireLog::new(WireLogConfig::new().samed(*log == "samed").reopen(true))?;
        config = config.wl(log);
    }
    config = config.gram_size(number(gram_size)?).bcast(*bcast == "1").reopen(*reopen == "1");
    let log = |wl: Option<&WireLog>| wl.cloned();
    if *kind == "BatchPeer" {
        let peer = BatchPeer::new(config)?;
        let log = log(peer.wl());
        return Ok((AnyPeer::Batch(Box::new(peer)), log));
    }
    let peer = Peer::new(config)?;
    let log = log(peer.wl());
    Ok((AnyPeer::Single(Box::new(peer)), log))
}

/// name, host, port, bc, bs, bcast, opened, sizes of the send and the receive buffer.
fn described(peer: &AnyPeer) -> String {
    with_peer!(peer, p => {
        let bc = p.bc().map_or_else(|| "-".to_owned(), |bc| bc.to_string());
        let (send, receive) = p.actual_buf_sizes();
        format!(
            " {} {} {} {bc} {} {} {} {send} {receive}",
            p.name(), p.host(), p.port(), p.bs(), u8::from(p.bcast()), u8::from(p.opened()),
        )
    })
}

/// The options that hio sets, and some it leaves alone, as the kernel has them.
#[cfg(unix)]
fn options<T: std::os::fd::AsFd + Transport>(peer: &T) -> io::Result<String> {
    if !peer.opened() {
        return Err(ErrorKind::NotConnected.into());
    }
    let socket = socket2::SockRef::from(peer);
    let flags = [socket.broadcast()?, socket.reuse_address()?, socket.reuse_port()?, socket.nonblocking()?];
    let flags: String = flags.map(|flag| format!(" {}", u8::from(flag))).concat();
    Ok(format!("{flags} {}", socket.ttl_v4()?))
}

#[cfg(not(unix))]
fn options<T: Transport>(_: &T) -> io::Result<String> {
    Err(bad("options"))
}

fn logged(log: Option<Vec<u8>>) -> String {
    log.map_or_else(|| " none".to_owned(), |log| format!(" {}", hex(&log)))
}

fn show(shown: &mut String, data: &[u8], src: SocketAddr) {
    let _ = write!(shown, " {src} {}", hex(data));
}

fn text(word: &str) -> &str {
    if word == "-" { "" } else { word }
}

fn number<N: std::str::FromStr>(word: &str) -> io::Result<N> {
    word.parse().map_err(|_| bad(word))
}

fn address(word: &str) -> io::Result<SocketAddr> {
    number(word)
}

/// Bytes in one number: the standard library writes and reads numbers fast, in a debug build too.
const PIECE: usize = 16;

fn hex(data: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * data.len().max(1));
    for piece in data.chunks(PIECE) {
        let mut number = [0; PIECE];
        number[PIECE - piece.len()..].copy_from_slice(piece);
        let _ = write!(digits, "{:0width$x}", u128::from_be_bytes(number), width = 2 * piece.len());
    }
    if digits.is_empty() { "-".to_owned() } else { digits }
}

fn unhex(word: &str) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(word.len() / 2);
    for digits in text(word).as_bytes().chunks(2 * PIECE) {
        let number = std::str::from_utf8(digits).ok().and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| bad("odd data"))?.to_be_bytes();
        data.extend_from_slice(&number[PIECE - digits.len() / 2..]);
    }
    Ok(data)
}
