//! Threads that wait for each other: how one goes to sleep, and how another wakes it.
//!
//! No wake-up is lost, and nobody takes a lock while there is somebody to work for. Both rest on one
//! exchange, between a thread that is going to sleep and one that has just made what it waits for:
//!
//! ```text
//!   the one that waits              the one that wakes
//!   asleep = true                   make it ready
//!   ── fence ──                     ── fence ──
//!   ready? then do not sleep        asleep? then wake it
//! ```
//!
//! The two fences are SeqCst, so one of them comes first: at least one of the two threads sees what the
//! other has written above its fence.

use super::sync::{
    AtomicBool, Instant, LOOKS, OnceLock, Ordering, Thread, current, fence, park, park_timeout, spin_loop,
};

/// One that waits alone, for what others are working at, looks for longer than a sleep and a wake-up take: as long
/// as they are at work it then never sleeps, and they need not wake it.
const LOOKS_ALONE: u32 = 5 * LOOKS;

/// Where one thread sleeps. A cache line pair of its own, because it is looked at with every ring.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Waiter {
    /// Set by the thread that waits, cleared by whoever wakes it, or by itself if it need not sleep.
    asleep: AtomicBool,
    /// Known from its first wait on.
    thread: OnceLock<Thread>,
}

impl Waiter {
    /// Waits until `ready` gives something, asleep at most until `deadline`. One thread only may wait here.
    pub(super) fn wait_until<T>(&self, deadline: Instant, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(found) = look(LOOKS_ALONE, &mut ready) {
            return Some(found);
        }
        loop {
            self.lie_down();
            if let Some(found) = ready() {
                self.get_up();
                return Some(found);
            }
            while self.asleep.load(Ordering::Acquire) {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    self.get_up();
                    return ready();
                }
                park_timeout(left);
            }
        }
    }

    /// Says that this thread sleeps, before it looks for the last time.
    fn lie_down(&self) {
        let thread = self.thread.get_or_init(current);
        assert_eq!(thread.id(), current().id(), "another thread would be woken");
        // Release, paired with the swap in `wake_if_asleep`: who sees it sees the thread that is to be woken.
        self.asleep.store(true, Ordering::Release);
        // Paired with the fence in `wake` and `wake_one`: see above.
        fence(Ordering::SeqCst);
    }

    /// Takes that back; `false` if somebody has woken this thread already.
    fn get_up(&self) -> bool {
        self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Sleeps until woken.
    fn sleep(&self) {
        // A park may end without a reason, or for an older one.
        while self.asleep.load(Ordering::Acquire) {
            park();
        }
    }

    /// Wakes the thread that sleeps here; `false` if none does, or somebody else has woken it.
    ///
    /// What it waits for must be there already.
    pub(super) fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.wake_if_asleep()
    }

    fn wake_if_asleep(&self) -> bool {
        let is_ours = self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel);
        if is_ours {
            self.thread.get().expect("it lay down").unpark();
        }
        is_ours
    }
}

/// Several threads that wait for the same things, of which each is for one of them.
#[derive(Debug)]
pub(super) struct Waiters(Box<[Waiter]>);

impl Waiters {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Waiter::default()).collect())
    }

    /// Lets thread number `me` wait until `ready` gives something.
    pub(super) fn wait<T>(&self, me: usize, mut ready: impl FnMut() -> Option<T>) -> T {
        let waiter = &self.0[me];
        loop {
            if let Some(found) = look(LOOKS, &mut ready) {
                return found;
            }
            waiter.lie_down();
            if let Some(found) = ready() {
                if !waiter.get_up() {
                    // Woken for something else than what was found: somebody else must take that.
                    self.wake_one();
                }
                return found;
            }
            waiter.sleep();
        }
    }

    /// Wakes one thread, if any sleeps. What it waits for must be there already.
    pub(super) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        self.0.iter().any(Waiter::wake_if_asleep);
    }

    /// Wakes every thread that sleeps.
    pub(super) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        for waiter in &self.0 {
            waiter.wake_if_asleep();
        }
    }
}

/// Looks `times` times, as fast as the processor should.
fn look<T>(times: u32, ready: &mut impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..times {
        if let Some(found) = ready() {
            return Some(found);
        }
        spin_loop();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes one of `things`, if there is one.
    fn take(things: &AtomicUsize) -> Option<()> {
        things.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).ok().map(drop)
    }

    #[test]
    fn every_thing_made_is_taken_however_makers_and_takers_meet() {
        const TAKERS: usize = 3;
        const THINGS: usize = 20_000;
        let (waiters, things, taken) = (Waiters::new(TAKERS), AtomicUsize::new(0), AtomicUsize::new(0));
        let (pause, has_ended) = (Waiter::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            for me in 0..TAKERS {
                let (waiters, things, taken, pause, has_ended) = (&waiters, &things, &taken, &pause, &has_ended);
                scope.spawn(move || {
                    let next = || match take(things) {
                        Some(()) => Some(true),
                        None => has_ended.load(Ordering::Acquire).then_some(false),
                    };
                    while waiters.wait(me, next) {
                        taken.fetch_add(1, Ordering::AcqRel);
                        pause.wake();
                    }
                });
            }
            for made in 1..=THINGS {
                things.fetch_add(1, Ordering::AcqRel);
                waiters.wake_one();
                if made % 7 == 0 {
                    // All sleep, or nearly: a wake-up lost now would be a wait without end.
                    let all = || (taken.load(Ordering::Acquire) == made).then_some(());
                    assert_eq!(pause.wait_until(Instant::now() + PATIENCE, all), Some(()), "{made}");
                }
            }
            has_ended.store(true, Ordering::Release);
            waiters.wake_all();
        });
        assert_eq!((taken.into_inner(), things.into_inner()), (THINGS, 0));
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_leaves_nobody_to_wake() {
        let (waiter, start) = (Waiter::default(), Instant::now());
        let longest = Duration::from_millis(5);
        assert_eq!(waiter.wait_until(start + longest, || None::<()>), None);
        assert!(start.elapsed() >= longest);
        assert!(!waiter.wake());
    }

    #[test]
    fn a_wake_up_for_one_who_found_something_else_is_passed_on() {
        let (waiters, things) = (Waiters::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            let other = scope.spawn(|| waiters.wait(1, || take(&things)));
            while !waiters.0[1].asleep.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let mut looks = 0;
            waiters.wait(0, || {
                looks += 1;
                // At its last look, lying down, it is woken for one thing and finds another.
                (looks > LOOKS).then(|| {
                    assert!(waiters.0[0].wake());
                    things.store(1, Ordering::Release);
                })
            });
            other.join().unwrap();
        });
        assert_eq!(things.into_inner(), 0);
    }
}
