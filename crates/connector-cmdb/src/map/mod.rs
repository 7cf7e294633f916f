//! Service maps: a walk as DOT, Mermaid or SVG. Owns what is drawn and in which order; the formats are in the files beside this one.

mod dot;
mod mermaid;
mod svg;

use std::{collections::BTreeMap, fmt};

use crate::{
    neutral::{Kind, Relation},
    walk::Walk,
};

/// A map, ready to be drawn. The same walk gives the same text, whatever order the system answered in.
#[derive(Debug, Default)]
pub(crate) struct Map {
    boxes: Vec<Box_>,
    lines: Vec<Line>,
}

/// An item.
#[derive(Debug, Clone)]
struct Box_ {
    id: String,
    name: String,
    class: String,
    /// Rows from top to bottom: what depends on others is above them. Roots are in row 0.
    layer: i64,
    root: bool,
}

/// A relation, by the numbers of its boxes. `from` depends on `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    from: usize,
    to: usize,
    kind: &'static str,
    directed: bool,
}

/// How to write a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Dot,
    Mermaid,
    Svg,
}

impl Format {
    /// The formats by name, with their media types.
    pub(crate) const ALL: [(&'static str, Self, &'static str); 3] =
        [("dot", Self::Dot, "text/vnd.graphviz"), ("mermaid", Self::Mermaid, "text/vnd.mermaid"), ("svg", Self::Svg, "image/svg+xml")];
}

impl Map {
    /// A map of walks from the same roots: down to what they depend on, up to what depends on them.
    pub(crate) fn of(down: Option<&Walk>, up: Option<&Walk>) -> Self {
        let mut boxes: BTreeMap<String, Box_> = BTreeMap::new();
        for (walk, sign) in [(down, 1), (up, -1)].into_iter().filter_map(|(walk, sign)| Some((walk?, sign))) {
            for ci in &walk.starts {
                let one = Box_ { id: ci.id.clone(), name: ci.name.clone(), class: ci.class.clone(), layer: 0, root: true };
                boxes.entry(ci.id.clone()).or_insert(one);
            }
            for node in &walk.nodes {
                let layer = sign * i64::try_from(node.distance).unwrap_or(i64::MAX);
                let name = node.name.clone().unwrap_or_else(|| node.id.clone());
                let one = Box_ { id: node.id.clone(), name, class: node.class.clone().unwrap_or_default(), layer, root: false };
                boxes.entry(node.id.clone()).or_insert(one);
            }
        }
        let mut boxes: Vec<Box_> = boxes.into_values().collect();
        boxes.sort_by(|a, b| (a.layer, &a.name, &a.id).cmp(&(b.layer, &b.name, &b.id)));
        let number: BTreeMap<&str, usize> = boxes.iter().enumerate().map(|(number, one)| (one.id.as_str(), number)).collect();
        let line = |relation: &Relation| {
            let (from, to) = (*number.get(relation.from.id.as_str())?, *number.get(relation.to.id.as_str())?);
            let directed = relation.kind != Kind::ConnectedTo;
            // Without a direction there is one line, whichever end told it.
            let (from, to) = if directed || from < to { (from, to) } else { (to, from) };
            Some(Line { from, to, kind: relation.kind.as_str(), directed })
        };
        let relations = [down, up].into_iter().flatten().flat_map(|walk| &walk.relations);
        let mut lines: Vec<Line> = relations.filter_map(line).collect();
        lines.sort();
        lines.dedup();
        Self { boxes, lines }
    }

    /// The map as text.
    pub(crate) fn write(&self, format: Format) -> String {
        match format {
            Format::Dot => dot::write(self),
            Format::Mermaid => mermaid::write(self),
            Format::Svg => svg::write(self),
        }
    }

    /// How many items and relations are on it.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.boxes.len(), self.lines.len())
    }
}

/// Adds a piece to a text.
fn add(text: &mut String, piece: fmt::Arguments<'_>) {
    text.push_str(&piece.to_string());
}

/// A text without what no label may have: control characters, and more than fits.
fn label(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
