//! As much of HTTP/1.1 as a scraper and a prober need, with a bound on everything that a stranger can ask for: one
//! thread, one connection at a time, so many bytes, so much time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Longest request, with all its headers.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long a connection may take, from the first byte read to the last one written.
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

/// Answers one connection after the other, for as long as the program runs; `answer` is given a path, and `stuck` is
/// told when none has been taken for a while.
pub fn serve(listener: &TcpListener, answer: impl Fn(&str) -> Answer, stuck: impl Fn(&io::Error)) {
    let mut failures_in_a_row = 0_u64;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                failures_in_a_row = 0;
                // Whoever asks too slowly, or goes away, has no answer.
                let _ = converse(&stream, &answer);
            }
            Err(error) => {
                failures_in_a_row += 1;
                if failures_in_a_row == STUCK_AFTER {
                    stuck(&error);
                }
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn converse(stream: &TcpStream, answer: &impl Fn(&str) -> Answer) -> io::Result<()> {
    let mut connection = Connection { stream, deadline: Instant::now() + PATIENCE };
    let (mut request, mut len) = ([0; REQUEST_BYTES_MAX], 0);
    loop {
        match asked(&request[..len]) {
            Asked::For { path, is_head } => return connection.send(&answer(&path), is_head),
            Asked::Refused(status) => return connection.refuse(status),
            Asked::NotYet if len == request.len() => return connection.refuse(TOO_LARGE),
            Asked::NotYet => match connection.read(&mut request[len..])? {
                0 => return Ok(()),
                more => len += more,
            },
        }
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

/// A connection, and when it must be over.
struct Connection<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
}

impl Connection<'_> {
    fn send(&mut self, answer: &Answer, is_head: bool) -> io::Result<()> {
        let Answer { status: (code, reason), content_type, body } = answer;
        let allow = if *code == METHOD_NOT_ALLOWED.0 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            body.len()
        );
        if !is_head {
            text.push_str(body);
        }
        self.write_all(text.as_bytes())
    }

    /// Refuses a request of which more may be on the way. To close while there is something unread would take the
    /// answer back, so that is read too.
    fn refuse(&mut self, status: Status) -> io::Result<()> {
        self.send(&Answer::text(status, status.1), false)?;
        self.stream.shutdown(Shutdown::Write)?;
        let mut rest = [0; 4096];
        while self.read(&mut rest)? > 0 {}
        Ok(())
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(to)
    }

    fn write_all(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(text)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => text = &text[written..],
            }
        }
        Ok(())
    }

    /// Time that is left; an error if there is none.
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
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
