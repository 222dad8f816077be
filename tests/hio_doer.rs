//! Section I of docs/HIO.md: doers, their schedulers, and `PeerDoer`.

mod util;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hio_udp::{Cue, Deed, DoDoer, Doer, Doist, Peer, PeerConfig, PeerDoer, Transport, doify};
use util::noted::{Noted, calls, note};
use util::{TestPeer, any_local, any_local_config, is_free, is_in_use};

for_both_peers!(
    h150_a_doer_that_has_not_run_has_hios_defaults,
    h156_a_peer_that_does_not_open_is_no_error,
    h156_a_strict_peer_that_does_not_open_is_an_error,
    h157_a_doer_that_never_says_done_is_not_done,
    h158_the_peer_is_closed_on_every_path,
    h160_the_peer_is_open_before_the_first_recur,
    h169_extend_opens_at_once_and_remove_closes_at_once,
);

/// What the hooks of several doers did, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    /// Everything since the last time this was asked.
    fn take(&self) -> Vec<String> {
        self.0.take()
    }

    fn doer(&self, name: &'static str) -> Traced {
        Traced { name, trace: self.clone(), done_at: None, faults: BTreeMap::new(), recurs: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Error,
    Panic,
}

/// A doer that notes its hooks, and does what it is told in some of them.
struct Traced {
    name: &'static str,
    trace: Trace,
    /// The recur, counted from 1, that says done.
    done_at: Option<u32>,
    /// By hook; recur's by its number, as "recur 2".
    faults: BTreeMap<String, Fault>,
    recurs: u32,
}

impl Traced {
    fn done_at(mut self, recur: u32) -> Self {
        self.done_at = Some(recur);
        self
    }

    fn fails(mut self, hook: &str, fault: Fault) -> Self {
        self.faults.insert(hook.to_owned(), fault);
        self
    }

    /// Notes `line` and fails if `hook` is to.
    fn hook(&mut self, hook: &str, line: &str) -> io::Result<()> {
        self.trace.0.borrow_mut().push(format!("{} {line}", self.name));
        let told = format!("{} {hook}", self.name);
        match self.faults.get(hook) {
            None => Ok(()),
            Some(Fault::Error) => Err(io::Error::other(told)),
            // Not `panic!`, which would print.
            Some(Fault::Panic) => resume_unwind(Box::new(told)),
        }
    }
}

impl Doer for Traced {
    fn enter(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.recurs = 0;
        self.hook("enter", "enter")
    }
    fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
        self.recurs += 1;
        self.hook(&format!("recur {}", self.recurs), &format!("recur {}", cue.tyme))?;
        Ok(self.done_at == Some(self.recurs))
    }
    fn clean(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.hook("clean", "clean")
    }
    fn cease(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.hook("cease", "cease")
    }
    fn abort(&mut self, _: &mut Cue<'_>, error: &io::Error) -> io::Result<()> {
        self.hook("abort", &format!("abort ({error})"))
    }
    fn exit(&mut self, _: &mut Cue<'_>) -> io::Result<()> {
        self.hook("exit", "exit")
    }
}

/// A Doist of tock 0.25, as in the observations.
fn doist<'a>() -> Doist<'a> {
    Doist::new().with_tock(0.25)
}

/// How a run ended: the text of its error or its panic.
fn run(doist: &mut Doist<'_>) -> Result<bool, String> {
    match catch_unwind(AssertUnwindSafe(|| doist.run())) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(payload) => Err(*payload.downcast::<String>().expect("a panic of Traced")),
    }
}

/// The tymes at which a doer of this tock recurs until tyme 1.
fn tymes_of(tock: f64) -> Vec<f64> {
    let mut tymes = Vec::new();
    let mut doist = doist().with_limit(1.125);
    doist.add(
        Deed::new(doify(|cue| {
            tymes.push(cue.tyme);
            Ok(false)
        }))
        .with_tock(tock),
    );
    doist.run().unwrap();
    drop(doist);
    tymes
}

