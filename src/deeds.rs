//! Doers in the order in which they entered: what `Doist` and `DoDoer` share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::doer::{Deed, Doer, Failure, first_failure};

/// Names a doer given to a [`Doist`](crate::Doist) or [`DoDoer`](crate::DoDoer); no two are equal in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DoerId(u64);

/// Doers in the order in which they entered; those which do not run may stand anywhere behind.
#[derive(Debug, Default)]
pub(crate) struct Deeds<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    id: DoerId,
    /// When the doer is to run next; `None` for its first recur, which comes with the next cycle.
    retyme: Option<f64>,
    deed: Box<Deed<dyn Doer + 'a>>,
}

impl Entry<'_> {
    fn enter(&mut self, tyme: f64, temp: bool) -> Result<(), Failure> {
        self.retyme = None;
        self.deed.try_enter(tyme, temp)
    }
}

impl<'a> Deeds<'a> {
    pub(crate) fn add<D: Doer + 'a>(&mut self, doer: impl Into<Deed<D>>) -> DoerId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = DoerId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.entries.push(Entry { id, retyme: None, deed: Box::new(doer.into()) });
        id
    }

    pub(crate) fn running(&self) -> usize {
        self.entries.iter().filter(|entry| entry.deed.running()).count()
    }

    pub(crate) fn deed(&self, id: DoerId) -> Option<&Deed<dyn Doer + 'a>> {
        self.entries.iter().find(|entry| entry.id == id).map(|entry| &*entry.deed)
    }

    /// Enters everyone who does not run; at the first failure the rest is left as it is.
    pub(crate) fn enter(&mut self, tyme: f64, temp: bool) -> Result<(), Failure> {
        // Stable: whoever runs already has entered before those who enter now.
        self.entries.sort_by_key(|entry| !entry.deed.running());
        let mut idle = self.entries.iter_mut().skip_while(|entry| entry.deed.running());
        idle.try_for_each(|entry| entry.enter(tyme, temp))
    }

    /// Runs everyone whose time has come; at the first failure the rest is left as it is.
    pub(crate) fn recur(&mut self, tyme: f64, cycle_tock: f64) -> Result<(), Failure> {
        for entry in &mut self.entries {
            let retyme = entry.retyme.unwrap_or(tyme);
            if entry.deed.running() && retyme <= tyme {
                entry.deed.try_recur(tyme)?;
                let tock = entry.deed.tock();
                entry.retyme = Some(if tock == 0.0 { tyme + cycle_tock } else { retyme + tock });
            }
        }
        Ok(())
    }

    /// Adds doers and enters them at once: all of them, or after a failure none.
    pub(crate) fn extend<D: Doer + 'a>(
        &mut self,
        doers: impl IntoIterator<Item: Into<Deed<D>>>,
        tyme: f64,
        temp: bool,
    ) -> Result<Vec<DoerId>, Failure> {
        let new: Vec<Deed<D>> = doers.into_iter().map(Into::into).collect(); // the caller's code, which may panic
        let old = self.entries.len();
        let ids = new.into_iter().map(|deed| self.add(deed)).collect();
        let entered = self.entries[old..].iter_mut().try_for_each(|entry| entry.enter(tyme, temp));
        if entered.is_err() {
            let exited = exit_in_reverse(&mut self.entries[old..]);
            self.entries.truncate(old);
            first_failure(entered, exited)?;
        }
        Ok(ids)
    }

    pub(crate) fn remove(&mut self, ids: impl IntoIterator<Item = DoerId>) -> Result<(), Failure> {
        let ids: Vec<DoerId> = ids.into_iter().collect();
        let (mut removed, kept) = self.entries.drain(..).partition(|entry| ids.contains(&entry.id));
        self.entries = kept;
        exit_in_reverse(&mut removed)
    }

    pub(crate) fn exit(&mut self) -> Result<(), Failure> {
        exit_in_reverse(&mut self.entries)
    }
}

/// Closes everyone who runs, the last one first, whatever their hooks do.
fn exit_in_reverse(entries: &mut [Entry<'_>]) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for entry in entries.iter_mut().rev() {
        outcome = first_failure(outcome, entry.deed.try_close());
    }
    outcome
}

impl Drop for Deeds<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.exit() {
            failure.settle_in_drop();
        }
    }
}
