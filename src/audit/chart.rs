//! Charts as SVG, each with its numbers in a table: made on the server, coloured by classes, without style or script. The
//! words in them are our own, in the language of whoever asks for them by a [`Speaker`].

use crate::audit::report::esc;
use crate::domain::text::Speaker;
use crate::domain::time::span_in;
use std::fmt::Write;

/// One series of a chart of stacked bars.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Colours the bar.
    pub class: &'static str,
    /// Head of its column in the table, in English.
    pub column: &'static str,
    /// What it is, in the legend, in English.
    pub word: &'static str,
}

/// One bar: its name in the table and on the axis, and how long each part is.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub label: String,
    pub counts: Vec<u64>,
}

/// A chart of stacked bars.
#[derive(Clone, Copy, Debug)]
pub struct Stacked<'a> {
    pub caption: &'a str,
    /// What somebody is told who does not see it.
    pub about: &'a str,
    /// Head of the table's first column.
    pub first_column: &'a str,
    pub parts: &'a [Part],
    pub bars: &'a [Bar],
    /// Width and height of the room for bars, in SVG units.
    pub room: (f64, f64),
    /// It takes the whole width of the page.
    pub broad: bool,
    /// Labels on the axis at the most.
    pub labels: usize,
}

/// Room for numbers at the left of the bars.
const LEFT: f64 = 32.0;
/// Room above the bars.
const ABOVE: f64 = 10.0;

fn open(caption: &str, about: &str, broad: bool, (wide, tall): (f64, f64)) -> String {
    let class = if broad { " class=\"broad\"" } else { "" };
    let (caption, about) = (esc(caption), esc(about));
    format!(
        "<figure{class}><figcaption>{caption}</figcaption>\
         <svg class=\"bar-svg\" viewBox=\"0 0 {wide} {tall}\" role=\"img\" aria-label=\"{about}\">"
    )
}

fn whole(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a length in a picture")]
    let count = count as f64;
    count
}

fn nth(at: usize) -> f64 {
    whole(at as u64)
}

impl Stacked<'_> {
    /// The figure, as HTML.
    pub fn draw(&self, speaker: &impl Speaker) -> String {
        // A part's words are marked where it is made.
        let said = |text: &'static str| esc(&speaker.say(text, &[]));
        let sum = |it: &Bar| it.counts.iter().sum::<u64>();
        let most = self.bars.iter().map(sum).max().unwrap_or(1).max(1);
        let (wide, tall) = self.room;
        let ground = ABOVE + tall;
        let slot = wide / nth(self.bars.len().max(1));
        let bar = (slot * 0.72).min(40.0);
        let mut out = open(
            self.caption,
            self.about,
            self.broad,
            (LEFT + wide + 8.0, ground + 30.0),
        );
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{ground}\" x2=\"{}\" y2=\"{ground}\"/>\
             <text x=\"28\" y=\"{}\" text-anchor=\"end\">{most}</text><text x=\"28\" y=\"{}\" text-anchor=\"end\">0</text>",
            LEFT + wide,
            ABOVE + 8.0,
            ground + 4.0,
        );
        let every = self.bars.len().div_ceil(self.labels.max(1)).max(1);
        for (at, it) in self.bars.iter().enumerate() {
            let x = LEFT + slot * nth(at) + (slot - bar) / 2.0;
            let mut y = ground;
            for (part, count) in self.parts.iter().zip(&it.counts) {
                let height = tall * whole(*count) / whole(most);
                y -= height;
                if *count > 0 {
                    let _ = write!(
                        out,
                        "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"{height:.1}\"><title>{}: {} {count}</title></rect>",
                        part.class,
                        esc(&it.name),
                        said(part.column),
                    );
                }
            }
            if at.is_multiple_of(every) {
                label(&mut out, x + bar / 2.0, ground + 18.0, &it.label);
            }
        }
        out.push_str("</svg>");
        if self.parts.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for part in self.parts {
                let _ = write!(
                    out,
                    "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"{}\" width=\"10\" height=\"10\"/></svg>{}</li>",
                    part.class,
                    said(part.word)
                );
            }
            out.push_str("</ul>");
        }
        let columns = self.parts.iter().map(|it| said(it.column));
        let rows = self
            .bars
            .iter()
            .map(|it| (&*it.name, it.counts.iter().map(u64::to_string).collect()));
        table(&mut out, speaker, self.caption, self.first_column, columns, rows);
        out.push_str("</figure>\n");
        out
    }
}