fn h150_a_doer_that_has_not_run_has_hios_defaults<T: TestPeer>() {
    let deed = Deed::new(PeerDoer::new(T::new(any_local_config()).unwrap(), |_, _| Ok(false)));
    assert_eq!((deed.done(), deed.tock(), deed.temp(), deed.tyme()), (None, 0.0, false, None));
    assert!(deed.opts().is_empty() && !deed.running() && !deed.doer().peer().opened());
    assert_eq!(deed.with_tock(-1.5).tock(), 1.5);
}

#[test]
fn h151_the_limit_makes_a_doer_cease() {
    let trace = Trace::default();
    let mut doist = doist().with_limit(0.5);
    doist.add(trace.doer("a"));
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(trace.take(), ["a enter", "a recur 0", "a recur 0.25", "a cease", "a exit"]);
}

#[test]
fn h152_a_doer_that_is_done_is_cleaned() {
    let trace = Trace::default();
    let mut doist = doist().with_limit(5.0);
    let id = doist.add(trace.doer("a").done_at(2));
    assert_eq!(run(&mut doist), Ok(true));
    assert_eq!(trace.take(), ["a enter", "a recur 0", "a recur 0.25", "a clean", "a exit"]);
    assert_eq!((doist.done(), doist.deed(id).unwrap().done()), (Some(true), Some(true)));
    assert_eq!(doist.tyme(), 0.5);
}

#[test]
fn h153_a_failing_recur_aborts_and_leaves_tyme_alone() {
    let trace = Trace::default();
    let mut doist = doist().with_limit(5.0);
    let id = doist.add(trace.doer("a").fails("recur 2", Fault::Error));
    assert_eq!(run(&mut doist), Err("a recur 2".to_owned()));
    assert_eq!(trace.take(), ["a enter", "a recur 0", "a recur 0.25", "a abort (a recur 2)", "a exit"]);
    assert_eq!((doist.done(), doist.deed(id).unwrap().done()), (Some(false), Some(false)));
    assert_eq!(doist.tyme(), 0.25);
}

#[test]
fn h154_a_failing_enter_exits_those_before_and_enters_nobody_behind() {
    let trace = Trace::default();
    let mut doist = doist();
    doist.add(trace.doer("a"));
    let failing = doist.add(trace.doer("b").fails("enter", Fault::Error));
    doist.add(trace.doer("c"));
    assert_eq!(run(&mut doist), Err("b enter".to_owned()));
    assert_eq!(trace.take(), ["a enter", "b enter", "b abort (b enter)", "b exit", "a cease", "a exit"]);
    assert_eq!((doist.done(), doist.deed(failing).unwrap().done()), (Some(false), Some(false)));
}

#[test]
fn h155_a_panic_goes_on_after_exits_alone() {
    let trace = Trace::default();
    let mut doist = doist();
    doist.add(trace.doer("a"));
    doist.add(trace.doer("b").fails("recur 1", Fault::Panic));
    assert_eq!(run(&mut doist), Err("b recur 1".to_owned()));
    assert_eq!(trace.take(), ["a enter", "b enter", "a recur 0", "b recur 0", "b exit", "a cease", "a exit"]);
    assert_eq!(doist.done(), Some(false));
}

/// A peer that cannot open, and what keeps it from opening.
fn shut_out<T: TestPeer>() -> (T, Peer) {
    let holder: Peer = any_local();
    (T::new(PeerConfig::new().ha((holder.host().to_string(), holder.port()))).unwrap(), holder)
}

fn h156_a_peer_that_does_not_open_is_no_error<T: TestPeer>() {
    let (peer, _holder) = shut_out::<T>();
    let mut seen = Vec::new();
    let doer = PeerDoer::new(peer, |peer, _| {
        seen.push((peer.opened(), peer.receive().unwrap_err().kind()));
        Ok(true)
    });
    let mut deed = Deed::new(doer);
    deed.enter(0.0).unwrap();
    assert!(deed.recur(0.0).unwrap());
    drop(deed);
    assert_eq!(seen, [(false, ErrorKind::NotConnected)]);
}

