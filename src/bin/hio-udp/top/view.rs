//! The drawing of the view, from plain data.
//!
//! What is told comes in sections, each with a rank: on a small terminal those that rank lower have to go.

use std::cmp::Reverse;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline};

use super::rates::{History, ListenerRates, Point, Rate, Rates, ShardRates, SinkRates, SourceRates};
use crate::account::grouped;
use crate::status::size;

/// Heights of the bars of the histogram, in eighths of a row.
const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Everything that a view tells, but for what keys change.
#[derive(Clone, Default)]
pub struct Picture {
    pub rates: Rates,
    pub history: History,
    pub sources: Vec<SourceRates>,
    /// How many datagrams may be missing from the count of each source.
    pub missing_max: u64,
    /// Notes that would have been said on standard error, oldest first.
    pub notes: Vec<String>,
}

/// What keys change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    pub is_paused: bool,
    pub is_help: bool,
    pub order: Order,
    pub has_colour: bool,
}

/// What makes a source heavy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    #[default]
    Datagrams,
    Bytes,
}

impl Order {
    pub fn other(self) -> Self {
        match self {
            Self::Datagrams => Self::Bytes,
            Self::Bytes => Self::Datagrams,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Bytes => "bytes",
        }
    }

    fn of(self, source: &SourceRates) -> Rate {
        match self {
            Self::Datagrams => source.datagrams,
            Self::Bytes => source.bytes,
        }
    }
}

/// Some rows of the view.
struct Section {
    content: Content,
    /// It takes so many rows at least, or goes.
    least: usize,
    most: usize,
    /// Lower ranks have their rows first.
    rank: usize,
}

