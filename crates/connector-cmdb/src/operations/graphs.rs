//! Operations along relations: lists, walks, ways, circles, maps.

use std::collections::HashSet;

use connector_core::{Error, Result};
use serde_json::{Value, json};

use super::{Arguments, System, written};
use crate::{
    graph,
    map::{Format, Map},
    neutral::{Direction, Kind, Relation},
    system::{CiId, Graph},
    walk::walk,
};

pub(super) async fn relations(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let id = system.id(args.text("id")?)?;
    let ci = system.get(&id).await?.ok_or_else(|| system.missing(&id))?;
    let names = [(id.whole.clone(), ci.name)].into();
    let kinds = Kind::ALL.iter().map(|(_, kind)| *kind).collect();
    let directions: &[Direction] = match args.text_if("direction") {
        Some("dependencies") => &[Direction::Dependencies],
        Some("dependents") => &[Direction::Dependents],
        _ => &[Direction::Dependencies, Direction::Dependents],
    };
    let mut graph = Graph::new(system);
    let mut found: Vec<Relation> = Vec::new();
    for direction in directions {
        for relation in graph.relations(std::slice::from_ref(&id), *direction, &kinds, &names).await? {
            // A connection has no direction: it is told from the item that was asked about.
            let turned = relation.kind == Kind::ConnectedTo && relation.from.id != id.whole;
            let relation = if turned { Relation { from: relation.to, to: relation.from, ..relation } } else { relation };
            if !found.contains(&relation) {
                found.push(relation);
            }
        }
    }
    written(&json!({ "results": found }))
}

/// Kinds of relations, and which of them can be made.
pub(super) fn kinds(system: System<'_>) -> Value {
    let all = Kind::ALL.iter().map(|(name, kind)| {
        let ways = system.profile.relate.iter().filter(|way| way.kind == *kind);
        let ways = ways.map(|way| json!({ "from_class": way.from_class, "to_class": way.to_class }));
        json!({ "kind": name, "directed": *kind != Kind::ConnectedTo, "can_be_made": ways.collect::<Vec<_>>() })
    });
    json!({ "results": all.collect::<Vec<_>>() })
}

fn ends(system: System<'_>, args: &Arguments<'_>) -> Result<(CiId, CiId, Kind)> {
    let kind = args.kind("kind")?;
    Ok((system.id(args.text("from")?)?, system.id(args.text("to")?)?, kind))
}

pub(super) async fn relate(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (from, to, kind) = ends(system, args)?;
    let (created, relation) = system.relate(&from, &to, kind).await?;
    written(&json!({ "created": created, "relation": relation }))
}

pub(super) async fn unrelate(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (from, to, kind) = ends(system, args)?;
    let removed = system.unrelate(&from, &to, kind).await?;
    written(&json!({ "removed": removed.is_some(), "relation": removed }))
}

pub(super) async fn walk_from(system: System<'_>, args: &Arguments<'_>, direction: Direction) -> Result<Value> {
    let root = system.id(args.text("id")?)?;
    written(&walk(system, vec![root], direction, &args.reach()?).await?)
}

/// The items a call names: by id, and those a ticket is linked to. Each once.
async fn roots(system: System<'_>, args: &Arguments<'_>) -> Result<Vec<CiId>> {
    let mut ids = args.texts("ids");
    if let Some(ticket) = args.text_if("ticket") {
        ids.extend(system.links_of_ticket(ticket).await?.into_iter().map(|link| link.ci_id));
    } else if ids.is_empty() {
        return Err(Error::invalid("`ids` or `ticket` is needed"));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids.iter().map(|id| system.id(id)).collect()
}

pub(super) async fn impact(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let roots = roots(system, args).await?;
    written(&walk(system, roots, Direction::Dependents, &args.reach()?).await?)
}

pub(super) async fn path(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let (from, to) = (system.id(args.text("from")?)?, system.id(args.text("to")?)?);
    if from == to {
        return Err(Error::invalid("`from` and `to` are the same item"));
    }
    written(&graph::way(system, from, &to, &args.reach()?).await?)
}

pub(super) async fn common(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let roots = roots(system, args).await?;
    if roots.len() < 2 {
        return Err(Error::invalid("two items at least are needed to have something in common"));
    }
    let reach = args.reach()?;
    let mut walks = Vec::new();
    for root in roots {
        walks.push((root.whole.clone(), walk(system, vec![root], Direction::Dependencies, &reach).await?));
    }
    let truncated = walks.iter().any(|(_, walk)| walk.truncated);
    let roots: Vec<&String> = walks.iter().map(|(root, _)| root).collect();
    written(&json!({ "roots": roots, "results": graph::shared(&walks), "truncated": truncated }))
}

pub(super) async fn cycles(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let root = system.id(args.text("id")?)?;
    let walk = walk(system, vec![root], Direction::Dependencies, &args.reach()?).await?;
    let name = |id: &String| {
        let started = walk.starts.iter().find(|ci| ci.id == *id).map(|ci| ci.name.clone());
        started.or_else(|| walk.nodes.iter().find(|node| node.id == *id).and_then(|node| node.name.clone()))
    };
    let all = graph::circles(&walk.relations);
    let all = all.iter().map(|group| json!({ "members": group.iter().map(|id| json!({ "id": id, "name": name(id) })).collect::<Vec<_>>() }));
    Ok(json!({ "results": all.collect::<Vec<_>>(), "truncated": walk.truncated }))
}

pub(super) async fn map(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let format = args.text_if("format").unwrap_or("mermaid");
    let (name, format, media_type) =
        Format::ALL.into_iter().find(|(name, ..)| *name == format).ok_or_else(|| Error::invalid("`format` is one of dot, mermaid, svg"))?;
    let roots = roots(system, args).await?;
    let reach = args.reach()?;
    let direction = args.text_if("direction").unwrap_or("both");
    let down = if direction == "dependents" { None } else { Some(walk(system, roots.clone(), Direction::Dependencies, &reach).await?) };
    let up = if direction == "dependencies" { None } else { Some(walk(system, roots, Direction::Dependents, &reach).await?) };
    let truncated = [&down, &up].into_iter().flatten().any(|walk| walk.truncated);
    let map = Map::of(down.as_ref(), up.as_ref());
    let (nodes, relations) = map.size();
    Ok(json!({ "format": name, "media_type": media_type, "text": map.write(format), "nodes": nodes, "relations": relations, "truncated": truncated }))
}
