//! As much of HTTP/1.1 as a scraper and a prober need, with a bound on everything that a stranger can ask for: one
//! thread, so many connections at once, for each so many bytes and so much time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, poll};
#[cfg(unix)]
use rustix::io::Errno;

/// Connections that are talked to at once; for one more, one of these is let go.
const CONNECTIONS_MAX: usize = 16;

/// Longest request, with all its headers.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long a connection may take, from when it is taken to the last byte written.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long nobody is let in after a connection that could not be taken: there may be no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many in a row are told.
const STUCK_AFTER: u64 = 10;

pub const OK: Status = (200, "OK");
pub const BAD_REQUEST: Status = (400, "Bad Request");
pub const NOT_FOUND: Status = (404, "Not Found");
pub const METHOD_NOT_ALLOWED: Status = (405, "Method Not Allowed");
pub const TOO_LARGE: Status = (431, "Request Header Fields Too Large");
pub const UNAVAILABLE: Status = (503, "Service Unavailable");

pub type Status = (u16, &'static str);

/// What is answered to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    /// A sentence.
    pub fn text(status: Status, sentence: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{sentence}\n") }
    }

    /// As it is sent; to HEAD, without the body.
    fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self { status: (code, reason), content_type, body } = self;
        let allow = if *code == METHOD_NOT_ALLOWED.0 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        );
        if !is_head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

/// What a request asks for.
#[derive(Debug, Eq, PartialEq)]
enum Asked {
    /// This path; of HEAD, without the body.
    For {
        path: String,
        is_head: bool,
    },
    /// More of it has to come.
    NotYet,
    Refused(Status),
}

/// Answers, for as long as the program runs; `answer` is given a path, and `stuck` is told when no connection could be
/// taken for a while. The listener does not block.
pub fn serve(listener: &TcpListener, answer: impl Fn(&str) -> Answer, stuck: impl Fn(&io::Error)) {
    let mut connections: Vec<Connection> = Vec::with_capacity(CONNECTIONS_MAX);
    let (mut failures_in_a_row, mut pause_until) = (0_u64, None);
    loop {
        let now = Instant::now();
        pause_until = pause_until.filter(|until| now < *until);
        let listener = Some(listener).filter(|_| pause_until.is_none());
        let until = connections.iter().map(|connection| connection.deadline).chain(pause_until).min();
        wait(listener, &connections, until.map(|until| until - now));
        match listener.map(accept) {
            Some(Ok(connection)) => {
                failures_in_a_row = 0;
                if connections.len() == CONNECTIONS_MAX {
                    let least = connections.iter().enumerate().min_by_key(|(_, connection)| connection.worth());
                    connections.swap_remove(least.expect("there are some").0);
                }
                connections.push(connection);
            }
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                failures_in_a_row += 1;
                if failures_in_a_row == STUCK_AFTER {
                    stuck(&error);
                }
                pause_until = Some(Instant::now() + ACCEPT_PAUSE);
            }
            _ => {}
        }
        connections.retain_mut(|connection| connection.goes_on(&answer));
    }
}

/// Waits until a connection can be taken or one of these may go on, `longest` at most.
#[cfg(unix)]
fn wait(listener: Option<&TcpListener>, connections: &[Connection], longest: Option<Duration>) {
    let mut fds: Vec<PollFd<'_>> = connections.iter().map(|c| PollFd::new(&c.stream, c.waits_for())).collect();
    fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
    let longest = longest.and_then(|longest| longest.try_into().ok());
    match poll(&mut fds, longest.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(_) => thread::sleep(ACCEPT_PAUSE),
    }
}

/// Where there is no `poll`: they are asked in turn.
#[cfg(not(unix))]
fn wait(_listener: Option<&TcpListener>, _connections: &[Connection], _longest: Option<Duration>) {
    thread::sleep(Duration::from_millis(10));
}

fn accept(listener: &TcpListener) -> io::Result<Connection> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(Connection { stream, deadline: Instant::now() + PATIENCE, stage: Stage::Asking(Vec::new()) })
}

