//! Schedulers of doers: `Doist`, the root, and `DoDoer`, a doer that runs others.

use std::io;
use std::time::{Duration, Instant};

use crate::deeds::{Deeds, DoerId};
use crate::doer::{Cue, Deed, Doer, Failure, first_failure, seconds};

/// Runs doers in turn, in one thread, by a time of its own: hio's root scheduler.
///
/// Its time, *tyme*, is counted: each cycle runs every doer whose time has come and then adds one
/// *tock*. Cycles follow each other as fast as possible, or with [`with_real`](Self::with_real) at
/// the pace of the clock.
///
/// Doers can be given away or lent (`&mut doer`); a lent one is made before the Doist and is free again
/// once that is dropped.
/// Dropping exits whoever still runs.
///
/// # When a doer fails
///
/// From [`enter`](Self::enter), [`recur`](Self::recur) and [`run`](Self::run) a failure comes out
/// after everyone has been exited, in this order, wherever in a cycle it happened:
///
/// 1. the failing doer: abort, exit (after a panic: exit alone);
/// 2. all others that have entered, whether or not this cycle had come to them, in the reverse order
///    of their enters: cease, exit. Doers that had not entered yet are left alone.
///
/// hio's order in 2 depends on how far the cycle had come. Failures in abort, cease and exit stop
/// nothing: every doer's exit is called. What travels out is the first failure, but a panic before an
/// error; the others are logged.
///
/// ```
/// use hio_udp::{Deed, Doist, doify};
///
/// let (mut fast, mut slow) = (0, 0);
/// let mut doist = Doist::new().with_tock(0.25).with_limit(1.0);
/// doist.add(doify(|_| {
///     fast += 1;
///     Ok(false)
/// }));
/// doist.add(Deed::new(doify(|_| {
///     slow += 1;
///     Ok(false)
/// })).with_tock(0.5));
/// assert!(!doist.run()?, "the limit came before the doers were done");
/// assert_eq!(doist.tyme(), 1.0);
/// drop(doist);
/// assert_eq!((fast, slow), (4, 2));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Doist<'a> {
    tyme: f64,
    /// Finite and not negative.
    tock: f64,
    real: bool,
    /// Finite and more than 0, if any.
    limit: Option<f64>,
    temp: bool,
    done: Option<bool>,
    deeds: Deeds<'a>,
}