fn h156_a_strict_peer_that_does_not_open_is_an_error<T: TestPeer>() {
    let (peer, _holder) = shut_out::<T>();
    let trace = Trace::default();
    let mut doer = PeerDoer::new(peer, |_, _| panic!("recur after a failed enter")).strict(true);
    let mut doist = doist();
    doist.add(trace.doer("beside"));
    doist.add(&mut doer);
    assert!(is_in_use(&doist.run().unwrap_err()));
    drop(doist);
    assert_eq!(trace.take(), ["beside enter", "beside cease", "beside exit"]);
    assert!(!doer.peer().opened());
}

fn h157_a_doer_that_never_says_done_is_not_done<T: TestPeer>() {
    let mut doist = doist().with_limit(1.0);
    let id = doist.add(PeerDoer::new(T::new(any_local_config()).unwrap(), |_, _| Ok(false)));
    assert!(!doist.run().unwrap());
    assert_eq!((doist.done(), doist.deed(id).unwrap().done()), (Some(false), Some(false)));
}

fn h158_the_peer_is_closed_on_every_path<T: TestPeer>() {
    type Path = fn(&mut Cue<'_>) -> io::Result<bool>;
    let paths: [(&str, Path); 4] = [
        ("limit", |_| Ok(false)),
        ("done", |_| Ok(true)),
        ("error", |_| Err(io::Error::other("of recur"))),
        ("panic", |_| resume_unwind(Box::new("of recur"))),
    ];
    let mut peer = T::new(any_local_config()).unwrap();
    for (path, recur) in paths {
        let ha = Cell::new(None);
        let mut doer = PeerDoer::new(peer, |peer: &mut T, cue: &mut Cue<'_>| {
            ha.set(peer.opened().then(|| peer.ha()));
            recur(cue)
        });
        let mut doist = doist().with_limit(0.5);
        doist.add(&mut doer);
        let _ = catch_unwind(AssertUnwindSafe(|| doist.run()));
        assert!(is_free(ha.get().expect("open in recur")), "{path}: closed before the Doist goes");
        drop(doist);
        assert!(!doer.peer().opened(), "{path}");
        // The same peer goes into the next run.
        peer = doer.into_peer();
    }

    let mut deed = Deed::new(PeerDoer::new(peer, |_, _| Ok(false)));
    deed.enter(0.0).unwrap();
    deed.close().unwrap();
    assert!(!deed.doer().peer().opened(), "close");
    deed.enter(0.0).unwrap();
    assert_eq!(deed.throw(io::Error::other("thrown")).to_string(), "thrown");
    assert!(!deed.doer().peer().opened(), "throw");
    let mut lent = PeerDoer::new(T::new(any_local_config()).unwrap(), |_, _| Ok(false));
    let mut deed = Deed::new(&mut lent);
    deed.enter(0.0).unwrap();
    drop(deed);
    assert!(!lent.peer().opened(), "drop of the deed");
    let mut doist = doist();
    doist.add(&mut lent);
    doist.enter().unwrap();
    drop(doist);
    assert!(!lent.peer().opened(), "drop of the Doist");
}

#[test]
fn h159_the_peer_is_reopened_and_closed() {
    let peer = Noted::<true>::new(PeerConfig::new()).unwrap();
    let mut doist = doist().with_limit(0.5);
    doist.add(PeerDoer::new(peer, |_, _| {
        note("recur");
        Ok(false)
    }));
    doist.run().unwrap();
    assert_eq!(calls(), ["new", "reopen", "close", "open", "recur", "recur", "close"]);
}

#[test]
fn h159_a_failed_strict_open_is_closed_too() {
    let peer = Noted::<false>::new(PeerConfig::new()).unwrap();
    let mut doist = doist();
    doist.add(PeerDoer::new(peer, |_, _| panic!("recur after a failed enter")).strict(true));
    assert_eq!(run(&mut doist), Err("does not open".to_owned()));
    assert_eq!(calls(), ["new", "reopen", "close", "open", "close"]);
}

fn h160_the_peer_is_open_before_the_first_recur<T: TestPeer>() {
    let mut deed = Deed::new(PeerDoer::new(T::new(any_local_config()).unwrap(), |_, _| Ok(true)));
    deed.enter(0.0).unwrap();
    assert!(deed.doer().peer().opened());
    assert_eq!(deed.done(), Some(false));
}

