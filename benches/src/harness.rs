//! Paired measurement: all contestants take turns, many times, in one run.

use std::env;

/// One way of doing the work; each call is one measurement of `M` figures.
pub struct Contestant<'a, const M: usize> {
    name: String,
    run: Box<dyn FnMut() -> [f64; M] + 'a>,
}

impl<'a, const M: usize> Contestant<'a, M> {
    /// A contestant by its name in the table.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> [f64; M] + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Median and quartiles of one figure over all rounds.
#[derive(Clone, Copy, Debug)]
pub struct Quartiles {
    /// A quarter of the rounds was below.
    pub low: f64,
    /// Half of the rounds was below.
    pub median: f64,
    /// A quarter of the rounds was above.
    pub high: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

/// What one contestant reached.
#[derive(Clone, Debug)]
pub struct Outcome<const M: usize> {
    /// Its name.
    pub name: String,
    /// Its figures, in the order it gave them.
    pub figures: [Quartiles; M],
}

/// Rounds that come first and do not count: caches, page faults, lazily made kernel memory.
const WARM_UP: usize = 2;

/// Lets all contestants take turns for `count` rounds, each round in another order: what one leaves in
/// the caches then meets every other one, not always the same.
pub fn rounds<const M: usize>(count: usize, contestants: &mut [Contestant<'_, M>]) -> Vec<Outcome<M>> {
    let (warm_up, count) = if is_smoke_test() { (0, 1) } else { (WARM_UP, count) };
    let mut values = vec![[(); M].map(|()| Vec::with_capacity(count)); contestants.len()];
    let (mut order, mut random): (Vec<usize>, u64) = ((0..contestants.len()).collect(), 1);
    for round in 0..warm_up + count {
        for at in (1..order.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, (random >> 33) as usize % (at + 1));
        }
        for at in &order {
            let measured = (contestants[*at].run)();
            if round >= warm_up {
                measured.into_iter().zip(&mut values[*at]).for_each(|(figure, values)| values.push(figure));
            }
        }
    }
    let outcome = |(contestant, values): (&Contestant<'_, M>, [Vec<f64>; M])| Outcome {
        name: contestant.name.clone(),
        figures: values.map(Quartiles::of),
    };
    contestants.iter().zip(values).map(outcome).collect()
}

/// Whether everything is only to run once, to see that it works: `cargo bench -- --test`, and
/// `cargo test --benches`, where cargo does not pass `--bench`.
pub fn is_smoke_test() -> bool {
    let has = |wanted| env::args().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}

/// Prints one figure of every contestant, and its ratio to the contestants named in `references`.
pub fn print_table<const M: usize>(title: &str, outcomes: &[Outcome<M>], figure: usize, references: &[&str]) {
    println!("\n{title}");
    let width = outcomes.iter().map(|outcome| outcome.name.chars().count()).max().unwrap_or(0);
    print!("  {:<width$} {:>9} {:>19}", "", "median", "quartiles");
    references.iter().for_each(|reference| print!("  × {reference}"));
    println!();
    for outcome in outcomes {
        let Quartiles { low, median, high } = outcome.figures[figure];
        print!("  {:<width$} {median:>9.1} {:>19}", outcome.name, format!("{low:.1} – {high:.1}"));
        for reference in references {
            let ratio = ratio(outcomes, &outcome.name, reference, figure).unwrap_or(f64::NAN);
            print!("  {ratio:>width$.3}", width = reference.chars().count() + 2);
        }
        println!();
    }
}

/// Median of one figure of a contestant, if it took part.
pub fn median<const M: usize>(outcomes: &[Outcome<M>], name: &str, figure: usize) -> Option<f64> {
    outcomes.iter().find(|outcome| outcome.name == name).map(|outcome| outcome.figures[figure].median)
}

/// Ratio of two contestants' medians, if both took part.
pub fn ratio<const M: usize>(outcomes: &[Outcome<M>], name: &str, reference: &str, figure: usize) -> Option<f64> {
    Some(median(outcomes, name, figure)? / median(outcomes, reference, figure)?)
}
