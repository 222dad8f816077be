//! The goals that `cargo bench` is judged by, and where their figures come from.

use std::collections::BTreeMap;
use std::fmt;

use self::Bound::{AtLeast, AtMost};

/// Up or down to where a figure may go.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not above this.
    AtMost(f64),
    /// Not below this.
    AtLeast(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(bound) => figure <= bound,
            Self::AtLeast(bound) => figure >= bound,
        }
    }
}

/// Part of a goal: figures that are all held to the same bound.
#[derive(Debug)]
pub struct Goal {
    /// Its number.
    pub name: &'static str,
    /// What is measured, against what.
    pub what: &'static str,
    bound: Bound,
    unit: &'static str,
    /// What tells the figures apart, and the keys under which the benches leave them.
    figures: &'static [(&'static str, &'static str)],
}

/// Whether a goal is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every figure was measured, and is within the bound.
    Met,
    /// A figure is beyond the bound.
    Missed,
    /// A figure is missing, and none is beyond the bound.
    NotMeasured,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NotMeasured => "not measured",
        })
    }
}

impl Goal {
    /// What the goal wants.
    pub fn wanted(&self) -> String {
        match self.bound {
            AtMost(bound) => format!("≤ {}", with_unit(bound, self.unit)),
            AtLeast(bound) => format!("≥ {}", with_unit(bound, self.unit)),
        }
    }

