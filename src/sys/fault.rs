//! Makes the kernel fail on demand, in unit tests and fuzz targets: the N-th call of a kind fails with an errno, or
//! is allowed only part of its work. Everything else goes to the real kernel.
//!
//! Faults are per thread, so that tests running side by side do not meet each other's. Of a fuzz target, which runs
//! alone, they are the whole process's: threads that a pipeline makes meet them too.

use std::cell::Cell;
#[cfg(test)]
use std::cell::RefCell;
use std::io;
#[cfg(test)]
use std::sync::RwLock;
#[cfg(not(test))]
use std::sync::{Mutex, PoisonError};

pub(crate) use super::Call;

/// What happens to a call instead of its ordinary run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The call fails with this errno and does nothing.
    Errno(i32),
    /// The call is made with at most this many messages: datagrams, or rows of them joined to send.
    Short(usize),
}

/// Kinds of calls; the last is [`Call::Enter`].
const CALLS: usize = Call::Enter as usize + 1;

/// Held to write by a test that forks, and to read by those whose closed sockets must be gone at once: a child has
/// those of all tests until it ends.
#[cfg(test)]
pub(crate) static FORKS: RwLock<()> = RwLock::new(());

struct Planned {
    call: Call,
    /// Calls of this kind still to pass before the fault fires.
    after: usize,
    /// How many calls in a row it hits.
    times: usize,
    fault: Fault,
}

#[cfg(test)]
thread_local! {
    static PLAN: RefCell<Vec<Planned>> = const { RefCell::new(Vec::new()) };
}
#[cfg(not(test))]
static PLAN: Mutex<Vec<Planned>> = Mutex::new(Vec::new());

fn with_plan<T>(body: impl FnOnce(&mut Vec<Planned>) -> T) -> T {
    #[cfg(test)]
    return PLAN.with_borrow_mut(body);
    #[cfg(not(test))]
    body(&mut PLAN.lock().unwrap_or_else(PoisonError::into_inner))
}

thread_local! {
    /// Calls made so far, by their kind.
    static MADE: Cell<[u64; CALLS]> = const { Cell::new([0; CALLS]) };
}

/// Makes `times` calls of kind `call` meet `fault`, after `after` calls of that kind went through.
pub(crate) fn inject(call: Call, after: usize, times: usize, fault: Fault) {
    with_plan(|plan| plan.push(Planned { call, after, times, fault }));
}

/// Forgets every fault that has not fired, and the calls made so far.
pub(crate) fn clear() {
    with_plan(Vec::clear);
    MADE.set([0; CALLS]);
}

/// How often faults are left to fire, each by its call and itself.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn left(is_meant: impl Fn(Call, Fault) -> bool) -> usize {
    with_plan(|plan| plan.iter().filter(|p| is_meant(p.call, p.fault)).map(|p| p.times).sum())
}

/// Whether no fault is left to fire.
#[cfg_attr(not(all(test, target_os = "linux")), allow(dead_code))]
pub(crate) fn is_over() -> bool {
    left(|_, _| true) == 0
}

/// How many calls of kind `call` were made since the last `clear`, those that failed included.
#[cfg_attr(not(all(test, target_os = "linux")), allow(dead_code))]
pub(crate) fn made(call: Call) -> u64 {
    MADE.get()[call as usize]
}

/// How many messages the coming call may handle, or the error it must give.
pub(crate) fn limit(call: Call) -> io::Result<usize> {
    let mut made = MADE.get();
    made[call as usize] += 1;
    MADE.set(made);
    with_plan(|plan| {
        let Some(index) = plan.iter().position(|p| p.call == call) else {
            return Ok(usize::MAX);
        };
        let planned = &mut plan[index];
        if planned.after > 0 {
            planned.after -= 1;
            return Ok(usize::MAX);
        }
        let fault = planned.fault;
        planned.times -= 1;
        if planned.times == 0 {
            plan.remove(index);
        }
        match fault {
            Fault::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::Short(count) => Ok(count),
        }
    })
}
