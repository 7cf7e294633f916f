//! Several files as one manifest.
//!
//! Owns which file is the head and what a part may add. Refuses the same name in two files: the error names both places.

use crate::yaml::{Content, Entry, Fault, Node, Place};

/// What a part may hold.
pub(crate) const PART_KEYS: [&str; 8] = ["tools", "models", "events", "streams", "subscriptions", "views", "limits", "errors"];

/// Merges trees. `files` are the names that messages use.
pub(crate) fn merge(mut trees: Vec<Node>, files: &[String]) -> Result<Node, Vec<Fault>> {
    let fault = |place, message: String| vec![Fault { place, message }];
    if trees.len() == 1 {
        return Ok(trees.remove(0));
    }
    let heads: Vec<usize> = (0..trees.len()).filter(|at| trees[*at].get("connector").is_some()).collect();
    let head = match heads.as_slice() {
        [head] => *head,
        [] => {
            let message = "none of the files says `connector:`; one of them, usually `connector.yaml`, starts with `connector:` and `name:`";
            return Err(fault(Place { line: 1, col: 1, ..Place::default() }, message.to_owned()));
        }
        [first, others @ ..] => {
            return Err(others
                .iter()
                .filter_map(|other| {
                    let (there, here) = (trees[*first].get("connector")?, trees[*other].get("connector")?);
                    Some(Fault {
                        place: here.place,
                        message: format!("`connector` is given in two files; the first is {}", show(there.place, files)),
                    })
                })
                .collect());
        }
    };
    let mut root = trees.remove(head);
    let mut faults = Vec::new();
    for part in trees {
        let Content::Mapping(entries) = part.content else {
            faults.push(Fault { place: part.place, message: "a part of a manifest must be a mapping".into() });
            continue;
        };
        for mut entry in entries {
            if !PART_KEYS.contains(&entry.key.as_str()) {
                let message = format!("`{}` belongs into {}; a part holds only {}", entry.key, files[root.place.file], PART_KEYS.join(", "));
                faults.push(Fault { place: entry.place, message });
                continue;
            }
            if entry.key == "errors" {
                for inner in entry.value.entries().iter().filter(|inner| inner.key != "table") {
                    let message = format!("`errors.{}` belongs into {}; a part adds only to `errors.table`", inner.key, files[root.place.file]);
                    faults.push(Fault { place: inner.place, message });
                }
                if let Content::Mapping(inner) = &mut entry.value.content {
                    inner.retain(|inner| inner.key == "table");
                }
            }
            add(&mut root, entry, files, &mut faults);
        }
    }
    if faults.is_empty() { Ok(root) } else { Err(faults) }
}

/// Adds an entry to a mapping: lists grow, mappings grow by new keys, anything else must be new.
fn add(into: &mut Node, entry: Entry, files: &[String], faults: &mut Vec<Fault>) {
    let Content::Mapping(entries) = &mut into.content else {
        faults.push(Fault { place: into.place, message: "a manifest must be a mapping".into() });
        return;
    };
    let Some(known) = entries.iter_mut().find(|known| known.key == entry.key) else {
        entries.push(entry);
        return;
    };
    let container = matches!(entry.key.as_str(), "models" | "events" | "streams" | "subscriptions" | "views" | "limits" | "errors");
    match (&mut known.value.content, entry.value.content) {
        (Content::Sequence(items), Content::Sequence(more)) => items.extend(more),
        (Content::Mapping(_), Content::Mapping(more)) if container => {
            for inner in more {
                add(&mut known.value, inner, files, faults);
            }
        }
        _ => {
            let message = format!("`{}` is declared twice; the first is {}", entry.key, show(known.place, files));
            faults.push(Fault { place: entry.place, message });
        }
    }
}

fn show(place: Place, files: &[String]) -> String {
    format!("{}:{}", files.get(place.file).map_or("", String::as_str), place.line)
}