#[test]
fn h160_a_tock_does_not_delay_the_first_recur() {
    let trace = Trace::default();
    let mut doist = doist();
    doist.add(Deed::new(trace.doer("a")).with_tock(5.0));
    doist.enter().unwrap();
    doist.recur().unwrap();
    assert_eq!(trace.take(), ["a enter", "a recur 0"]);
}

#[test]
fn h161_tyme_starts_at_zero_and_grows_by_tock() {
    let trace = Trace::default();
    let mut doist = doist().with_limit(1.0);
    doist.add(trace.doer("a"));
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(
        trace.take(),
        ["a enter", "a recur 0", "a recur 0.25", "a recur 0.5", "a recur 0.75", "a cease", "a exit"]
    );
    assert_eq!(doist.tyme(), 1.0);
    assert_eq!(Doist::new().tock(), 0.03125);
}

#[test]
fn h161_the_limit_counts_from_the_start_of_each_run() {
    let trace = Trace::default();
    let mut doist = doist().with_tyme(10.0).with_limit(0.5);
    doist.add(trace.doer("a"));
    let hooks = |first: &str, second: &str| {
        ["a enter".to_owned(), format!("a recur {first}"), format!("a recur {second}")].map(String::from)
    };
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(trace.take()[..3], hooks("10", "10.25"));
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(trace.take()[..3], hooks("10.5", "10.75"));
    doist.set_tyme(0.0);
    doist.set_limit(-0.25);
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(trace.take(), ["a enter", "a recur 0", "a cease", "a exit"]);
    assert_eq!(doist.tyme(), 0.25);
}

#[test]
fn h161_a_tyme_that_is_not_finite_counts_as_zero() {
    for tyme in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Doist::new().with_tyme(tyme).tyme(), 0.0, "or it would never reach the limit");
        let mut doist = doist().with_tyme(10.0);
        doist.set_tyme(tyme);
        assert_eq!(doist.tyme(), 0.0);
    }
}

#[test]
fn h162_tock_says_in_which_cycles_a_doer_runs() {
    let every_cycle = [0.0, 0.25, 0.5, 0.75, 1.0];
    assert_eq!(tymes_of(0.0), every_cycle);
    assert_eq!(tymes_of(0.1), every_cycle);
    assert_eq!(tymes_of(0.5), [0.0, 0.5, 1.0]);
    assert_eq!(tymes_of(-0.5), [0.0, 0.5, 1.0]);
    assert_eq!(tymes_of(f64::NAN), every_cycle);
}

#[test]
fn h162_a_tock_set_while_running_counts_from_this_turn() {
    let mut tymes = Vec::new();
    let mut doist = doist().with_limit(2.0);
    doist.add(doify(|cue| {
        tymes.push(cue.tyme);
        cue.tock = if cue.tyme < 0.5 { 0.0 } else { 0.75 };
        Ok(false)
    }));
    doist.run().unwrap();
    drop(doist);
    assert_eq!(tymes, [0.0, 0.25, 0.5, 1.25]);
}

/// Its turns count from its first one, not from a tyme that its scheduler was told before.
#[test]
fn h162_a_doer_that_joins_late_has_its_turns_a_tock_apart() {
    /// Gives a DoDoer one more doer in a turn of its own, while the DoDoer knows the tyme of the turn before.
    struct Late<'a>(DoDoer<'a>, &'a RefCell<Vec<f64>>);

    impl Doer for Late<'_> {
        fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
            self.0.enter(cue)
        }
        fn recur(&mut self, cue: &mut Cue<'_>) -> io::Result<bool> {
            if cue.tyme == 2.0 {
                let tymes = self.1;
                let doer = doify(move |cue: &mut Cue<'_>| {
                    tymes.borrow_mut().push(cue.tyme);
                    Ok(false)
                });
                self.0.extend([Deed::new(doer).with_tock(3.0)])?;
            }
            self.0.recur(cue)
        }
    }
    let tymes = RefCell::new(Vec::new());
    let mut doist = Doist::new().with_tock(1.0).with_limit(9.0);
    doist.add(Late(DoDoer::new().with_always(true), &tymes));
    doist.run().unwrap();
    drop(doist);
    assert_eq!(tymes.take(), [2.0, 5.0, 8.0]);

    // A deed that runs already has its next turn with the next cycle, too.
    for start in [-10.0, 100.0] {
        let mut deed = Deed::new(doify(|cue| {
            tymes.borrow_mut().push(cue.tyme - start);
            Ok(false)
        }));
        deed.enter(start).unwrap();
        let mut doist = Doist::new().with_tyme(start).with_tock(1.0).with_limit(6.0);
        doist.add(deed.with_tock(3.0));
        doist.run().unwrap();
        drop(doist);
        assert_eq!(tymes.take(), [0.0, 3.0], "{start}");
    }
}

