//! The life cycle of hio's doers: [`Doer`], the [`Cue`] its hooks are handed, and [`Deed`], one doer's run.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Options handed to a doer's hooks by name; nobody minds one that is not asked for (H164).
pub type Opts = BTreeMap<String, String>;

/// What a [`Doer`]'s hooks are told, and the tock they may set.
///
/// hio keeps these as attributes of the doer; here the doer's run, its [`Deed`], keeps them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cue<'c> {
    /// The scheduler's time in seconds at this cycle: counted, not measured.
    pub tyme: f64,
    /// Seconds from one `recur` to the next; 0 means every cycle. What a hook writes here stays, its
    /// sign dropped; what is not finite counts as 0.
    pub tock: f64,
    /// Whether files, if any, are to be temporary: the doer's own wish or its scheduler's (H165).
    pub temp: bool,
    /// The options given with [`Deed::with_opt`].
    pub opts: &'c Opts,
}

/// A task in six hooks, run in turn with others by a [`Doist`](crate::Doist).
///
/// Every hook does nothing unless you write it, and [`exit`](Self::exit) runs once after every
/// [`enter`](Self::enter), however the run ends:
///
/// | the run ends because | order |
/// |---|---|
/// | `recur` gave `true` | enter, recur …, clean, exit |
/// | it was closed, removed or dropped, or the limit came | enter, recur …, cease, exit |
/// | `recur` failed | enter, recur …, abort, exit |
/// | `enter` failed | enter, abort, exit |
/// | a hook panicked | …, exit |
///
/// A hook may not block: the other doers wait.
///
/// ```
/// use hio_udp::{Cue, Doer, Doist};
///
/// struct Countdown(u32);
///
/// impl Doer for Countdown {
///     fn recur(&mut self, _: &mut Cue<'_>) -> std::io::Result<bool> {
///         self.0 -= 1;
///         Ok(self.0 == 0)
///     }
/// }
/// let mut doist = Doist::new();
/// doist.add(Countdown(3));
/// assert!(doist.run()?);
/// assert_eq!(doist.tyme(), 3.0 * Doist::TOCK);
/// # Ok::<(), std::io::Error>(())
/// ```
#[allow(unused_variables)] // the defaults use none of theirs
pub trait Doer {
    /// Acquires what the doer needs; the first hook of a run.
    ///
    /// # Errors
    ///
    /// End the run: abort and exit follow.
    fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Does one step; `true` means done. The first one comes at the tyme of `enter`.
    ///
    /// # Errors
    ///
    /// End the run: abort and exit follow.
    fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
        Ok(false)
    }

    /// Cleans up after `recur` gave `true`, before exit.
    ///
    /// # Errors
    ///
    /// Travel out once exit has run.
    fn clean(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Cleans up after a forced end, before exit.
    ///
    /// # Errors
    ///
    /// Travel out once exit has run.
    fn cease(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Cleans up after `error` from enter or recur, before exit.
    ///
    /// # Errors
    ///
    /// Are logged; `error` travels out.
    fn abort(&mut self, cue: &mut Cue<'_>, error: &io::Error) -> io::Result<()> {
        Ok(())
    }

    /// Releases what `enter` acquired, whether all of it or only a part; the last hook of every run.
    ///
    /// # Errors
    ///
    /// Travel out, unless the run has failed before: then they are logged.
    fn exit(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// A doer that passes on to another one.
macro_rules! forward_doer {
    ($to:ty) => {
        impl<D: Doer + ?Sized> Doer for $to {
            fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
                (**self).enter(cue)
            }
            fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
                (**self).recur(cue)
            }
            fn clean(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
                (**self).clean(cue)
            }
            fn cease(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
                (**self).cease(cue)
            }
            fn abort(&mut self, cue: &mut Cue<'_>, error: &io::Error) -> io::Result<()> {
                (**self).abort(cue, error)
            }
            fn exit(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
                (**self).exit(cue)
            }
        }
    };
}

forward_doer!(&mut D);
forward_doer!(Box<D>);

/// A doer made by [`doify`].
#[derive(Clone, Debug)]
pub struct Doified<F>(F);

impl<F: FnMut(&mut Cue<'_>) -> io::Result<bool>> Doer for Doified<F> {
    fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
        (self.0)(cue)
    }
}

/// Makes a doer of a closure, which becomes its `recur`.
///
/// ```
/// use hio_udp::{Doist, doify};
///
/// let mut tymes = Vec::new();
/// let mut doist = Doist::new().with_tock(0.5).with_limit(1.0);
/// doist.add(doify(|cue| {
///     tymes.push(cue.tyme);
///     Ok(false)
/// }));
/// doist.run()?;
/// drop(doist);
/// assert_eq!(tymes, [0.0, 0.5]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "doize")]
pub fn doify<F: FnMut(&mut Cue<'_>) -> io::Result<bool>>(recur: F) -> Doified<F> {
    Doified(recur)
}