    /// What was measured; and in brackets, where a bench has left it, what the barest loop reaches that makes
    /// the same kind of system calls and does nothing else.
    pub fn measured(&self, figures: &BTreeMap<String, f64>) -> String {
        let shown = |(label, key): &(&str, &str)| {
            let figure = figures.get(*key).map_or("not measured".to_owned(), |figure| self.shown(*figure));
            let barest = figures.get(&format!("{key}_barest")).map(|barest| format!(" [{}]", self.shown(*barest)));
            let figure = figure + &barest.unwrap_or_default();
            if label.is_empty() { figure } else { format!("{label}: {figure}") }
        };
        self.figures.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn shown(&self, figure: f64) -> String {
        match self.unit {
            "×" => format!("{figure:.3}"),
            "" if figure >= 1.0 => format!("{figure:.1}"),
            "" => format!("{figure:.5}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            unit => format!("{figure:.1} {unit}"),
        }
    }

    /// Whether it is met.
    pub fn verdict(&self, figures: &BTreeMap<String, f64>) -> Verdict {
        let verdict = |(_, key): &(&str, &str)| match figures.get(*key) {
            None => Verdict::NotMeasured,
            Some(figure) if self.bound.holds(*figure) => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        let verdicts: Vec<Verdict> = self.figures.iter().map(verdict).collect();
        let has = |verdict| verdicts.contains(&verdict);
        match (has(Verdict::Missed), has(Verdict::NotMeasured)) {
            (true, _) => Verdict::Missed,
            (false, true) => Verdict::NotMeasured,
            (false, false) => Verdict::Met,
        }
    }
}

fn with_unit(bound: f64, unit: &str) -> String {
    let bound = if bound == 1.0 / 64.0 { "1/64".to_owned() } else { format!("{bound}") };
    format!("{bound} {unit}").trim_end().to_owned()
}

const fn goal(
    name: &'static str,
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    figures: &'static [(&'static str, &'static str)],
) -> Goal {
    Goal { name, what, bound, unit, figures }
}

/// All of them, in order.
#[rustfmt::skip]
pub const GOALS: &[Goal] = &[
    goal("G1", "drain by fill, against bare recvmmsg with the same option", AtMost(1.02), "×",
        &[("32 B", "g1_32"), ("100 B", "g1_100"), ("256 B", "g1_256"), ("512 B", "g1_512"), ("1240 B", "g1_1240")]),
    goal("G2", "the same against quinn-udp with its defaults", AtMost(0.77), "×",
        &[("32 B", "g2_32"), ("100 B", "g2_100"), ("256 B", "g2_256"), ("512 B", "g2_512"), ("1240 B", "g2_1240")]),
    goal("G3", "io_uring backend against bare recvmmsg, with addresses", AtMost(0.80), "×",
        &[("32 B", "g3_32"), ("100 B", "g3_100")]),
    goal("G3", "the same", AtMost(0.85), "×", &[("1240 B", "g3_1240")]),
    goal("G3", "the barest io_uring loop without addresses, which a gram always has", AtMost(0.68), "×", &[("32 B", "g3_no_addresses_32_barest")]),
    goal("G3", "the same", AtMost(0.74), "×", &[("1240 B", "g3_no_addresses_1240_barest")]),
    goal("G3", "nowhere slower: the worst, and a flood's processor time", AtMost(1.02), "×",
        &[("depths", "g3_depth"), ("sources", "g3_sources"), ("sockets", "g3_sockets"),
          ("other processor 64 B", "g3_core_64"), ("1240 B", "g3_core_1240")]),
    goal("G4", "instructions per datagram: fill and iterate", AtMost(28.0), "", &[("", "fill")]),
    goal("G4", "with drop counter and receive time", AtMost(55.0), "", &[("", "fill_meta")]),
    goal("G4", "receive, one by one", AtMost(45.0), "", &[("", "receive")]),
    goal("G4", "a coalesced segment", AtMost(10.0), "", &[("", "coalesced")]),
    goal("G4", "fill and iterate, io_uring backend", AtMost(40.0), "", &[("", "fill_io_uring")]),
    goal("G5", "flood, 64 B, fill_wait: delivered, against recvmmsg, poll", AtLeast(1.4), "×", &[("mmsg", "g5_64_mmsg_delivered_vs_mmsg"), ("io_uring", "g5_64_io_uring_delivered_vs_mmsg")]),
    goal("G5", "receiver's processor time per datagram, against the same", AtMost(0.5), "×", &[("mmsg", "g5_64_mmsg_cpu_vs_mmsg"), ("io_uring", "g5_64_io_uring_cpu_vs_mmsg")]),
    goal("G5", "delivered, against std and poll", AtLeast(1.6), "×", &[("mmsg", "g5_64_mmsg_delivered_vs_std"), ("io_uring", "g5_64_io_uring_delivered_vs_std")]),
    goal("G5", "of its processor the receiver used", AtMost(70.0), "%", &[("mmsg", "g5_64_mmsg_busy"), ("io_uring", "g5_64_io_uring_busy")]),
    goal("G5", "lost", AtMost(0.0), "%", &[("mmsg", "g5_64_mmsg_loss"), ("io_uring", "g5_64_io_uring_loss")]),
    goal("G6", "latency of fill_wait against recvmmsg, poll; mmsg", AtMost(1.10), "×",
        &[("1,000/s p50", "g6_1000_mmsg_p50_vs_poll"), ("p99", "g6_1000_mmsg_p99_vs_poll"),
          ("20,000/s p50", "g6_20000_mmsg_p50_vs_poll"), ("p99", "g6_20000_mmsg_p99_vs_poll")]),
    goal("G6", "the same; io_uring", AtMost(1.10), "×",
        &[("1,000/s p50", "g6_1000_io_uring_p50_vs_poll"), ("p99", "g6_1000_io_uring_p99_vs_poll"),
          ("20,000/s p50", "g6_20000_io_uring_p50_vs_poll"), ("p99", "g6_20000_io_uring_p99_vs_poll")]),
    goal("G6", "200,000/s: processor time against recvmmsg, epoll", AtMost(0.38), "×",
        &[("mmsg", "g6_200000_mmsg_cpu_vs_epoll"), ("io_uring", "g6_200000_io_uring_cpu_vs_epoll")]),
    goal("G6", "200,000/s: latency, p99", AtMost(150.0), "µs",
        &[("mmsg", "g6_200000_mmsg_p99_us"), ("io_uring", "g6_200000_io_uring_p99_us")]),
    goal("G7", "segmented and coalesced, against quinn-udp: delivered", AtLeast(1.15), "×",
        &[("64 B", "g7_64_delivered"), ("1240 B", "g7_1240_delivered")]),
    goal("G7", "drain of a coalesced queue, against quinn-udp", AtMost(0.55), "×",
        &[("64 B", "g7_64_drain"), ("1240 B", "g7_1240_drain")]),
    goal("G8", "send_batch to 64 destinations, against bare sendmmsg", AtMost(1.02), "×",
        &[("64 B", "g8_64_many_vs_sendmmsg"), ("1240 B", "g8_1240_many_vs_sendmmsg")]),
    goal("G8", "send_batch to one, equal sizes, against std", AtMost(0.90), "×",
        &[("64 B", "g8_64_default_vs_std"), ("connected", "g8_64_default_vs_connected"),
          ("1240 B", "g8_1240_default_vs_std"), ("connected", "g8_1240_default_vs_connected")]),
    goal("G8", "send_batch to one, nothing joined, against std", AtMost(0.90), "×",
        &[("64 B", "g8_64_one_vs_std"), ("connected", "g8_64_one_vs_connected"),
          ("1240 B", "g8_1240_one_vs_std"), ("connected", "g8_1240_one_vs_connected")]),
    goal("G9", "send_batch to one, segmented, against bare sendmmsg", AtMost(0.21), "×", &[("64 B", "g9_64_vs_sendmmsg")]),
    goal("G9", "the same against quinn-udp, segmented", AtMost(1.02), "×",
        &[("64 B", "g9_64_vs_quinn_gso"), ("1240 B", "g9_1240_vs_quinn_gso"),
          ("to a coalescing receiver, 64 B", "g9_64_coalescing_vs_quinn_gso"), ("1240 B", "g9_1240_coalescing_vs_quinn_gso")]),
    goal("G10", "heap allocations after open, all paths together", AtMost(0.0), "", &[("", "g10")]),
    goal("G11", "hand-off to worker and back, per datagram at 64 a ring", AtMost(3.0), "ns", &[("", "g11")]),
    goal("G12", "growth against the bare loop's own", AtMost(1.02), "×",
        &[("64 to 65,536 queued", "g12_depth"), ("1 to 10,000 sources", "g12_sources"), ("1 to 64 sockets", "g12_sockets")]),
    goal("G13", "portable backend against a bare recvfrom loop", AtMost(1.02), "×", &[("32 B", "g13_32"), ("1240 B", "g13_1240")]),
    goal("G14", "overload, io_uring backend against recvmmsg: delivered", AtLeast(1.35), "×", &[("", "g14_delivered")]),
    goal("G14", "lost", AtMost(1.0), "%", &[("", "g14_loss")]),
    goal("G15", "system calls per datagram and one per drain: mmsg, 64 slots", AtMost(1.0 / 64.0), "", &[("", "g15_mmsg")]),
    goal("G15", "io_uring, 128 slots", AtMost(0.01), "", &[("", "g15_io_uring")]),
    goal("G15", "coalescing", AtMost(0.005), "", &[("", "g15_gro")]),
];
