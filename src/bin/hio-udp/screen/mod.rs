//! Which datagrams are taken in: by the address they come from, and how many of each.

mod limiter;
mod networks;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

pub use limiter::{Limit, Limiter};
pub use networks::Networks;

/// What is let in.
#[derive(Debug)]
pub struct Rules {
    /// If any are named, only these are let in.
    pub allow: Networks,
    /// These are not, whatever else is said.
    pub deny: Networks,
    pub limiter: Option<Limiter>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Taken,
    /// Its source is not let in.
    Denied,
    /// Its source has sent too many.
    Limited,
}

impl Rules {
    pub fn new(allow: &[ipnet::IpNet], deny: &[ipnet::IpNet], limit: Option<Limit>) -> Self {
        Self { allow: Networks::new(allow), deny: Networks::new(deny), limiter: limit.map(Limiter::new) }
    }

    /// Whether datagrams from this address are let in at all.
    pub fn lets_in(&self, source: IpAddr) -> bool {
        !self.deny.contains(source) && (self.allow.is_empty() || self.allow.contains(source))
    }

    /// What becomes of one more datagram of a source that is let in.
    pub fn admit(&self, source: IpAddr, now: Instant) -> Verdict {
        match &self.limiter {
            Some(limiter) if !limiter.admit(source, now) => Verdict::Limited,
            _ => Verdict::Taken,
        }
    }
}

/// The rules in force, which can be changed while datagrams come; looked at once for each batch.
#[derive(Debug)]
pub struct Screen(RwLock<Option<Arc<Rules>>>);

impl Screen {
    /// `None` lets everything in, and costs nothing.
    pub fn new(rules: Option<Rules>) -> Self {
        Self(RwLock::new(rules.map(Arc::new)))
    }

    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many sources the limit has refused since this was last asked.
    pub fn take_refused(&self) -> usize {
        self.rules().and_then(|rules| rules.limiter.as_ref().map(Limiter::take_refused)).unwrap_or(0)
    }

    pub fn replace(&self, rules: Option<Rules>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules.map(Arc::new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_comes_before_allowed_and_nothing_named_is_everything() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
        let lets_in = |allow: &[&str], deny: &[&str], source: &str| {
            Rules::new(&nets(allow), &nets(deny), None).lets_in(source.parse().unwrap())
        };
        assert!(lets_in(&[], &[], "192.0.2.1"));
        assert!(lets_in(&["192.0.2.0/24"], &[], "192.0.2.1"));
        assert!(!lets_in(&["192.0.2.0/24"], &[], "192.0.3.1"));
        assert!(!lets_in(&["192.0.2.0/24"], &["192.0.2.0/30"], "192.0.2.1"));
        assert!(lets_in(&["192.0.2.0/24"], &["192.0.2.0/30"], "192.0.2.4"));
        assert!(!lets_in(&[], &["2001:db8::/32"], "2001:db8::1"));
        assert!(lets_in(&[], &["2001:db8::/32"], "192.0.2.1"));
    }
}
