//! Questions about several items at once: the way from one to another, what they have in common, and circles. Owns the answers; relations
//! come from [`Graph`] and walks from [`crate::walk`].

use std::collections::{BTreeMap, HashMap, HashSet};

use connector_core::Result;
use serde::Serialize;

use crate::{
    neutral::{Direction, Kind, Relation},
    system::{CiId, Graph, System},
    walk::{Reach, Walk},
};

/// The shortest way along dependencies.
#[derive(Debug, Serialize)]
pub(crate) struct Way {
    pub(crate) found: bool,
    /// In order, each starting where the one before ended.
    pub(crate) relations: Vec<Relation>,
    /// A limit may hide a way.
    pub(crate) truncated: bool,
}

/// The shortest way from an item to one it depends on.
pub(crate) async fn way(system: System<'_>, from: CiId, to: &CiId, reach: &Reach) -> Result<Way> {
    let mut names = HashMap::new();
    for end in [&from, to] {
        let ci = system.get(end).await?.ok_or_else(|| system.missing(end))?;
        names.insert(end.whole.clone(), ci.name);
    }
    let mut graph = Graph::new(system);
    let mut came: HashMap<String, Relation> = HashMap::new();
    let mut visited = HashSet::from([from.whole.clone()]);
    let start = from.whole.clone();
    let mut frontier = vec![from];
    let mut full = false;
    for _ in 0..reach.depth {
        let mut next = Vec::new();
        for relation in graph.relations(&frontier, Direction::Dependencies, &reach.kinds, &names).await? {
            // A connection has no direction: it leads away from whichever end is known.
            let forward = visited.contains(&relation.from.id) && !visited.contains(&relation.to.id);
            let far = if forward || relation.kind != Kind::ConnectedTo { relation.to.clone() } else { relation.from.clone() };
            if visited.len() >= reach.max_nodes {
                full = true;
                break;
            }
            if !visited.insert(far.id.clone()) {
                continue;
            }
            if let Some(name) = &far.name {
                names.insert(far.id.clone(), name.clone());
            }
            came.insert(far.id.clone(), relation);
            if let Ok(id) = system.id(&far.id) {
                next.push(id);
            }
        }
        if visited.contains(&to.whole) || next.is_empty() || full {
            frontier = next;
            break;
        }
        frontier = next;
    }
    let mut relations = Vec::new();
    let mut at = to.whole.clone();
    while at != start {
        let Some(relation) = came.remove(&at) else {
            return Ok(Way { found: false, relations: Vec::new(), truncated: full || graph.cut || !frontier.is_empty() });
        };
        at = if relation.to.id == at { relation.from.id.clone() } else { relation.to.id.clone() };
        relations.push(relation);
    }
    relations.reverse();
    Ok(Way { found: true, relations, truncated: false })
}

/// Something all of several items depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Shared {
    id: String,
    name: Option<String>,
    class: Option<String>,
    /// How far it is from each.
    distances: BTreeMap<String, usize>,
    total: usize,
}

/// What all of these walks reached, nearest first.
pub(crate) fn shared(walks: &[(String, Walk)]) -> Vec<Shared> {
    let mut found: BTreeMap<&str, Shared> = BTreeMap::new();
    for (root, walk) in walks {
        let own = walk.starts.first();
        // An item is where it is itself, so that one of several can be what the others depend on.
        let itself = own.map(|ci| (ci.id.as_str(), Some(ci.name.clone()), Some(ci.class.clone()), 0));
        let reached = walk.nodes.iter().map(|node| (node.id.as_str(), node.name.clone(), node.class.clone(), node.distance));
        for (id, name, class, distance) in itself.into_iter().chain(reached) {
            let entry = found.entry(id).or_insert_with(|| Shared { id: id.to_owned(), name, class, distances: BTreeMap::new(), total: 0 });
            entry.distances.insert(root.clone(), distance);
            entry.total += distance;
        }
    }
    let mut all: Vec<Shared> = found.into_values().filter(|one| one.distances.len() == walks.len()).collect();
    all.sort_by(|a, b| (a.total, &a.id).cmp(&(b.total, &b.id)));
    all
}

/// The circles among relations: groups of items that all depend on each other, each sorted, the largest first.
pub(crate) fn circles(relations: &[Relation]) -> Vec<Vec<String>> {
    let mut outgoing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut incoming: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for relation in relations.iter().filter(|relation| relation.kind != Kind::ConnectedTo) {
        outgoing.entry(&relation.from.id).or_default().push(&relation.to.id);
        outgoing.entry(&relation.to.id).or_default();
        incoming.entry(&relation.to.id).or_default().push(&relation.from.id);
    }
    // Kosaraju's two passes, without recursion: a chain may be thousands long.
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for start in outgoing.keys().copied() {
        let mut stack = vec![(start, 0)];
        if !seen.insert(start) {
            continue;
        }
        while let Some((id, at)) = stack.pop() {
            match outgoing.get(id).and_then(|to| to.get(at)) {
                Some(next) => {
                    stack.push((id, at + 1));
                    if seen.insert(next) {
                        stack.push((next, 0));
                    }
                }
                None => order.push(id),
            }
        }
    }
    let mut taken = HashSet::new();
    let mut all = Vec::new();
    for start in order.into_iter().rev() {
        let mut group = Vec::new();
        let mut stack = vec![start];
        while let Some(id) = stack.pop() {
            if taken.insert(id) {
                group.push(id.to_owned());
                stack.extend(incoming.get(id).into_iter().flatten().copied());
            }
        }
        if group.len() > 1 {
            group.sort();
            all.push(group);
        }
    }
    all.sort_by(|a, b| (b.len(), a).cmp(&(a.len(), b)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neutral::End;

    fn relations(pairs: &[(&str, &str)]) -> Vec<Relation> {
        let end = |id: &str| End { id: id.into(), ..End::default() };
        pairs.iter().map(|(from, to)| Relation { from: end(from), to: end(to), kind: Kind::DependsOn, native: None }).collect()
    }

    #[test]
    fn circles_are_groups_and_what_only_leads_to_one_is_in_none() {
        assert!(circles(&relations(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])).is_empty());
        let all = circles(&relations(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")]));
        assert_eq!(all, [vec!["a", "b", "c"], vec!["d", "e"]]);
        let chain: Vec<(String, String)> = (0..20_000).map(|n| (format!("n{n}"), format!("n{}", n + 1))).collect();
        let chain: Vec<(&str, &str)> = chain.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert!(circles(&relations(&chain)).is_empty());
    }
}
