//! SVG, laid out in rows: what depends on others stands above them. Within a row items stand near what they are related to in the row above.
//! No script, no link, no reference to anything outside: the text can be shown where pictures can.

use std::collections::BTreeMap;

use super::{Map, add, label};

const BOX: (i64, i64) = (168, 44);
const GAP: (i64, i64) = (28, 56);
const MARGIN: i64 = 20;
/// Characters that fit into a box.
const MOST: usize = 22;

pub(super) fn write(map: &Map) -> String {
    let places = places(map);
    let right = places.iter().map(|(x, _)| x + BOX.0).max().unwrap_or(0) + MARGIN;
    let bottom = places.iter().map(|(_, y)| y + BOX.1).max().unwrap_or(0) + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right} {bottom}\" width=\"{right}\" height=\"{bottom}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    text.push_str("<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n");
    for line in &map.lines {
        let ((x1, y1), (x2, y2)) = (places[line.from], places[line.to]);
        let arrow = if line.directed { " marker-end=\"url(#a)\"" } else { " stroke-dasharray=\"4 3\"" };
        let path = curve((x1, y1), (x2, y2));
        add(&mut text, format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"#555\"{arrow}><title>{}</title></path>\n", line.kind));
    }
    for (one, (x, y)) in map.boxes.iter().zip(&places) {
        let width = if one.root { 2 } else { 1 };
        let (middle, first, second) = (x + BOX.0 / 2, y + 18, y + 34);
        add(
            &mut text,
            format_args!(
                "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"#fff\" stroke=\"#222\" stroke-width=\"{width}\"/><text x=\"{middle}\" y=\"{first}\" text-anchor=\"middle\">{}</text><text x=\"{middle}\" y=\"{second}\" text-anchor=\"middle\" fill=\"#666\" font-size=\"10\">{}</text></g>\n",
                escaped(&label(&one.id, 200)),
                BOX.0,
                BOX.1,
                escaped(&label(&one.name, MOST)),
                escaped(&label(&one.class, MOST)),
            ),
        );
    }
    text.push_str("</svg>\n");
    text
}

/// The upper left corner of each box.
fn places(map: &Map) -> Vec<(i64, i64)> {
    let mut rows: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (number, one) in map.boxes.iter().enumerate() {
        rows.entry(one.layer).or_default().push(number);
    }
    let widest = rows.values().map(Vec::len).max().unwrap_or(0);
    let mut places = vec![(0, 0); map.boxes.len()];
    let mut placed: BTreeMap<usize, i64> = BTreeMap::new();
    for (row, (_, mut numbers)) in rows.into_iter().enumerate() {
        // The mean place of what each is related to above; those related to nothing keep their order by name.
        let near = |number: usize| {
            let others = map.lines.iter().filter_map(|line| match (line.from == number, line.to == number) {
                (true, _) => placed.get(&line.to),
                (_, true) => placed.get(&line.from),
                _ => None,
            });
            let (sum, count) = others.fold((0, 0), |(sum, count), x| (sum + x, count + 1));
            if count == 0 { i64::MAX } else { sum / count }
        };
        let mut keyed: Vec<(i64, usize)> = numbers.drain(..).map(|number| (near(number), number)).collect();
        keyed.sort_unstable();
        let spare = i64::try_from(widest - keyed.len()).unwrap_or(0) * (BOX.0 + GAP.0) / 2;
        for (column, (_, number)) in keyed.into_iter().enumerate() {
            let x = MARGIN + spare + i64::try_from(column).unwrap_or(0) * (BOX.0 + GAP.0);
            let y = MARGIN + i64::try_from(row).unwrap_or(0) * (BOX.1 + GAP.1);
            places[number] = (x, y);
            placed.insert(number, x);
        }
    }
    places
}

/// A line from box to box: straight between rows, around the side within a row or upwards.
fn curve((x1, y1): (i64, i64), (x2, y2): (i64, i64)) -> String {
    let (from, to) = (x1 + BOX.0 / 2, x2 + BOX.0 / 2);
    match y1.cmp(&y2) {
        std::cmp::Ordering::Less => format!("M{from} {}L{to} {y2}", y1 + BOX.1),
        std::cmp::Ordering::Equal => {
            let (low, dip) = (y1 + BOX.1, y1 + BOX.1 + GAP.1 / 2);
            format!("M{from} {low}C{from} {dip} {to} {dip} {to} {low}")
        }
        std::cmp::Ordering::Greater => {
            let (side, mid1, mid2) = (x1.max(x2) + BOX.0 + GAP.0, y1 + BOX.1 / 2, y2 + BOX.1 / 2);
            format!("M{} {mid1}C{side} {mid1} {side} {mid2} {} {mid2}", x1 + BOX.0, x2 + BOX.0)
        }
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        match c {
            '&' => all.push_str("&amp;"),
            '<' => all.push_str("&lt;"),
            '>' => all.push_str("&gt;"),
            '"' => all.push_str("&quot;"),
            '\'' => all.push_str("&#39;"),
            // XML 1.0 has no way to write these.
            '\u{fffe}' | '\u{ffff}' => all.push(' '),
            other => all.push(other),
        }
        all
    })
}
