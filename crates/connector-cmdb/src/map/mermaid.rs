//! Mermaid flowcharts. Names are quoted, and what could end the quote or be taken for markup is written as an entity.
//! <https://mermaid.js.org/syntax/flowchart.html>

use std::fmt::Write as _;

use super::{Map, label};

/// The longest label.
const MOST: usize = 120;

pub(super) fn write(map: &Map) -> String {
    let mut text = String::from("flowchart TB\n");
    for (number, one) in map.boxes.iter().enumerate() {
        let (open, close) = if one.root { ("([", "])") } else { ("[", "]") };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  n{number}{open}\"{}<br/>{}\"{close}", entities(&one.name), entities(&one.class));
    }
    for line in &map.lines {
        let arrow = if line.directed { "-->" } else { "-.-" };
        let _ = writeln!(text, "  n{} {arrow}|{}| n{}", line.from, line.kind, line.to);
    }
    text
}

/// Mermaid writes entities as `#35;`.
fn entities(text: &str) -> String {
    label(text, MOST).chars().fold(String::new(), |mut all, c| {
        match c {
            '"' | '<' | '>' | '&' | '#' | ';' | '`' | '|' | '[' | ']' | '{' | '}' | '(' | ')' | '\\' | '%' => {
                let _ = write!(all, "#{};", u32::from(c));
            }
            other => all.push(other),
        }
        all
    })
}
