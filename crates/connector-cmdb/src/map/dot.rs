//! Graphviz DOT. Names are quoted strings, in which a backslash and a quote are escaped. <https://graphviz.org/doc/info/lang.html>

use super::{Map, add, label};

/// The longest label.
const MOST: usize = 120;

pub(super) fn write(map: &Map) -> String {
    let mut text = String::from("digraph services {\n  rankdir=TB;\n  node [shape=box];\n");
    for (number, one) in map.boxes.iter().enumerate() {
        let style = if one.root { ", style=bold" } else { "" };
        add(&mut text, format_args!("  n{number} [label=\"{}\\n{}\"{style}];\n", quoted(&one.name), quoted(&one.class)));
    }
    for line in &map.lines {
        let arrow = if line.directed { "" } else { ", dir=none, style=dashed" };
        add(&mut text, format_args!("  n{} -> n{} [label=\"{}\"{arrow}];\n", line.from, line.to, line.kind));
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    label(text, MOST).replace('\\', "\\\\").replace('"', "\\\"")
}
