//! Walks along relations: breadth first, each item once, within depth and size. A circle is followed once and told.

use std::collections::{HashMap, HashSet};

use connector_core::Result;
use serde::Serialize;

use crate::{
    neutral::{Direction, End, Kind, Relation},
    system::{CiId, Graph, System},
};

/// How far to go.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) depth: usize,
    pub(crate) max_nodes: usize,
    pub(crate) kinds: HashSet<Kind>,
}

/// What a walk reached.
#[derive(Debug, Serialize)]
pub(crate) struct Walk {
    roots: Vec<String>,
    nodes: Vec<Node>,
    relations: Vec<Relation>,
    depth: usize,
    truncated: bool,
    cyclic: bool,
}

#[derive(Debug, Serialize)]
struct Node {
    id: String,
    name: Option<String>,
    class: Option<String>,
    distance: usize,
    via: Option<String>,
}

/// Walks from these items.
///
/// # Errors
/// [`connector_core::ErrorKind::NotFound`] if one of them does not exist; whatever the system reports.
pub(crate) async fn walk(system: System<'_>, roots: Vec<CiId>, direction: Direction, reach: &Reach) -> Result<Walk> {
    let mut names: HashMap<String, String> = HashMap::new();
    for root in &roots {
        let ci = system.get(root).await?.ok_or_else(|| system.missing(root))?;
        names.insert(root.whole.clone(), ci.name);
    }
    let mut graph = Graph::new(system);
    let mut visited: HashSet<String> = roots.iter().map(|root| root.whole.clone()).collect();
    let mut walk = Walk {
        roots: roots.iter().map(|root| root.whole.clone()).collect(),
        nodes: Vec::new(),
        relations: Vec::new(),
        depth: 0,
        truncated: false,
        cyclic: false,
    };
    let mut known = HashSet::new();
    let mut frontier = roots;
    for distance in 1..=reach.depth {
        if frontier.is_empty() {
            break;
        }
        let here: HashSet<String> = frontier.iter().map(|id| id.whole.clone()).collect();
        let relations = graph.relations(&frontier, direction, &reach.kinds, &names).await?;
        let mut next = Vec::new();
        for relation in relations {
            let (near, far) = sides(&relation, direction, &here);
            let (near, far) = (near.id.clone(), far.clone());
            if visited.insert(far.id.clone()) {
                if walk.nodes.len() >= reach.max_nodes {
                    walk.truncated = true;
                    continue;
                }
                // Something this profile has no id form for ends the walk there.
                if let Ok(id) = system.id(&far.id) {
                    next.push(id);
                }
                if let Some(name) = &far.name {
                    names.insert(far.id.clone(), name.clone());
                }
                walk.depth = distance;
                walk.nodes.push(Node { id: far.id, name: far.name, class: far.class, distance, via: Some(near) });
            }
            if known.insert((relation.from.id.clone(), relation.to.id.clone(), relation.kind)) {
                walk.relations.push(relation);
            }
        }
        frontier = next;
    }
    walk.truncated |= graph.cut || (!frontier.is_empty() && walk.depth == reach.depth);
    // Relations to items that were left out would point nowhere.
    let reached: HashSet<&str> = walk.roots.iter().map(String::as_str).chain(walk.nodes.iter().map(|node| node.id.as_str())).collect();
    walk.relations.retain(|relation| reached.contains(&*relation.from.id) && reached.contains(&*relation.to.id));
    walk.cyclic = cyclic(&walk.relations);
    Ok(walk)
}

/// The end the walk comes from and the one it goes to.
fn sides<'r>(relation: &'r Relation, direction: Direction, here: &HashSet<String>) -> (&'r End, &'r End) {
    let forward = match direction {
        _ if relation.kind == Kind::ConnectedTo => here.contains(&relation.from.id),
        Direction::Dependencies => true,
        Direction::Dependents => false,
    };
    if forward { (&relation.from, &relation.to) } else { (&relation.to, &relation.from) }
}

/// Whether following dependencies can lead back to where one started. Connections have no direction and do not count.
fn cyclic(relations: &[Relation]) -> bool {
    let mut outgoing: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut incoming: HashMap<&str, usize> = HashMap::new();
    for relation in relations.iter().filter(|relation| relation.kind != Kind::ConnectedTo) {
        outgoing.entry(&relation.from.id).or_default().push(&relation.to.id);
        *incoming.entry(&relation.to.id).or_default() += 1;
        incoming.entry(&relation.from.id).or_default();
    }
    // Take away what nothing points at until nothing is left; what cannot be taken away is in, or behind, a circle.
    let mut free: Vec<&str> = incoming.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut taken = 0;
    while let Some(id) = free.pop() {
        taken += 1;
        for to in outgoing.get(id).into_iter().flatten() {
            if let Some(count) = incoming.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    free.push(to);
                }
            }
        }
    }
    taken < incoming.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relations(pairs: &[(&str, &str)]) -> Vec<Relation> {
        let end = |id: &str| End { id: id.into(), ..End::default() };
        pairs.iter().map(|(from, to)| Relation { from: end(from), to: end(to), kind: Kind::DependsOn, native: None }).collect()
    }

    #[test]
    fn a_diamond_is_no_circle_and_a_tail_on_a_circle_is_one() {
        assert!(!cyclic(&relations(&[])));
        assert!(!cyclic(&relations(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])));
        assert!(cyclic(&relations(&[("a", "b"), ("b", "c"), ("c", "b")])));
    }
}