/// One doer and the state of its run: tyme, tock, opts, done, temp.
///
/// A [`Doist`](crate::Doist) makes one of each doer it is given; make it yourself to set more than
/// the doer, or to drive a doer by hand. It stands for the generator hio makes by calling a doer:
///
/// | hio | here |
/// |---|---|
/// | `dog = doer(tymth=…, tock=0.5)` | `let mut deed = Deed::new(doer).with_tock(0.5);` |
/// | `next(dog)` | `deed.enter(tyme)?` |
/// | `dog.send(tyme)` | `deed.recur(tyme)?` |
/// | `dog.close()` | `deed.close()?` |
/// | `dog.throw(error)` | `deed.throw(error)` |
/// | the last reference goes | `deed` is dropped: as `close` |
///
/// ```
/// use hio_udp::{Deed, doify};
///
/// let mut deed = Deed::new(doify(|cue| Ok(cue.tyme >= 1.0)));
/// deed.enter(0.0)?;
/// assert!(!deed.recur(0.0)? && deed.running());
/// assert!(deed.recur(1.0)? && !deed.running());
/// assert_eq!(deed.done(), Some(true));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Deed<D: Doer + ?Sized> {
    state: State,
    doer: D,
}

#[derive(Debug, Default)]
struct State {
    /// The tyme of the last enter or recur.
    tyme: Option<f64>,
    /// Finite and not negative.
    tock: f64,
    opts: Opts,
    done: Option<bool>,
    /// The doer's own wish.
    temp: bool,
    /// What the hooks are told in this run: the doer's wish or its scheduler's.
    temp_told: bool,
    /// Whether enter has begun and exit has not.
    running: bool,
}

impl<D: Doer> From<D> for Deed<D> {
    fn from(doer: D) -> Self {
        Self::new(doer)
    }
}

impl<D: Doer> Deed<D> {
    /// A deed that has not begun, of tock 0, without options.
    pub fn new(doer: D) -> Self {
        Self { state: State::default(), doer }
    }

    /// Sets the seconds from one `recur` to the next; 0 means every cycle. The sign is dropped (H150).
    pub fn with_tock(mut self, tock: f64) -> Self {
        self.state.tock = seconds(tock);
        self
    }

    /// Sets whether files, if any, are to be temporary.
    pub fn with_temp(mut self, temp: bool) -> Self {
        self.state.temp = temp;
        self
    }

    /// Adds an option for the hooks to read.
    pub fn with_opt(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.state.opts.insert(name.into(), value.into());
        self
    }
}

impl<D: Doer + ?Sized> Deed<D> {
    /// The doer.
    pub fn doer(&self) -> &D {
        &self.doer
    }

    /// The doer, to be changed.
    pub fn doer_mut(&mut self) -> &mut D {
        &mut self.doer
    }

    /// The tyme of the last enter or recur; `None` before the first.
    pub fn tyme(&self) -> Option<f64> {
        self.state.tyme
    }

    /// Seconds from one `recur` to the next.
    pub fn tock(&self) -> f64 {
        self.state.tock
    }

    /// The options.
    pub fn opts(&self) -> &Opts {
        &self.state.opts
    }

    /// Whether the doer itself asks for temporary files.
    pub fn temp(&self) -> bool {
        self.state.temp
    }

    /// `None` before the first run, `Some(true)` once `recur` gave `true`, else `Some(false)`.
    pub fn done(&self) -> Option<bool> {
        self.state.done
    }

    /// Whether the run has begun and not ended.
    pub fn running(&self) -> bool {
        self.state.running
    }

    /// Begins a run with the doer's enter. A run that has not ended is closed first.
    ///
    /// # Errors
    ///
    /// What enter gives, once abort and exit have run; or what closing the run before gives.
    #[doc(alias = "next")]
    pub fn enter(&mut self, tyme: f64) -> io::Result<()> {
        self.try_enter(tyme, false).map_err(Failure::raise)
    }

    /// Runs one recur, and clean and exit if it is done; `true` means that the run has ended.
    ///
    /// Without a run, or after it, nothing is called and the answer is `true`.
    ///
    /// # Errors
    ///
    /// What recur gives, once abort and exit have run; else what clean or exit give.
    #[doc(alias = "send")]
    pub fn recur(&mut self, tyme: f64) -> io::Result<bool> {
        self.try_recur(tyme).map_err(Failure::raise)
    }

    /// Forces the end of a run: cease, exit. Without a run nothing is called.
    ///
    /// # Errors
    ///
    /// The first that cease and exit give; both run.
    pub fn close(&mut self) -> io::Result<()> {
        self.try_close().map_err(Failure::raise)
    }

    /// Ends a run as if recur had failed with `error`: abort, exit. Gives `error` back.
    pub fn throw(&mut self, error: io::Error) -> io::Error {
        if !self.state.running {
            return error;
        }
        self.abandon(Failure::Error(error)).raise()
    }