#[test]
fn h163_without_a_limit_only_done_ends_a_run() {
    for limit in [None, Some(0.0)] {
        let trace = Trace::default();
        let mut doist = limit.map_or_else(doist, |limit| doist().with_limit(limit));
        assert_eq!(doist.limit(), None);
        doist.add(trace.doer("a").done_at(1_000));
        assert_eq!(run(&mut doist), Ok(true));
        assert_eq!(doist.tyme(), 250.0);
    }
}

#[test]
fn h163_without_doers_a_run_is_done_after_one_cycle() {
    let mut doist = doist();
    assert_eq!(doist.done(), None);
    assert_eq!(run(&mut doist), Ok(true));
    assert_eq!((doist.done(), doist.tyme()), (Some(true), 0.25));
}

#[test]
fn h164_options_reach_the_hooks_and_an_unknown_one_is_ignored() {
    let mut seen = None;
    let doer = doify(|cue| {
        seen = cue.opts.get("color").cloned();
        Ok(true)
    });
    let mut doist = doist();
    doist.add(Deed::new(doer).with_opt("color", "blue").with_opt("nobody asks", "for this"));
    assert!(doist.run().unwrap());
    drop(doist);
    assert_eq!(seen.as_deref(), Some("blue"));
}

/// Tells the temp it is told in enter.
struct SeesTemp<'a>(&'a Cell<Option<bool>>);

impl Doer for SeesTemp<'_> {
    fn enter(&mut self, cue: &mut Cue<'_>) -> io::Result<()> {
        self.0.set(Some(cue.temp));
        Ok(())
    }
}

#[test]
fn h165_temp_is_the_doers_wish_or_its_schedulers() {
    let seen = Cell::new(None);
    for (of_doist, of_doer, told) in
        [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
    {
        let mut direct = doist().with_temp(of_doist);
        direct.add(Deed::new(SeesTemp(&seen)).with_temp(of_doer));
        direct.enter().unwrap();
        assert_eq!(seen.take(), Some(told), "{of_doist} {of_doer}");

        let mut inner = DoDoer::new();
        inner.add(SeesTemp(&seen));
        let mut nested = doist().with_temp(of_doist);
        nested.add(Deed::new(inner).with_temp(of_doer));
        nested.enter().unwrap();
        assert_eq!(seen.take(), Some(told), "{of_doist} {of_doer}, nested");
    }
}

#[test]
fn h166_temp_does_not_leak_to_the_next_doer() {
    let seen = [Cell::new(None), Cell::new(None)];
    let mut doist = doist();
    doist.add(Deed::new(SeesTemp(&seen[0])).with_temp(true));
    doist.add(SeesTemp(&seen[1]));
    doist.enter().unwrap();
    assert_eq!(seen.each_ref().map(Cell::get), [Some(true), Some(false)]);
}

#[test]
fn h167_exits_come_in_the_reverse_order_of_enters() {
    let trace = Trace::default();
    let mut doist = doist().with_limit(0.25);
    for name in ["a", "b", "c"] {
        doist.add(trace.doer(name));
    }
    assert_eq!(run(&mut doist), Ok(false));
    assert_eq!(trace.take()[6..], ["c cease", "c exit", "b cease", "b exit", "a cease", "a exit"]);
    // The same for a Doist that is dropped.
    doist.enter().unwrap();
    trace.take();
    drop(doist);
    assert_eq!(trace.take(), ["c cease", "c exit", "b cease", "b exit", "a cease", "a exit"]);
}

#[test]
fn h167_after_a_failure_in_mid_pass_too() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    for failing in NAMES {
        for fault in [Fault::Error, Fault::Panic] {
            let trace = Trace::default();
            let mut doist = doist();
            for name in NAMES {
                let doer = trace.doer(name);
                doist.add(if name == failing { doer.fails("recur 2", fault) } else { doer });
            }
            assert_eq!(run(&mut doist), Err(format!("{failing} recur 2")));

            let mut wanted = vec![format!("{failing} recur 0.25")];
            if fault == Fault::Error {
                wanted.push(format!("{failing} abort ({failing} recur 2)"));
            }
            wanted.push(format!("{failing} exit"));
            for other in NAMES.iter().rev().filter(|name| **name != failing) {
                wanted.extend([format!("{other} cease"), format!("{other} exit")]);
            }
            let trace = trace.take();
            assert_eq!(trace[trace.len() - wanted.len()..], wanted, "{failing} {fault:?}");
        }
    }
}

