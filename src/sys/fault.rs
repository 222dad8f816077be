//! Makes the kernel fail on demand, in unit tests: the N-th call of a kind fails with an errno, or
//! is allowed only part of its work. Everything else goes to the real kernel.
//!
//! Faults are per thread, so that tests running side by side do not meet each other's.

use std::cell::{Cell, RefCell};
use std::io;

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

struct Planned {
    call: Call,
    /// Calls of this kind still to pass before the fault fires.
    after: usize,
    /// How many calls in a row it hits.
    times: usize,
    fault: Fault,
}

thread_local! {
    static PLAN: RefCell<Vec<Planned>> = const { RefCell::new(Vec::new()) };
    /// Calls made so far, by their kind.
    static MADE: Cell<[u64; CALLS]> = const { Cell::new([0; CALLS]) };
}

/// Makes `times` calls of kind `call` meet `fault`, after `after` calls of that kind went through.
pub(crate) fn inject(call: Call, after: usize, times: usize, fault: Fault) {
    PLAN.with_borrow_mut(|plan| plan.push(Planned { call, after, times, fault }));
}

/// Forgets every fault that has not fired, and the calls made so far.
pub(crate) fn clear() {
    PLAN.with_borrow_mut(Vec::clear);
    MADE.set([0; CALLS]);
}

/// Whether no fault is left to fire.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn is_over() -> bool {
    PLAN.with_borrow(Vec::is_empty)
}

/// How many calls of kind `call` were made since the last `clear`, those that failed included.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn made(call: Call) -> u64 {
    MADE.get()[call as usize]
}

/// How many messages the coming call may handle, or the error it must give.
pub(crate) fn limit(call: Call) -> io::Result<usize> {
    let mut made = MADE.get();
    made[call as usize] += 1;
    MADE.set(made);
    PLAN.with_borrow_mut(|plan| {
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