    pub(crate) fn try_enter(&mut self, tyme: f64, temp: bool) -> Result<(), Failure> {
        self.try_close()?;
        self.state.tyme = Some(tyme);
        self.state.temp_told = temp || self.state.temp;
        self.state.done = Some(false);
        self.state.running = true;
        self.call(tyme, |doer, cue| doer.enter(cue)).map_err(|failure| self.abandon(failure))
    }

    pub(crate) fn try_recur(&mut self, tyme: f64) -> Result<bool, Failure> {
        if !self.state.running {
            return Ok(true);
        }
        self.state.tyme = Some(tyme);
        let done = self.call(tyme, |doer, cue| doer.recur(cue)).map_err(|failure| self.abandon(failure))?;
        if done {
            self.state.done = Some(true);
            self.leave(|doer, cue| doer.clean(cue))?;
        }
        Ok(done)
    }

    pub(crate) fn try_close(&mut self) -> Result<(), Failure> {
        if !self.state.running {
            return Ok(());
        }
        self.leave(|doer, cue| doer.cease(cue))
    }

    /// Ends a run that failed: abort and exit, or after a panic exit alone, as hio does for exceptions
    /// that are not meant to be caught (H155).
    fn abandon(&mut self, failure: Failure) -> Failure {
        let ended = match &failure {
            Failure::Error(error) => self.leave(|doer, cue| doer.abort(cue, error)),
            Failure::Panic(_) => self.leave(|_, _| Ok(())),
        };
        match ended {
            Ok(()) => failure,
            Err(later) => failure.or_worse(later),
        }
    }

    /// Ends a run: the hook that tells why, then exit, whatever that hook does.
    fn leave(&mut self, hook: impl FnOnce(&mut D, &mut Cue<'_>) -> io::Result<()>) -> Result<(), Failure> {
        let tyme = self.state.tyme.unwrap_or_default();
        let told = self.call(tyme, hook);
        self.state.running = false;
        first_failure(told, self.call(tyme, |doer, cue| doer.exit(cue)))
    }

    /// Calls one hook and keeps the tock it set.
    fn call<R>(&mut self, tyme: f64, hook: impl FnOnce(&mut D, &mut Cue<'_>) -> io::Result<R>) -> Result<R, Failure> {
        let Self { state, doer } = self;
        let mut cue = Cue { tyme, tock: state.tock, temp: state.temp_told, opts: &state.opts };
        // After a panic the doer is asked for its exit only, as a value is for its Drop.
        let outcome = catch_unwind(AssertUnwindSafe(|| hook(doer, &mut cue)));
        state.tock = seconds(cue.tock);
        outcome.map_err(Failure::Panic)?.map_err(Failure::Error)
    }
}

/// Ends a run that has not ended, as [`close`](Deed::close) does; errors are logged.
impl<D: Doer + ?Sized> Drop for Deed<D> {
    fn drop(&mut self) {
        if let Err(failure) = self.try_close() {
            failure.settle_in_drop();
        }
    }
}

impl<D: Doer + ?Sized> fmt::Debug for Deed<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deed").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Seconds as hio stores a tock, without its sign; what is not finite would stop a doer or a Doist for good.
pub(crate) fn seconds(value: f64) -> f64 {
    if value.is_finite() { value.abs() } else { 0.0 }
}

/// How a hook failed.
pub(crate) enum Failure {
    Error(io::Error),
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    /// Lets the failure travel on: an error as the result, a panic as a panic.
    pub(crate) fn raise(self) -> io::Error {
        match self {
            Self::Error(error) => error,
            Self::Panic(payload) => resume_unwind(payload),
        }
    }

    /// The one of two that travels on: the first, but a panic before an error. The other is logged.
    pub(crate) fn or_worse(self, later: Self) -> Self {
        match (self, later) {
            (Self::Error(error), panic @ Self::Panic(_)) | (panic @ Self::Panic(_), Self::Error(error)) => {
                log::error!("a doer failed: {error}; another panicked");
                panic
            }
            (first, Self::Error(error)) => {
                log::error!("a doer failed while doers were ended after a failure: {error}");
                first
            }
            // A panic needs no log: the panic hook has told it.
            (first, Self::Panic(_)) => first,
        }
    }

    /// For destructors, which have nobody to give an error to, and must not panic while unwinding.
    pub(crate) fn settle_in_drop(self) {
        match self {
            Self::Error(error) => log::error!("a dropped doer failed: {error}"),
            Self::Panic(_) if std::thread::panicking() => {}
            Self::Panic(payload) => resume_unwind(payload),
        }
    }
}

/// Both outcomes as one.
pub(crate) fn first_failure(first: Result<(), Failure>, later: Result<(), Failure>) -> Result<(), Failure> {
    match (first, later) {
        (Err(first), Err(later)) => Err(first.or_worse(later)),
        (first, later) => first.and(later),
    }
}