#[test]
fn h167_no_failing_hook_keeps_another_doer_from_its_exit() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let faults = [Fault::Error, Fault::Panic];
    for first in faults {
        for (hook, later) in ["abort", "cease", "exit"].into_iter().flat_map(|hook| faults.map(|fault| (hook, fault))) {
            let trace = Trace::default();
            let mut doist = doist();
            for name in NAMES {
                let doer = trace.doer(name).fails(hook, later);
                doist.add(if name == "b" { doer.fails("recur 1", first) } else { doer });
            }
            let told = run(&mut doist).unwrap_err();
            // The first failure travels out, unless a panic comes behind an error.
            let panics = later == Fault::Panic && first == Fault::Error;
            let wanted = match hook {
                _ if !panics => "b recur 1",
                "abort" => "b abort",
                "cease" => "c cease",
                _ => "b exit",
            };
            assert_eq!(told, wanted, "{first:?}, {hook} {later:?}");
            let exits: Vec<String> = trace.take().into_iter().filter(|line| line.ends_with("exit")).collect();
            assert_eq!(exits, ["b exit", "c exit", "a exit"], "{first:?}, {hook} {later:?}");
            assert_eq!(doist.running(), 0);
        }
    }
}

#[test]
fn h167_a_failing_clean_or_exit_ends_the_run_too() {
    for hook in ["clean", "exit"] {
        let trace = Trace::default();
        let mut doist = doist();
        doist.add(trace.doer("a"));
        let done = doist.add(trace.doer("b").done_at(1).fails(hook, Fault::Error));
        assert_eq!(run(&mut doist), Err(format!("b {hook}")));
        assert_eq!(trace.take()[4..], ["b clean", "b exit", "a cease", "a exit"]);
        assert_eq!((doist.done(), doist.deed(done).unwrap().done()), (Some(false), Some(true)));
    }
}

#[test]
fn h168_a_deed_is_driven_by_hand() {
    let trace = Trace::default();
    let mut deed = Deed::new(trace.doer("a").done_at(2)).with_tock(0.5);
    deed.close().unwrap();
    assert_eq!(deed.throw(io::Error::other("unheard")).to_string(), "unheard");
    assert!(deed.recur(0.0).unwrap());
    assert_eq!(trace.take(), [""; 0], "nothing runs before enter");

    deed.enter(3.0).unwrap();
    assert_eq!((deed.tyme(), deed.tock(), deed.done()), (Some(3.0), 0.5, Some(false)));
    assert!(!deed.recur(4.0).unwrap());
    assert!(deed.recur(5.0).unwrap());
    assert_eq!(trace.take(), ["a enter", "a recur 4", "a recur 5", "a clean", "a exit"]);
    assert_eq!((deed.tyme(), deed.done()), (Some(5.0), Some(true)));
    assert!(deed.recur(6.0).unwrap());
    deed.close().unwrap();
    assert_eq!(trace.take(), [""; 0], "nothing runs after the end");

    deed.enter(0.0).unwrap();
    deed.close().unwrap();
    assert_eq!(trace.take(), ["a enter", "a cease", "a exit"]);
    assert_eq!(deed.done(), Some(false));

    deed.enter(0.0).unwrap();
    assert_eq!(deed.throw(io::Error::other("thrown")).to_string(), "thrown");
    assert_eq!(trace.take(), ["a enter", "a abort (thrown)", "a exit"]);

    deed.enter(0.0).unwrap();
    deed.enter(0.0).unwrap();
    assert_eq!(trace.take(), ["a enter", "a cease", "a exit", "a enter"], "a run in hand is closed first");
    drop(deed);
    assert_eq!(trace.take(), ["a cease", "a exit"]);
}

