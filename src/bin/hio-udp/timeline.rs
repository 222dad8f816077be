//! Counts over time, in fixed memory, whatever the span turns out to be.

use crate::packets::Nanos;

/// Most intervals kept.
const INTERVALS_MAX: usize = 1024;

/// The shortest interval: a millisecond.
const SHORTEST: Nanos = 1_000_000;

/// Counts of equal intervals without a hole. When they become too many, each two are made one, of twice the
/// length; intervals begin at multiples of their length, so this mixes nothing.
pub struct Timeline {
    length: Nanos,
    /// Number of the first interval since 1970.
    first: Nanos,
    counts: Vec<u64>,
}

impl Timeline {
    pub fn new() -> Self {
        Self { length: SHORTEST, first: 0, counts: Vec::new() }
    }

    pub fn add(&mut self, time: Nanos, count: u64) {
        let mut number = time.div_euclid(self.length);
        if self.counts.is_empty() {
            self.first = number;
        }
        while self.span_with(number) > INTERVALS_MAX as Nanos {
            self.halve();
            number = number.div_euclid(2);
        }
        if number < self.first {
            let missing = (self.first - number) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = number;
        }
        let index = (number - self.first) as usize;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
    }

    /// How many intervals there would be with this one.
    fn span_with(&self, number: Nanos) -> Nanos {
        let last = self.first + self.counts.len().max(1) as Nanos - 1;
        last.max(number) - self.first.min(number) + 1
    }

    fn halve(&mut self) {
        let first = self.first.div_euclid(2);
        let mut halved = vec![0; self.counts.len() / 2 + 1];
        for (number, count) in (self.first..).zip(&self.counts) {
            halved[(number.div_euclid(2) - first) as usize] += count;
        }
        (self.length, self.first, self.counts) = (2 * self.length, first, halved);
        while self.counts.last() == Some(&0) && self.counts.len() > 1 {
            self.counts.pop();
        }
    }

    /// Length of an interval in nanoseconds.
    pub fn length(&self) -> Nanos {
        self.length
    }

    /// When the first interval begins.
    pub fn start(&self) -> Nanos {
        self.first * self.length
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// At most `columns` neighbours: the count of each and how many intervals it is of. The last one may be
    /// of fewer.
    pub fn columns(&self, columns: usize) -> Vec<(u64, usize)> {
        let each = self.counts.len().div_ceil(columns.max(1)).max(1);
        self.counts.chunks(each).map(|part| (part.iter().sum(), part.len())).collect()
    }
}

/// Bars of these heights in so many lines, the highest first, drawn with eighths of a block.
pub fn bars(heights: &[f64], lines: usize) -> Vec<String> {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = heights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let total = |height: f64| {
        let eighths = (height / highest * 8.0 * lines as f64).round() as usize;
        // Something is never drawn as nothing.
        eighths.max(usize::from(height > 0.0))
    };
    let line =
        |line: usize| heights.iter().map(|height| EIGHTHS[total(*height).saturating_sub(8 * line).min(8)]).collect();
    (0..lines).rev().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_however_far_apart_times_are_and_in_any_order() {
        let mut timeline = Timeline::new();
        let times = [5, 0, -7, 1_000_000_000, 3_600_000_000_000, -86_400_000_000_000, i128::from(u64::MAX), 6];
        for (n, time) in times.into_iter().enumerate() {
            timeline.add(time, 10);
            assert_eq!(timeline.counts().iter().sum::<u64>(), 10 * (n as u64 + 1));
            assert!(timeline.counts().len() <= INTERVALS_MAX);
            assert!(timeline.start() <= time && time < timeline.start() + timeline.length() * INTERVALS_MAX as i128);
        }
        // As far apart as any file can say.
        timeline.add((1 << 98) - 1, 1);
        timeline.add(-(1 << 98), 1);
        assert_eq!(timeline.counts().iter().sum::<u64>(), 82);
    }

    #[test]
    fn intervals_double_only_when_they_must() {
        let mut timeline = Timeline::new();
        (0..1024).for_each(|ms| timeline.add(ms * SHORTEST, 1));
        assert_eq!((timeline.length(), timeline.counts()), (SHORTEST, &[1; 1024][..]));
        timeline.add(1024 * SHORTEST, 1);
        assert_eq!((timeline.length(), timeline.counts().len()), (2 * SHORTEST, 513));
        assert_eq!(timeline.columns(100), [(12, 6); 85].into_iter().chain([(5, 3)]).collect::<Vec<_>>());
    }

    #[test]
    fn bars_are_as_high_as_their_numbers() {
        assert_eq!(bars(&[0.0, 1.0, 8.0, 16.0], 2), ["   █", " ▁██"]);
        assert_eq!(bars(&[0.0, 1e-9, 1.0], 1), [" ▁█"]);
        assert_eq!(bars(&[], 2), ["", ""]);
        assert_eq!(bars(&[0.0], 1), [" "]);
    }
}