fn label(out: &mut String, x: f64, y: f64, text: &str) {
    let _ = write!(
        out,
        "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
        esc(text)
    );
}

/// The numbers of a chart; `columns` are escaped already.
fn table<'a>(
    out: &mut String,
    to: &impl Speaker,
    caption: &str,
    first: &str,
    columns: impl Iterator<Item = String>,
    rows: impl Iterator<Item = (&'a str, Vec<String>)>,
) {
    let numbers = esc(&to.say("Numbers", &[]));
    let (caption, first) = (esc(caption), esc(first));
    let _ = write!(
        out,
        "<details><summary>{numbers}</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{numbers}: {caption}\"><table><thead><tr><th scope=\"col\">{first}</th>"
    );
    for it in columns {
        let _ = write!(out, "<th scope=\"col\">{it}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for (name, cells) in rows {
        let _ = write!(out, "<tr><td>{}</td>", esc(name));
        for it in cells {
            let _ = write!(out, "<td>{}</td>", esc(&it));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></details>");
}

/// One day of a chart of times: its middle and the bound of nine in ten, in seconds; `None` where there is nothing to tell.
#[derive(Clone, Debug)]
pub struct Mark {
    pub name: String,
    pub label: String,
    pub times: Option<(u64, u64)>,
}

/// A chart of times: for each mark a dot at the median and a line up to the bound of nine in ten. The scale is logarithmic,
/// since seconds and days are both usual.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    pub caption: &'a str,
    pub about: &'a str,
    pub marks: &'a [Mark],
    /// Width and height of the room for marks, in SVG units.
    pub room: (f64, f64),
    pub labels: usize,
}

/// Lines of the scale, in seconds.
const SCALE: [u64; 5] = [10, 60, 3_600, 86_400, 604_800];
/// Room for the scale's words.
const SCALE_LEFT: f64 = 54.0;

impl Times<'_> {
    /// The figure, as HTML.
    pub fn draw(&self, to: &impl Speaker) -> String {
        let span = |seconds: u64| esc(&span_in(to, seconds));
        let most = self.marks.iter().filter_map(|it| it.times).map(|it| it.1).max();
        let most = most.unwrap_or(60).max(60);
        let (wide, tall) = self.room;
        let ground = ABOVE + tall;
        let height = |seconds: u64| tall * (1.0 + whole(seconds)).ln() / (1.0 + whole(most)).ln();
        let slot = wide / nth(self.marks.len().max(1));
        let mut out = open(
            self.caption,
            self.about,
            false,
            (SCALE_LEFT + wide + 8.0, ground + 30.0),
        );
        let right = SCALE_LEFT + wide;
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{SCALE_LEFT}\" y1=\"{ground}\" x2=\"{right}\" y2=\"{ground}\"/>"
        );
        for seconds in SCALE.iter().filter(|it| **it <= most) {
            let y = ground - height(*seconds);
            let _ = write!(
                out,
                "<line class=\"axis\" x1=\"{SCALE_LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"50\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                y + 4.0,
                span(*seconds)
            );
        }
        let every = self.marks.len().div_ceil(self.labels.max(1)).max(1);
        for (at, it) in self.marks.iter().enumerate() {
            let x = SCALE_LEFT + slot * (nth(at) + 0.5);
            if let Some((median, bound)) = it.times {
                let (low, high) = (ground - height(median), ground - height(bound));
                let _ = write!(
                    out,
                    "<g><title>{}</title>\
                     <line class=\"span-line\" x1=\"{x:.1}\" y1=\"{low:.1}\" x2=\"{x:.1}\" y2=\"{high:.1}\"/>\
                     <line class=\"span-line\" x1=\"{:.1}\" y1=\"{high:.1}\" x2=\"{:.1}\" y2=\"{high:.1}\"/>\
                     <circle class=\"plain-bar\" cx=\"{x:.1}\" cy=\"{low:.1}\" r=\"3.5\"/></g>",
                    esc(&to.say(
                        "{day}: half within {median}, nine of ten within {bound}",
                        &[
                            ("day", &it.name),
                            ("median", &span_in(to, median)),
                            ("bound", &span_in(to, bound))
                        ]
                    )),
                    x - 3.5,
                    x + 3.5,
                );
            }
            if at.is_multiple_of(every) {
                label(&mut out, x, ground + 18.0, &it.label);
            }
        }
        let half = esc(&to.say("Half within (p50)", &[]));
        let most_of_them = esc(&to.say("Nine of ten within (p90)", &[]));
        let _ = write!(
            out,
            "</svg><ul class=\"legend\"><li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><circle class=\"plain-bar\" cx=\"5\" cy=\"5\" r=\"4\"/></svg>{half}</li>\
             <li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><path class=\"span-line\" d=\"M1 1.5h8M5 1.5V10\"/></svg>{most_of_them}</li></ul>",
        );
        let rows = self.marks.iter().map(|it| {
            let cell = |time: Option<u64>| time.map_or_else(|| "–".to_owned(), |it| span_in(to, it));
            let cells = vec![cell(it.times.map(|it| it.0)), cell(it.times.map(|it| it.1))];
            (&*it.name, cells)
        });
        let day = to.say("Day", &[]);
        table(
            &mut out,
            to,
            self.caption,
            &day,
            [half, most_of_them].into_iter(),
            rows,
        );
        out.push_str("</figure>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::text::English;

    #[test]
    fn a_bar_is_as_long_as_its_count_and_the_table_says_the_same() {
        let bars = [(4, 0), (1, 1)].map(|(one, other)| Bar {
            name: format!("day {one}"),
            label: "d".into(),
            counts: vec![one, other],
        });
        let part = |class, column| Part {
            class,
            column,
            word: column,
        };
        let html = Stacked {
            caption: "Days",
            about: "About",
            first_column: "Day",
            parts: &[part("a", "Approved"), part("b", "Rejected")],
            bars: &bars,
            room: (100.0, 40.0),
            broad: false,
            labels: 1,
        }
        .draw(&English);
        assert!(
            html.contains("height=\"40.0\"><title>day 4: Approved 4"),
            "{html}"
        );
        assert!(
            html.contains("height=\"10.0\"><title>day 1: Rejected 1"),
            "{html}"
        );
        assert!(
            !html.contains("Rejected 0"),
            "nothing is drawn for nothing: {html}"
        );
        assert!(
            html.contains("<tr><td>day 1</td><td>1</td><td>1</td></tr>"),
            "{html}"
        );
    }

    #[test]
    fn times_are_told_where_there_are_some() {
        let mark = |name: &str, times| Mark {
            name: name.into(),
            label: name.into(),
            times,
        };
        let html = Times {
            caption: "Times",
            about: "About",
            marks: &[mark("mon", Some((0, 7_200))), mark("tue", None)],
            room: (100.0, 100.0),
            labels: 2,
        }
        .draw(&English);
        assert!(
            html.contains("cy=\"110.0\"") && html.contains("y2=\"10.0\""),
            "the least and the most: {html}"
        );
        assert!(
            html.contains("<tr><td>tue</td><td>–</td><td>–</td></tr>"),
            "{html}"
        );
        assert!(html.contains("1 h") && !html.contains("1 day"), "{html}");
        assert_eq!(html.matches("<g>").count(), 1);
        assert!(
            html.contains("<title>mon: half within 0 s, nine of ten within 2 h</title>"),
            "{html}"
        );
    }
}