enum Content {
    /// Of which the last tells how many there are besides, if not all can be shown.
    Table(Vec<Line<'static>>),
    /// Of which those that are too many may go without a word.
    Ranking(Vec<Line<'static>>),
    /// Of the last minutes, side by side, each with a caption.
    Charts,
}

impl Section {
    fn table(rank: usize, least: usize, lines: Vec<Line<'static>>) -> Self {
        Self { least: least.min(lines.len()), most: lines.len(), content: Content::Table(lines), rank }
    }

    fn ranking(rank: usize, least: usize, lines: Vec<Line<'static>>) -> Self {
        Self { least: least.min(lines.len()), most: lines.len(), content: Content::Ranking(lines), rank }
    }
}

pub fn draw(frame: &mut Frame<'_>, picture: &Picture, mode: &Mode) {
    let area = frame.area();
    let sections = sections(picture, mode);
    // The keys are always in the last row.
    let heights = heights(&sections, usize::from(area.height.saturating_sub(1)));
    let mut y = area.y;
    for (section, height) in sections.into_iter().zip(heights) {
        let place = Rect { y, height: height as u16, ..area };
        y += place.height;
        match section.content {
            Content::Table(lines) => frame.render_widget(Paragraph::new(cut(lines, height)), place),
            Content::Ranking(lines) => frame.render_widget(Paragraph::new(lines), place),
            Content::Charts if height > 1 => charts(frame, place, &picture.history, mode),
            Content::Charts => {}
        }
    }
    if area.height > 1 {
        let place = Rect { y: area.bottom() - 1, height: 1, ..area };
        let keys = format!(" q stop   p {}   s sort   ? help ", if mode.is_paused { "go on" } else { "pause" });
        frame.render_widget(Paragraph::new(keys).reversed(), place);
    }
    if mode.is_help {
        help(frame, area);
    }
}

/// Rows for each section: what it needs at least, by rank, and then what it can use, by rank too, but charts last.
fn heights(sections: &[Section], rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|i| sections[*i].rank);
    let (mut heights, mut left) = (vec![0; sections.len()], rows);
    for i in &order {
        if sections[*i].least <= left {
            heights[*i] = sections[*i].least;
            left -= heights[*i];
        }
    }
    order.sort_by_key(|i| (matches!(sections[*i].content, Content::Charts), sections[*i].rank));
    for i in order {
        if heights[i] > 0 {
            let more = (sections[i].most - heights[i]).min(left);
            heights[i] += more;
            left -= more;
        }
    }
    heights
}

/// The first lines, and how many there are besides.
fn cut(mut lines: Vec<Line<'static>>, height: usize) -> Vec<Line<'static>> {
    if lines.len() > height && height > 1 {
        let more = lines.len() - height + 1;
        lines.truncate(height - 1);
        lines.push(Line::from(format!("  … {more} more")).dim());
    }
    lines
}

fn sections(picture: &Picture, mode: &Mode) -> Vec<Section> {
    let Picture { rates, sources, missing_max, notes, .. } = picture;
    let paint = Paint { has_colour: mode.has_colour };
    vec![
        Section::table(0, 1, vec![title(rates, mode)]),
        Section::table(5, 1, rates.listeners.iter().map(bound).collect()),
        Section::table(1, 1, vec![received(rates)]),
        Section::table(2, 1, vec![lost(rates, &paint)]),
        Section::table(3, 1, vec![turned_away(rates, &paint)]),
        Section { content: Content::Charts, least: 2, most: 7, rank: 4 },
        Section::table(10, 3, batches(rates)),
        Section::table(7, 2, shards(rates, &paint)),
        Section::table(6, 2, sinks(rates, &paint)),
        Section::ranking(8, 2, heaviest(sources, *missing_max, rates, mode)),
        Section::ranking(9, 1, notes.iter().rev().map(|note| paint.note(note)).collect()),
    ]
}

/// What looks how.
struct Paint {
    has_colour: bool,
}

impl Paint {
    fn colour(&self, colour: Color) -> Style {
        if self.has_colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(&self) -> Style {
        self.colour(Color::Green)
    }

    fn bad(&self) -> Style {
        self.colour(Color::Red)
    }

    /// Something that ought to be nothing.
    fn alarm(&self, text: String, is_on: bool) -> Span<'static> {
        if is_on { Span::styled(text, self.bad().bold()) } else { Span::raw(text) }
    }

    fn note(&self, text: &str) -> Line<'static> {
        // Names of files may have anything in them.
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Line::styled(plain, self.colour(Color::Yellow))
    }
}

fn charts(frame: &mut Frame<'_>, area: Rect, history: &History, mode: &Mode) {
    type Chart = (&'static str, fn(&Point) -> f64, fn(u64) -> String, Style);
    let paint = Paint { has_colour: mode.has_colour };
    let received: Chart = ("datagrams/s", |point| point.received, grouped, paint.good());
    let bytes: Chart = ("bytes/s", |point| point.bytes, size, paint.good());
    let lost: Chart = ("lost/s", |point| point.dropped, grouped, paint.bad());
    let charts = match area.width {
        0..40 => vec![received],
        40..70 => vec![received, lost],
        _ => vec![received, bytes, lost],
    };
    // A column is left free behind each.
    let width = area.width / charts.len() as u16;
    for (i, (name, value, told, style)) in charts.into_iter().enumerate() {
        let place = Rect { x: area.x + i as u16 * width, width: width.saturating_sub(1), ..area };
        let columns = history.columns(usize::from(place.width), value);
        let highest = columns.iter().copied().max().unwrap_or(0);
        let caption = Line::from(format!("{name} max {}", told(highest))).dim();
        frame.render_widget(Paragraph::new(caption), Rect { height: 1, ..place });
        let place = Rect { y: place.y + 1, height: place.height - 1, ..place };
        frame.render_widget(Sparkline::default().data(&columns).style(style), place);
    }
}

fn title(rates: &Rates, mode: &Mode) -> Line<'static> {
    let mut spans = vec!["hio-udp ingest".bold(), Span::raw(format!("   up {}", clock(rates.uptime)))];
    if mode.is_paused {
        spans.extend([Span::raw("   "), " PAUSED ".reversed(), Span::raw(" receiving goes on")]);
    }
    Line::from(spans)
}

fn bound(listener: &ListenerRates) -> Line<'static> {
    let ListenerRates { local, backend, recv_buf_bytes, shards } = listener;
    let shards = if shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", shards.len()) };
    // A reader tells of its backend a moment after its start.
    let backend = if backend.is_empty() { String::new() } else { format!("{backend}, ") };
    Line::from(format!("on {local}   {shards}, {backend}receive buffer {}", size(*recv_buf_bytes as u64)))
}