fn h169_extend_opens_at_once_and_remove_closes_at_once<T: TestPeer>() {
    let peer: T = any_local();
    let ha = peer.ha();
    let (trace, mut doist) = (Trace::default(), doist());
    let beside = doist.add(trace.doer("beside"));
    doist.enter().unwrap();
    assert!(!doist.recur().unwrap());
    let mut doer = PeerDoer::new(peer, |_, _| Ok(false));
    doer.peer_mut().close();
    assert!(is_free(ha));

    let ids = doist.extend([doer]).unwrap();
    assert!(!is_free(ha), "open before the next cycle");
    assert!(!doist.recur().unwrap());
    doist.remove(ids.iter().copied()).unwrap();
    assert!(is_free(ha));
    assert!(doist.deed(ids[0]).is_none() && doist.deed(beside).is_some());
    // Twice does nothing.
    doist.remove(ids).unwrap();
    assert!(!doist.recur().unwrap());
    assert_eq!(doist.running(), 1);
    doist.exit().unwrap();
    assert_eq!(
        trace.take()[1..],
        ["beside recur 0", "beside recur 0.25", "beside recur 0.5", "beside cease", "beside exit"]
    );
}

#[test]
fn h169_extend_enters_in_order_and_remove_exits_in_reverse() {
    let (trace, mut doist) = (Trace::default(), doist());
    doist.add(trace.doer("a"));
    doist.enter().unwrap();
    let ids = doist.extend([trace.doer("b"), trace.doer("c")]).unwrap();
    doist.recur().unwrap();
    doist.remove(ids).unwrap();
    assert_eq!(
        trace.take(),
        [
            "a enter",
            "b enter",
            "c enter",
            "a recur 0",
            "b recur 0",
            "c recur 0",
            "c cease",
            "c exit",
            "b cease",
            "b exit"
        ]
    );
}

#[test]
fn h169_an_extend_that_fails_leaves_nothing_of_itself() {
    let (trace, mut doist) = (Trace::default(), doist());
    doist.add(trace.doer("a"));
    doist.enter().unwrap();
    let doers = [trace.doer("b"), trace.doer("c").fails("enter", Fault::Error), trace.doer("d")];
    assert_eq!(doist.extend(doers).unwrap_err().to_string(), "c enter");
    doist.recur().unwrap();
    assert_eq!(doist.running(), 1);
    assert_eq!(
        trace.take(),
        ["a enter", "b enter", "c enter", "c abort (c enter)", "c exit", "b cease", "b exit", "a recur 0"]
    );
}

