//! Walks along relations: breadth first, each item once, within depth and size. A circle is followed once and told.

use std::collections::{HashMap, HashSet};

use connector_core::Result;
use serde::Serialize;

use crate::{
    graph::circles,
    neutral::{Ci, Direction, End, Kind, Relation},
    system::{CiId, Graph, System},
};

/// Names that are looked up after a walk, where relations tell ids only.
const MOST_NAMED: usize = 100;

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
    pub(crate) roots: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) relations: Vec<Relation>,
    pub(crate) depth: usize,
    pub(crate) truncated: bool,
    pub(crate) cyclic: bool,
    /// What is known about the roots.
    #[serde(skip)]
    pub(crate) starts: Vec<Ci>,
}

/// An item a walk reached.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) class: Option<String>,
    pub(crate) distance: usize,
    pub(crate) via: Option<String>,
}

/// Walks from these items.
///
/// # Errors
/// [`connector_core::ErrorKind::NotFound`] if one of them does not exist; whatever the system reports.
pub(crate) async fn walk(system: System<'_>, roots: Vec<CiId>, direction: Direction, reach: &Reach) -> Result<Walk> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut starts = Vec::new();
    for root in &roots {
        let ci = system.get(root).await?.ok_or_else(|| system.missing(root))?;
        names.insert(root.whole.clone(), ci.name.clone());
        starts.push(ci);
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
        starts,
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
    walk.cyclic = !circles(&walk.relations).is_empty();
    named(system, &mut walk).await?;
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

/// Looks up the names of items whose relations tell ids only. The nearest come first; the rest keep their ids.
async fn named(system: System<'_>, walk: &mut Walk) -> Result<()> {
    let nameless = walk.nodes.iter().filter(|node| node.name.is_none()).take(MOST_NAMED);
    let ids: Vec<CiId> = nameless.filter_map(|node| system.id(&node.id).ok()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let known = system.many(&ids).await?;
    for node in walk.nodes.iter_mut().filter(|node| node.name.is_none()) {
        if let Some(ci) = known.iter().find(|ci| ci.id == node.id) {
            node.name = Some(ci.name.clone());
            node.class = Some(ci.class.clone());
        }
    }
    Ok(())
}