/// A connection, and when it must be over.
struct Connection {
    stream: TcpStream,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    /// It has sent so much of its request.
    Asking(Vec<u8>),
    /// So much is left to be sent to it.
    Answering { left: Vec<u8>, is_refusal: bool },
    /// It was refused, and more of its request may be on the way. To close while there is something unread would take
    /// the answer back, so that is read too.
    Refused,
}

impl Connection {
    #[cfg(unix)]
    fn waits_for(&self) -> PollFlags {
        if matches!(self.stage, Stage::Answering { .. }) { PollFlags::OUT } else { PollFlags::IN }
    }

    /// What is worth least has asked for nothing yet, or only what was refused, and was let in first.
    fn worth(&self) -> (bool, Instant) {
        (matches!(self.stage, Stage::Answering { is_refusal: false, .. }), self.deadline)
    }

    /// Does as much as one call can; `false` when it is over. Whoever asks too slowly, or goes away, has no answer.
    fn goes_on(&mut self, answer: &impl Fn(&str) -> Answer) -> bool {
        let goes_on = match self.step(answer) {
            Ok(goes_on) => goes_on,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        goes_on && Instant::now() < self.deadline
    }

    fn step(&mut self, answer: &impl Fn(&str) -> Answer) -> io::Result<bool> {
        let mut bytes = [0; REQUEST_BYTES_MAX];
        match &mut self.stage {
            Stage::Asking(request) => {
                let room = REQUEST_BYTES_MAX - request.len();
                let count = self.stream.read(&mut bytes[..room])?;
                request.extend_from_slice(&bytes[..count]);
                self.stage = match asked(request) {
                    _ if count == 0 => return Ok(false),
                    Asked::NotYet if count < room => return Ok(true),
                    Asked::NotYet => Stage::refusal(TOO_LARGE),
                    Asked::Refused(status) => Stage::refusal(status),
                    Asked::For { path, is_head } => {
                        Stage::Answering { left: answer(&path).bytes(is_head), is_refusal: false }
                    }
                };
                Ok(true)
            }
            Stage::Answering { left, is_refusal } => {
                let count = self.stream.write(left)?;
                left.drain(..count);
                if left.is_empty() && *is_refusal {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.stage = Stage::Refused;
                    return Ok(true);
                }
                Ok(count > 0 && !left.is_empty())
            }
            Stage::Refused => Ok(self.stream.read(&mut bytes)? > 0),
        }
    }
}

impl Stage {
    fn refusal(status: Status) -> Self {
        Self::Answering { left: Answer::text(status, status.1).bytes(false), is_refusal: true }
    }
}

fn asked(request: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Partial) => return Asked::NotYet,
        Err(httparse::Error::TooManyHeaders) => return Asked::Refused(TOO_LARGE),
        Err(_) => return Asked::Refused(BAD_REQUEST),
        Ok(httparse::Status::Complete(_)) => {}
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Asked::Refused(BAD_REQUEST) };
    if method != "GET" && method != "HEAD" {
        return Asked::Refused(METHOD_NOT_ALLOWED);
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Asked::For { path: path.to_owned(), is_head: method == "HEAD" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, is_head: bool) -> Asked {
        Asked::For { path: path.to_owned(), is_head }
    }

    #[test]
    fn requests_are_read_or_refused_as_they_should_be() {
        let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", wanted("/metrics", false)),
            ("HEAD /readyz?verbose HTTP/1.0\r\n\r\n", wanted("/readyz", true)),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", Asked::NotYet),
            ("", Asked::NotYet),
            ("POST /metrics HTTP/1.1\r\n\r\n", Asked::Refused(METHOD_NOT_ALLOWED)),
            ("GET /metrics\r\n\r\n", Asked::Refused(BAD_REQUEST)),
            ("GET /metrics HTTP/2.0\r\n\r\n", Asked::Refused(BAD_REQUEST)),
            ("\u{16}\u{3}\u{1}", Asked::Refused(BAD_REQUEST)),
            (&many_headers, Asked::Refused(TOO_LARGE)),
        ] {
            assert_eq!(asked(request.as_bytes()), expected, "{request:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 7_u32;
        for len in 0..2_000 {
            let bytes: Vec<u8> = (0..len % 97)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"GETHAD /:?#\r\n1.\0\xff"[(state >> 24) as usize % 17]
                })
                .collect();
            let _ = asked(&bytes);
        }
    }
}