impl Default for Doist<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Doist<'a> {
    /// The seconds of a cycle unless [`with_tock`](Self::with_tock) says otherwise: 1/32.
    #[doc(alias = "Tock")]
    pub const TOCK: f64 = 0.03125;

    /// A Doist without doers, at tyme 0, as fast as possible, without a limit.
    pub fn new() -> Self {
        Self { tyme: 0.0, tock: Self::TOCK, real: false, limit: None, temp: false, done: None, deeds: Deeds::default() }
    }

    /// Sets the tyme to start with; what is not finite counts as 0.
    pub fn with_tyme(mut self, tyme: f64) -> Self {
        self.set_tyme(tyme);
        self
    }

    /// Sets the seconds of tyme each cycle adds. The sign is dropped; what is not finite counts as 0,
    /// with which tyme stands still and no limit is ever reached.
    pub fn with_tock(mut self, tock: f64) -> Self {
        self.tock = seconds(tock);
        self
    }

    /// Sets whether cycles keep to the clock, one each tock, instead of following at once.
    pub fn with_real(mut self, real: bool) -> Self {
        self.real = real;
        self
    }

    /// Sets after how many seconds of tyme [`run`](Self::run) ends by force; 0 means never (H163).
    pub fn with_limit(mut self, limit: f64) -> Self {
        self.set_limit(limit);
        self
    }

    /// Sets whether all doers are told to make temporary files (H165).
    pub fn with_temp(mut self, temp: bool) -> Self {
        self.temp = temp;
        self
    }

    /// Sets the tyme, as [`with_tyme`](Self::with_tyme) does.
    pub fn set_tyme(&mut self, tyme: f64) {
        // By a tyme that is no number no doer's time would come, nor the limit.
        self.tyme = if tyme.is_finite() { tyme } else { 0.0 };
    }

    /// Sets the limit, as [`with_limit`](Self::with_limit) does.
    pub fn set_limit(&mut self, limit: f64) {
        self.limit = Some(seconds(limit)).filter(|limit| *limit > 0.0);
    }

    /// The time in seconds, as counted.
    pub fn tyme(&self) -> f64 {
        self.tyme
    }

    /// The seconds each cycle adds.
    pub fn tock(&self) -> f64 {
        self.tock
    }

    /// Whether cycles keep to the clock.
    pub fn real(&self) -> bool {
        self.real
    }

    /// The limit of a run in seconds of tyme.
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Whether all doers are told to make temporary files.
    pub fn temp(&self) -> bool {
        self.temp
    }

    /// `None` before the first enter, `Some(true)` once no doer runs any more because each was done.
    pub fn done(&self) -> Option<bool> {
        self.done
    }

    /// How many doers run.
    #[doc(alias = "deeds")]
    pub fn running(&self) -> usize {
        self.deeds.running()
    }

    /// The state of one doer's run; `None` for a doer that was never here or was removed.
    pub fn deed(&self, id: DoerId) -> Option<&Deed<dyn Doer + 'a>> {
        self.deeds.deed(id)
    }

    /// Adds a doer, or a [`Deed`] with settings; it enters with the next [`enter`](Self::enter) or
    /// [`run`](Self::run).
    #[doc(alias = "doers")]
    pub fn add<D: Doer + 'a>(&mut self, doer: impl Into<Deed<D>>) -> DoerId {
        self.deeds.add(doer)
    }

    /// Adds doers and enters them at once; their first recur comes with the next cycle.
    ///
    /// Doers of several types are boxed: `[Deed::new(Box::new(a) as Box<dyn Doer>), …]`.
    ///
    /// ```
    /// use hio_udp::{Doist, doify};
    ///
    /// let mut doist = Doist::new();
    /// doist.enter()?;
    /// let ids = doist.extend([doify(|_| Ok(false))])?;
    /// assert_eq!(doist.running(), 1);
    /// doist.remove(ids)?;
    /// assert_eq!(doist.running(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first enter that fails. Then all doers of this call have been exited, in reverse order, and
    /// dropped; the others run on.
    pub fn extend<D: Doer + 'a>(&mut self, doers: impl IntoIterator<Item: Into<Deed<D>>>) -> io::Result<Vec<DoerId>> {
        self.deeds.extend(doers, self.tyme, self.temp).map_err(Failure::raise)
    }

    /// Removes doers and exits at once those that run (cease, exit), in the reverse order of their
    /// enters. A doer that is not here is passed over.
    ///
    /// # Errors
    ///
    /// The first of a cease or exit; all of them run.
    pub fn remove(&mut self, doers: impl IntoIterator<Item = DoerId>) -> io::Result<()> {
        self.deeds.remove(doers).map_err(Failure::raise)
    }

    /// Enters all doers that do not run, in the order in which they were added.
    ///
    /// With [`recur`](Self::recur) and [`exit`](Self::exit) for driving by hand: from another event
    /// loop, or to add and remove doers between cycles.
    ///
    /// ```
    /// use hio_udp::{Doist, doify};
    ///
    /// let mut doist = Doist::new();
    /// doist.add(doify(|cue| Ok(cue.tyme >= 1.0)));
    /// doist.enter()?;
    /// while !doist.recur()? {}
    /// doist.exit()?;
    /// assert_eq!(doist.done(), Some(true));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first enter that fails, [once everyone has been exited](Self#when-a-doer-fails).
    pub fn enter(&mut self) -> io::Result<()> {
        self.done = Some(false);
        let entered = self.deeds.enter(self.tyme, self.temp);
        self.exit_all_on_failure(entered)
    }

    /// Runs one cycle: every doer whose time has come, then one tock more; `true` once no doer runs.
    ///
    /// # Errors
    ///
    /// The first recur, clean or exit that fails, [once everyone has been
    /// exited](Self#when-a-doer-fails). Tyme stays as it was.
    pub fn recur(&mut self) -> io::Result<bool> {
        let ran = self.deeds.recur(self.tyme, self.tock);
        self.exit_all_on_failure(ran)?;
        self.tyme += self.tock;
        let is_done = self.running() == 0;
        self.done = Some(is_done);
        Ok(is_done)
    }

    /// Exits all doers that run (cease, exit), in the reverse order of their enters.
    ///
    /// # Errors
    ///
    /// The first of a cease or exit; all of them run.
    pub fn exit(&mut self) -> io::Result<()> {
        self.deeds.exit().map_err(Failure::raise)
    }

    /// Enters all doers, runs cycles until all are done or the limit is reached, and exits whoever
    /// still runs. Gives whether all are done.
    ///
    /// A later run goes on at the tyme at which this one ends.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter), [`recur`](Self::recur) and [`exit`](Self::exit), [once everyone has
    /// been exited](Self#when-a-doer-fails).
    #[doc(alias = "do")]
    pub fn run(&mut self) -> io::Result<bool> {
        self.enter()?;
        let stop = self.limit.map(|limit| self.tyme + limit);
        let tock = Duration::try_from_secs_f64(self.tock).unwrap_or(Duration::MAX);
        let (start, mut due) = (Instant::now(), Duration::ZERO);
        loop {
            let is_done = self.recur()?;
            if self.real {
                // Counted from the start, so that a late cycle is made good by the next ones.
                due = due.saturating_add(tock);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            if is_done || stop.is_some_and(|stop| self.tyme >= stop) {
                self.exit()?;
                return Ok(is_done);
            }
        }
    }

    fn exit_all_on_failure(&mut self, outcome: Result<(), Failure>) -> io::Result<()> {
        if outcome.is_ok() {
            return Ok(());
        }
        self.done = Some(false);
        first_failure(outcome, self.deeds.exit()).map_err(Failure::raise)
    }
}

