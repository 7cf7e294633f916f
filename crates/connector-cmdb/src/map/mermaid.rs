//! Mermaid flowcharts. Names are quoted, and what could end the quote or be taken for markup is written as an entity.
//! <https://mermaid.js.org/syntax/flowchart.html>

use super::{Map, add, label};

/// The longest label.
const MOST: usize = 120;

pub(super) fn write(map: &Map) -> String {
    let mut text = String::from("flowchart TB\n");
    for (number, one) in map.boxes.iter().enumerate() {
        let (open, close) = if one.root { ("([", "])") } else { ("[", "]") };
        add(&mut text, format_args!("  n{number}{open}\"{}<br/>{}\"{close}\n", entities(&one.name), entities(&one.class)));
    }
    for line in &map.lines {
        let arrow = if line.directed { "-->" } else { "-.-" };
        add(&mut text, format_args!("  n{} {arrow}|{}| n{}\n", line.from, line.kind, line.to));
    }
    text
}

/// Mermaid writes entities as `#35;`.
fn entities(text: &str) -> String {
    label(text, MOST).chars().fold(String::new(), |mut all, c| {
        match c {
            '"' | '<' | '>' | '&' | '#' | ';' | '`' | '|' | '[' | ']' | '{' | '}' | '(' | ')' | '\\' | '%' => {
                add(&mut all, format_args!("#{};", u32::from(c)));
            }
            other => all.push(other),
        }
        all
    })
}