fn received(rates: &Rates) -> Line<'static> {
    let (received, bytes) = (rates.received, rates.bytes);
    let now = format!("received {:>12}/s {:>11}/s", whole(received), size(bytes.per_s as u64));
    Line::from(vec![now.bold(), Span::raw(format!("   total {}, {}", grouped(received.total), size(bytes.total)))])
}

fn lost(rates: &Rates, paint: &Paint) -> Line<'static> {
    let (now, all) = rates.loss();
    let dropped = rates.dropped;
    Line::from(vec![
        paint.alarm(format!("lost     {:>12}/s {:>11}", whole(dropped), percent(now)), dropped.per_s > 0.0),
        Span::raw("     total "),
        paint.alarm(format!("{}, {}", grouped(dropped.total), percent(all)), dropped.total > 0),
    ])
}

fn turned_away(rates: &Rates, paint: &Paint) -> Line<'static> {
    let told = |name: &str, rate: Rate| paint.alarm(format!("{name} {}/s", whole(rate)), rate.per_s > 0.0);
    let total = |rate: Rate| Span::raw(format!(", total {}   ", grouped(rate.total)));
    let (denied, limited) = (rates.denied, rates.limited);
    Line::from(vec![told("denied", denied), total(denied), told("rate-limited", limited), total(limited)])
}

/// A histogram of how many datagrams came with each call.
fn batches(rates: &Rates) -> Vec<Line<'static>> {
    let all: u64 = rates.fills.iter().sum();
    let highest = rates.fills.iter().copied().max().unwrap_or(0);
    // As far as anything came, but not less than an ordinary ring is deep.
    let columns = rates.fills.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1).max(8);
    let (mut names, mut bars, mut shares) = ("batches  ".to_owned(), " ".repeat(9), "of these ".to_owned());
    for (power, count) in rates.fills.iter().enumerate().take(columns) {
        let from = 1_u64 << power;
        let name = if from < 1024 { from.to_string() } else { format!("{}k", from / 1024) };
        names.push_str(&format!("{name:>5}"));
        // Nothing has no bar, and little has a low one.
        let height = if *count == 0 { 0 } else { (count * 8).div_ceil(highest.max(1)) as usize };
        bars.push_str(&format!("  {}", BARS[height.min(8)].repeat(3)));
        let share = if *count == 0 { String::new() } else { format!("{:.0}%", 100.0 * *count as f64 / all as f64) };
        shares.push_str(&format!("{share:>5}"));
    }
    vec![Line::from(names).dim(), Line::from(bars), Line::from(shares)]
}

fn shards(rates: &Rates, paint: &Paint) -> Vec<Line<'static>> {
    let mut lines = vec![
        Line::from(format!(
            "{:<12}{:>13}{:>9}{:>11}{:>14}{:>7}{:>5}{:>9}",
            "SHARD", "datagrams/s", "share", "dropped/s", "dropped", "rings", "full", "stalls/s"
        ))
        .bold(),
    ];
    let are_many = rates.listeners.len() > 1;
    for listener in &rates.listeners {
        let port = if are_many { format!(":{} ", listener.local.port()) } else { String::new() };
        let shards = listener.shards.iter().enumerate();
        lines.extend(shards.map(|(number, shard)| shard_line(&format!("{port}#{number}"), shard, paint)));
        if let Some(imbalance) = listener.imbalance() {
            let text = format!("{port}the busiest shard has {imbalance:.2} times its fair part");
            lines.push(Line::from(text).dim());
        }
    }
    lines
}