#[test]
fn h169_an_extend_that_panics_leaves_nothing_of_itself() {
    let made = Cell::new(0);
    let mut doist = doist();
    doist.enter().unwrap();
    let doers = (0..2).map(|i| {
        assert_eq!(i, 0, "no second one");
        made.set(made.get() + 1);
        doify(|_: &mut Cue<'_>| Ok(false))
    });
    catch_unwind(AssertUnwindSafe(|| doist.extend(doers))).unwrap_err();
    doist.enter().unwrap();
    assert_eq!((made.get(), doist.running()), (1, 0));
}

#[test]
fn h169_a_doer_added_without_extend_enters_with_the_next_enter() {
    let (trace, mut doist) = (Trace::default(), doist());
    doist.add(trace.doer("a").done_at(1));
    doist.add(trace.doer("b"));
    doist.enter().unwrap();
    doist.recur().unwrap();
    doist.add(trace.doer("c"));
    trace.take();
    doist.enter().unwrap();
    doist.exit().unwrap();
    // b has run on; exits follow the order of enters, not of adding.
    assert_eq!(trace.take(), ["a enter", "c enter", "c cease", "c exit", "a cease", "a exit", "b cease", "b exit"]);
}

#[test]
fn h170_doers_in_a_do_doer_run_as_under_a_doist() {
    let trace = Trace::default();
    let mut inner = DoDoer::new();
    inner.add(trace.doer("b"));
    inner.add(Deed::new(trace.doer("c")).with_tock(0.5));
    let mut doist = doist().with_limit(0.5);
    doist.add(trace.doer("a"));
    doist.add(inner);
    doist.add(trace.doer("d"));
    assert_eq!(run(&mut doist), Ok(false));
    let cycles = ["a recur 0", "b recur 0", "c recur 0", "d recur 0", "a recur 0.25", "b recur 0.25", "d recur 0.25"];
    let trace = trace.take();
    assert_eq!(trace[..4], ["a enter", "b enter", "c enter", "d enter"]);
    assert_eq!(trace[4..11], cycles);
    let exits = ["d cease", "d exit", "c cease", "c exit", "b cease", "b exit", "a cease", "a exit"];
    assert_eq!(trace[11..], exits);
}

#[test]
fn h170_a_do_doer_is_done_when_its_doers_are() {
    let trace = Trace::default();
    let mut inner = DoDoer::new();
    inner.add(trace.doer("b").done_at(1));
    inner.add(trace.doer("c").done_at(2));
    let mut doist = doist().with_limit(5.0);
    doist.add(inner);
    assert_eq!(run(&mut doist), Ok(true));
    assert_eq!(doist.tyme(), 0.5);
    let wanted = ["b recur 0", "b clean", "b exit", "c recur 0", "c recur 0.25", "c clean", "c exit"];
    assert_eq!(trace.take()[2..], wanted);

    let mut staying = Deed::new(DoDoer::new().with_always(true));
    staying.enter(0.0).unwrap();
    assert!(!staying.recur(0.0).unwrap(), "goes on without doers");
    let ids = staying.doer_mut().extend([trace.doer("e").done_at(1)]).unwrap();
    assert!(!staying.recur(0.25).unwrap());
    assert_eq!(staying.doer().deed(ids[0]).unwrap().done(), Some(true));
    staying.doer_mut().remove(ids).unwrap();
    assert_eq!(trace.take(), ["e enter", "e recur 0.25", "e clean", "e exit"]);
}

#[test]
fn h170_a_failure_in_a_do_doer_exits_inside_and_outside() {
    for (fault, abort) in [(Fault::Error, &["b abort (b recur 1)"][..]), (Fault::Panic, &[])] {
        let trace = Trace::default();
        let mut inner = DoDoer::new();
        inner.add(trace.doer("b").fails("recur 1", fault));
        inner.add(trace.doer("c"));
        let mut doist = doist();
        doist.add(trace.doer("a"));
        doist.add(inner);
        doist.add(trace.doer("d"));
        assert_eq!(run(&mut doist), Err("b recur 1".to_owned()));
        let mut wanted = vec!["a recur 0", "b recur 0"];
        wanted.extend(abort);
        wanted.extend(["b exit", "c cease", "c exit", "d cease", "d exit", "a cease", "a exit"]);
        assert_eq!(trace.take()[4..], wanted);
    }
}

#[test]
fn h172_real_time_keeps_to_the_clock() {
    let trace = Trace::default();
    let mut doist = Doist::new().with_real(true).with_limit(0.5);
    doist.add(trace.doer("a"));
    let start = Instant::now();
    assert_eq!(run(&mut doist), Ok(false));
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!((doist.tyme(), trace.take().len()), (0.5, 1 + 16 + 2));
}
