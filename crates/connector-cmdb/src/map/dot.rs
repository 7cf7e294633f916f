//! Graphviz DOT. Names are quoted strings, in which a backslash and a quote are escaped. <https://graphviz.org/doc/info/lang.html>

use std::fmt::Write as _;

use super::{Map, label};

/// The longest label.
const MOST: usize = 120;

pub(super) fn write(map: &Map) -> String {
    let mut text = String::from("digraph services {\n  rankdir=TB;\n  node [shape=box];\n");
    for (number, one) in map.boxes.iter().enumerate() {
        let style = if one.root { ", style=bold" } else { "" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  n{number} [label=\"{}\\n{}\"{style}];", quoted(&one.name), quoted(&one.class));
    }
    for line in &map.lines {
        let arrow = if line.directed { "" } else { ", dir=none, style=dashed" };
        let _ = writeln!(text, "  n{} -> n{} [label=\"{}\"{arrow}];", line.from, line.to, line.kind);
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    label(text, MOST).replace('\\', "\\\\").replace('"', "\\\"")
}