fn shard_line(name: &str, shard: &ShardRates, paint: &Paint) -> Line<'static> {
    let ShardRates { received, dropped, share, rings, rings_free, rings_full, stalls } = shard;
    let share = share.map_or("-".to_owned(), percent);
    let used = format!("{}/{rings}", rings.saturating_sub(*rings_free));
    Line::from(vec![
        Span::raw(format!("{name:<12}{:>13}{share:>9}", whole(*received))),
        paint.alarm(format!("{:>11}{:>14}", whole(*dropped), grouped(dropped.total)), dropped.per_s > 0.0),
        Span::raw(format!("{used:>7}{rings_full:>5}")),
        paint.alarm(format!("{:>9}", whole(*stalls)), stalls.per_s > 0.0),
    ])
}

fn sinks(rates: &Rates, paint: &Paint) -> Vec<Line<'static>> {
    if rates.sinks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        Line::from(format!(
            "{:<16}{:>12}{:>12}{:>12}{:>7}{:>12}{:>9}",
            "SINK", "written/s", "bytes/s", "not written", "queue", "waited for", "now"
        ))
        .bold(),
    ];
    lines.extend(rates.sinks.iter().map(|sink| sink_line(sink, paint)));
    lines
}

fn sink_line(sink: &SinkRates, paint: &Paint) -> Line<'static> {
    let SinkRates { name, written, not_written, bytes, queued, queue, waited, waiting } = sink;
    let (queued, waited) = (format!("{queued}/{queue}"), format!("{:.1} s", waited.as_secs_f64()));
    Line::from(vec![
        Span::raw(format!("{:<16}{:>12}{:>12}", short(name, 16), whole(*written), size(bytes.per_s as u64))),
        paint.alarm(format!("{:>12}", grouped(not_written.total)), not_written.per_s > 0.0),
        Span::raw(format!("{queued:>7}{waited:>12}")),
        paint.alarm(format!("{:>9}", percent(*waiting)), *waiting > 0.0),
    ])
}

fn heaviest(sources: &[SourceRates], missing_max: u64, rates: &Rates, mode: &Mode) -> Vec<Line<'static>> {
    if sources.is_empty() {
        return Vec::new();
    }
    let order = mode.order;
    let mut sources: Vec<&SourceRates> = sources.iter().collect();
    // What comes now, and before that what has come.
    sources.sort_by_key(|source| {
        let weight = order.of(source);
        (Reverse(weight.per_s as u64), Reverse(weight.total), source.source)
    });
    let (by, bound) = (format!("SOURCE by {}", order.name()), format!("total +{}", grouped(missing_max)));
    let title = format!("{by:<24}{:>12}{:>9}{:>12}{bound:>22}", "datagrams/s", "share", "bytes/s");
    let mut lines = vec![Line::from(title).bold()];
    let delivered = (rates.received.per_s - rates.denied.per_s - rates.limited.per_s).max(0.0);
    let all = match order {
        Order::Datagrams => delivered,
        Order::Bytes => rates.bytes.per_s,
    };
    lines.extend(sources.iter().map(|source| {
        // A source is looked at less often than the sum, and so may seem to be more than it.
        let share = order.of(source).per_s / all;
        let share = if all > 0.0 { percent(share.min(1.0)) } else { "-".to_owned() };
        let (datagrams, bytes) = (source.datagrams, size(source.bytes.per_s as u64));
        let name = source.source.to_string();
        Line::from(format!("{name:<24}{:>12}{share:>9}{bytes:>12}{:>22}", whole(datagrams), grouped(datagrams.total)))
    }));
    lines
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = [
        "q, Esc, Ctrl-C  stop: read out, close sinks, print the account",
        "p               hold the picture; receiving goes on",
        "s               sort sources by datagrams or by bytes",
        "?               show or hide this",
        "",
        "charts      of the last five minutes, the newest on the right",
        "lost        dropped by the kernel: the receive buffer was full",
        "batches     datagrams taken with one call, by powers of two",
        "rings       not free, of those between a reader and its handlers",
        "full        of these: waiting for a worker",
        "stalls/s    times a reader had to wait for a free one",
        "queue       blocks that wait for a sink, of those it may hold",
        "waited for  how long receiving had to wait for a sink",
        "total +N    at most so many may be missing from each count",
    ];
    let (width, height) = (66.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let place = Rect { x, y, width, height };
    frame.render_widget(Clear, place);
    let lines: Vec<Line<'static>> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys and words ")), place);
}

