//! `PeerDoer`: a peer that is open while a doer runs.

use std::fmt;
use std::io;

use crate::doer::{Cue, Doer};
use crate::transport::Transport;

/// A doer with a peer: enter reopens it, exit closes it, and between them `recur` is yours.
///
/// The peer is closed on every path out of a run: when recur is done or fails, when enter fails, when a
/// hook panics, and when the run is closed or dropped.
///
/// A peer that does not open is no error in hio: the doer runs with a closed one (H156), and so it does
/// here. [`strict`](Self::strict) makes it the error of enter.
///
/// ```
/// use hio_udp::{Doist, Peer, PeerConfig, PeerDoer, Transport};
///
/// let peer = Peer::new(PeerConfig::new().port(0))?;
/// let mut doer = PeerDoer::new(peer, |peer, _cue| {
///     let me = peer.ha();
///     peer.send(b"to myself", me)?;
///     Ok(peer.receive()? == (&b"to myself"[..], Some(me)))
/// })
/// .strict(true);
///
/// let mut doist = Doist::new();
/// doist.add(&mut doer);
/// assert!(doist.run()?);
/// drop(doist);
/// assert!(!doer.peer().opened());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct PeerDoer<T: Transport, R> {
    peer: T,
    recur: R,
    strict: bool,
}

impl<T: Transport, R: FnMut(&mut T, &mut Cue<'_>) -> io::Result<bool>> PeerDoer<T, R> {
    /// A doer of `peer` that calls `recur` each time its turn comes, until it gives `true`.
    pub fn new(peer: T, recur: R) -> Self {
        Self { peer, recur, strict: false }
    }

    /// Sets whether a peer that does not open fails the run.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }
}

impl<T: Transport, R> PeerDoer<T, R> {
    /// The peer.
    pub fn peer(&self) -> &T {
        &self.peer
    }

    /// The peer, to be changed.
    pub fn peer_mut(&mut self) -> &mut T {
        &mut self.peer
    }

    /// Gives the peer back, open or closed as it is.
    pub fn into_peer(self) -> T {
        self.peer
    }
}

impl<T: Transport, R: FnMut(&mut T, &mut Cue<'_>) -> io::Result<bool>> Doer for PeerDoer<T, R> {
    fn enter(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        match self.peer.reopen() {
            // The peer has logged it.
            Err(_) if !self.strict => Ok(()),
            result => result,
        }
    }

    fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
        (self.recur)(&mut self.peer, cue)
    }

    fn exit(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.peer.close();
        Ok(())
    }
}

impl<T: Transport + fmt::Debug, R> fmt::Debug for PeerDoer<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerDoer").field("peer", &self.peer).field("strict", &self.strict).finish_non_exhaustive()
    }
}