/// A doer that runs other doers, by its scheduler's tyme.
///
/// Its enter enters them, its recur runs those whose time has come, and it is done when they all are,
/// unless it is made to stay with [`with_always`](Self::with_always). Its exit exits whoever still
/// runs, in reverse order: when one of them fails, this is after the abort of the failing one and
/// after this doer's own abort.
///
/// To add and remove doers while they run, wrap it in a doer of yours:
///
/// ```
/// use hio_udp::{Cue, DoDoer, Doer, Doist, doify};
///
/// /// Starts two more doers after each other.
/// struct Starter<'a>(DoDoer<'a>, u32);
///
/// impl Doer for Starter<'_> {
///     fn enter(&mut self, cue: &mut Cue<'_>) -> std::io::Result<()> {
///         self.0.enter(cue)
///     }
///     fn recur(&mut self, cue: &mut Cue<'_>) -> std::io::Result<bool> {
///         if self.1 > 0 {
///             self.1 -= 1;
///             self.0.extend([doify(|_| Ok(true))])?;
///         }
///         self.0.recur(cue)
///     }
///     fn exit(&mut self, cue: &mut Cue<'_>) -> std::io::Result<()> {
///         self.0.exit(cue)
///     }
/// }
/// let mut doist = Doist::new();
/// doist.add(Starter(DoDoer::new(), 2));
/// assert!(doist.run()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct DoDoer<'a> {
    deeds: Deeds<'a>,
    always: bool,
    /// As its scheduler told last.
    tyme: f64,
    temp: bool,
}

impl<'a> DoDoer<'a> {
    /// A DoDoer without doers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether it goes on when all its doers are done, so that more can be added.
    pub fn with_always(mut self, always: bool) -> Self {
        self.always = always;
        self
    }

    /// How many of its doers run.
    #[doc(alias = "deeds")]
    pub fn running(&self) -> usize {
        self.deeds.running()
    }

    /// The state of one doer's run, as [`Doist::deed`].
    pub fn deed(&self, id: DoerId) -> Option<&Deed<dyn Doer + 'a>> {
        self.deeds.deed(id)
    }

    /// Adds a doer, or a [`Deed`] with settings; it enters when this doer does.
    #[doc(alias = "doers")]
    pub fn add<D: Doer + 'a>(&mut self, doer: impl Into<Deed<D>>) -> DoerId {
        self.deeds.add(doer)
    }

    /// Adds doers and enters them at once, as [`Doist::extend`].
    ///
    /// # Errors
    ///
    /// As [`Doist::extend`].
    pub fn extend<D: Doer + 'a>(&mut self, doers: impl IntoIterator<Item: Into<Deed<D>>>) -> io::Result<Vec<DoerId>> {
        self.deeds.extend(doers, self.tyme, self.temp).map_err(Failure::raise)
    }

    /// Removes doers and exits them at once, as [`Doist::remove`].
    ///
    /// # Errors
    ///
    /// As [`Doist::remove`].
    pub fn remove(&mut self, doers: impl IntoIterator<Item = DoerId>) -> io::Result<()> {
        self.deeds.remove(doers).map_err(Failure::raise)
    }
}

impl Doer for DoDoer<'_> {
    fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        (self.tyme, self.temp) = (cue.tyme, cue.temp);
        self.deeds.enter(cue.tyme, cue.temp).map_err(Failure::raise)
    }

    fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
        self.tyme = cue.tyme;
        self.deeds.recur(cue.tyme, cue.tock).map_err(Failure::raise)?;
        Ok(self.running() == 0 && !self.always)
    }

    fn exit(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.deeds.exit().map_err(Failure::raise)
    }
}