fn whole(rate: Rate) -> String {
    grouped(rate.per_s.round() as u64)
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    // Little is not nothing.
    if percent > 0.0 && percent < 0.01 { "<0.01%".to_owned() } else { format!("{percent:.2}%") }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let days = if days > 0 { format!("{days} d ") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{seconds:02}")
}

/// The end of a name, where it is too long: paths differ there.
fn short(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(count - width + 2).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::Meter;
    use super::super::rates::tests::sample;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An hour of a thousand more datagrams each second, one in ten of them lost.
    fn busy() -> Picture {
        let (start, mut meter, mut picture) = (Instant::now(), Meter::default(), Picture::default());
        let hour = 3600 * SECOND;
        for second in 0..=60 {
            let received = 100_000 * second * second / 2;
            let shards = [(received * 3 / 4, received / 10), (received / 4, 0)];
            let mut now = sample(start + u32::try_from(second).unwrap() * SECOND, hour, &shards);
            now.counts.fills = std::array::from_fn(|power| if power < 7 { second * power as u64 } else { 0 });
            now.counts.limited = 10 * second;
            now.sinks[0].name = "pcapng:/var/lib/somewhere/flows".to_owned();
            now.sinks[0].not_written = 5 * second;
            now.sinks[0].waited = Duration::from_millis(100 * second);
            picture.rates = meter.add(now);
        }
        picture.history = meter.history;
        picture.sources = (1..=20_u8)
            .map(|last| SourceRates {
                source: IpAddr::from([192, 0, 2, last]),
                datagrams: Rate { total: 1_000 * u64::from(last), per_s: 100.0 * f64::from(last) },
                // Those that send most, send the smallest.
                bytes: Rate { total: 1_000_000, per_s: 1e6 / f64::from(last) },
            })
            .collect();
        picture.missing_max = 17;
        picture.notes = ["one", "two: \x1b[31m", "hio-udp: note: three"].map(str::to_owned).to_vec();
        picture
    }

    fn drawn(picture: &Picture, mode: &Mode, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, picture, mode)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>());
        rows.map(|row| row.trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn an_ordinary_terminal_shows_everything() {
        assert_eq!(
            drawn(&busy(), &Mode::default(), 80, 24),
            "\
hio-udp ingest   up 01:00:00
on 127.0.0.1:2055   2 shards, mmsg, receive buffer 4.19 MB
received    5,950,010/s   595.00 MB/s   total 180,000,600, 18.00 GB
lost          595,000/s       9.09%     total 18,000,000, 9.09%
denied 0/s, total 0   rate-limited 10/s, total 600
datagrams/s max 5,950,010 bytes/s max 595.00 MB     lost/s max 595,000
                    ▁▃▄▆█                     ▁▃▄▆█                     ▁▃▄▆█
batches      1    2    4    8   16   32   64  128
                ▂▂▂  ▃▃▃  ▄▄▄  ▆▆▆  ▇▇▇  ███
of these         5%  10%  14%  19%  24%  29%
SHARD         datagrams/s    share  dropped/s       dropped  rings full stalls/s
#0              4,462,500   75.00%    595,000    18,000,000    2/6    1        0
#1              1,487,500   25.00%          0             0    2/6    1        0
the busiest shard has 1.50 times its fair part
SINK               written/s     bytes/s not written  queue  waited for      now
…omewhere/flows    5,950,000   761.60 MB         300   3/14       6.0 s   10.00%
SOURCE by datagrams      datagrams/s    share     bytes/s             total +17
192.0.2.20                     2,000    0.03%    50.00 kB                20,000
192.0.2.19                     1,900    0.03%    52.63 kB                19,000
192.0.2.18                     1,800    0.03%    55.55 kB                18,000
192.0.2.17                     1,700    0.03%    58.82 kB                17,000
192.0.2.16                     1,600    0.03%    62.50 kB                16,000
hio-udp: note: three
 q stop   p pause   s sort   ? help
"
        );
    }

    #[test]
    fn a_small_terminal_shows_what_matters_most() {
        assert_eq!(
            drawn(&busy(), &Mode::default(), 40, 10),
            "\
hio-udp ingest   up 01:00:00
on 127.0.0.1:2055   2 shards, mmsg, rece
received    5,950,010/s   595.00 MB/s
lost          595,000/s       9.09%
denied 0/s, total 0   rate-limited 10/s,
datagrams/s max 5,9 lost/s max 595,000
               ▁▃▅█                ▁▃▅█
SINK               written/s     bytes/s
…omewhere/flows    5,950,000   761.60 MB
 q stop   p pause   s sort   ? help
"
        );
        assert_eq!(
            drawn(&busy(), &Mode::default(), 40, 4),
            "\
hio-udp ingest   up 01:00:00
received    5,950,010/s   595.00 MB/s
lost          595,000/s       9.09%
 q stop   p pause   s sort   ? help
"
        );
        assert_eq!(drawn(&busy(), &Mode::default(), 5, 1), "\n", "the keys have the last row, and there is one only");
    }

    #[test]
    fn a_table_that_is_too_long_tells_how_much_is_missing() {
        let mut picture = busy();
        picture.rates.sinks = vec![picture.rates.sinks[0].clone(); 30];
        let text = drawn(&picture, &Mode::default(), 80, 24);
        assert!(text.contains("\n  … "), "{text}");
        let shown = text.matches("omewhere").count();
        assert!(text.contains(&format!("  … {} more\n", 30 - shown)), "{text}");
    }

    #[test]
    fn keys_change_order_pause_and_help() {
        let bytes = drawn(&busy(), &Mode { order: Order::Bytes, ..Mode::default() }, 80, 24);
        assert!(bytes.contains("SOURCE by bytes"), "{bytes}");
        assert!(bytes.contains("\n192.0.2.1 ") && !bytes.contains("192.0.2.20"), "{bytes}");
        let paused = drawn(&busy(), &Mode { is_paused: true, ..Mode::default() }, 80, 24);
        assert!(paused.contains("PAUSED") && paused.contains("p go on"), "{paused}");
        let help = drawn(&busy(), &Mode { is_help: true, ..Mode::default() }, 80, 24);
        for part in ["keys and words", "Ctrl-C", "waiting for a worker", "missing from each count"] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }

    #[test]
    fn notes_cannot_command_the_terminal_and_the_newest_is_first() {
        let text = drawn(&busy(), &Mode::default(), 80, 60);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.find("note: three").unwrap() < text.find("two: ").unwrap(), "{text}");
    }

    #[test]
    fn there_is_colour_only_where_it_is_wanted() {
        for has_colour in [false, true] {
            let (picture, mode) = (busy(), Mode { has_colour, ..Mode::default() });
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &picture, &mode)).unwrap();
            let cells = &terminal.backend().buffer().content;
            assert_eq!(cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset), has_colour);
        }
    }

    #[test]
    fn no_size_of_terminal_is_too_small_or_too_large() {
        let (full, empty) = (busy(), Picture::default());
        let lengths = || (0..=12).chain([20, 39, 40, 69, 70, 80, 250]);
        for (width, height) in lengths().flat_map(|width| lengths().map(move |height| (width, height))) {
            for (picture, is_help) in [(&full, false), (&full, true), (&empty, false), (&empty, true)] {
                drawn(picture, &Mode { is_help, is_paused: is_help, ..Mode::default() }, width, height);
            }
        }
    }
}
