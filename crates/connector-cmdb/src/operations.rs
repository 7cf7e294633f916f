//! The operations of the manifest, each a few calls into [`System`].

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, Hooks, NativeOperation};
use serde_json::{Map, Value, json};

use crate::{
    neutral::{Direction, Kind, TicketLink},
    profile::{Profile, builtin},
    system::{Graph, System},
    walk::{Reach, walk},
};

/// The connection setting that names the profile.
const PROFILE_SETTING: &str = "profile";

/// The operations by the names the manifest gives them.
const OPERATIONS: [(&str, Operation); 16] = [
    ("search_cis", Operation::Search),
    ("get_ci", Operation::Get),
    ("find_ci_by_name", Operation::Find),
    ("list_classes", Operation::Classes),
    ("get_owner", Operation::Owner),
    ("update_ci", Operation::Update),
    ("create_ci", Operation::Create),
    ("probe", Operation::Probe),
    ("list_relations", Operation::Relations),
    ("dependencies", Operation::Walk(Direction::Dependencies)),
    ("dependents", Operation::Walk(Direction::Dependents)),
    ("impact", Operation::Impact),
    ("link_ticket", Operation::Link),
    ("unlink_ticket", Operation::Unlink),
    ("list_linked_cis", Operation::LinkedItems),
    ("list_linked_tickets", Operation::LinkedTickets),
];

#[derive(Debug, Clone, Copy)]
enum Operation {
    Search,
    Get,
    Find,
    Classes,
    Owner,
    Update,
    Create,
    Probe,
    Relations,
    Walk(Direction),
    Impact,
    Link,
    Unlink,
    LinkedItems,
    LinkedTickets,
}

/// An operation over the profiles it knows.
#[derive(Debug)]
struct Neutral {
    operation: Operation,
    profiles: Arc<Vec<Arc<Profile>>>,
}

/// The hooks over the built-in profiles and these further ones.
pub(crate) fn hooks(further: Vec<Profile>) -> Result<Hooks> {
    let mut profiles: Vec<Arc<Profile>> = further.into_iter().map(Arc::new).collect();
    // A profile of the same name replaces ours.
    profiles.extend(builtin()?);
    let profiles = Arc::new(profiles);
    Ok(OPERATIONS.into_iter().fold(Hooks::new(), |hooks, (name, operation)| hooks.native(name, Neutral { operation, profiles: profiles.clone() })))
}

#[async_trait]
impl NativeOperation for Neutral {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let system = System { engine, cx, profile: self.profile(cx)? };
        let answer = self.operation.run(system, &Arguments { engine, call: &call }).await?;
        OpReply::from_value(answer, call.decode)
    }
}

impl Neutral {
    fn profile(&self, cx: &CallCx) -> Result<&Arc<Profile>> {
        let known = || self.profiles.iter().map(|profile| profile.profile.as_str());
        let Some(name) = cx.connection.setting(PROFILE_SETTING) else {
            let all = known().collect::<Vec<_>>().join(", ");
            return Err(Error::config(format!("connection `{}` needs the setting `{PROFILE_SETTING}`: {all}", cx.connection.id)));
        };
        self.profiles.iter().find(|profile| profile.profile == name).ok_or_else(|| {
            let hint = match connector_core::suggest::nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let name = connector_core::redact::printable(name, 60);
            Error::config(format!("connection `{}` names the profile `{name}`, which does not exist; {hint}", cx.connection.id))
        })
    }
}

impl Operation {
    async fn run(self, system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
        match self {
            Self::Search => {
                let (found, more) = system.search(args.text("query")?, args.text_if("class"), args.number("limit")).await?;
                written(&json!({ "results": found, "truncated": more }))
            }
            Self::Get => written(&system.get(&system.id(args.text("id")?)?).await?),
            Self::Find => written(&system.find(args.text("name")?, args.text_if("class")).await?),
            Self::Classes => {
                let classes = system.profile.classes.0.iter();
                let classes =
                    classes.map(|class| json!({ "name": class.name, "native": class.native, "doc": class.doc, "creatable": class.creatable }));
                Ok(json!({ "results": classes.collect::<Vec<_>>() }))
            }
            Self::Owner => {
                let id = system.id(args.text("id")?)?;
                Ok(json!({ "ci_id": id.whole, "results": system.owners(&id).await? }))
            }
            Self::Update => {
                let id = system.id(args.text("id")?)?;
                let values = args.object("attributes");
                if values.is_empty() {
                    return Err(Error::invalid("`attributes` names nothing to change"));
                }
                written(&system.update(&id, Value::Object(values), args.text_if("unless_changed_since")).await?)
            }
            Self::Create => {
                let (created, ci) = system.create(args.text("class")?, args.text("name")?, args.object("attributes")).await?;
                written(&json!({ "created": created, "ci": ci }))
            }
            Self::Probe => probe(system).await,
            Self::Relations => relations(system, args).await,
            Self::Walk(direction) => {
                let root = system.id(args.text("id")?)?;
                written(&walk(system, vec![root], direction, &args.reach()?).await?)
            }
            Self::Impact => {
                let mut ids = args.texts("ids");
                if let Some(ticket) = args.text_if("ticket") {
                    ids.extend(system.links_of_ticket(ticket).await?.into_iter().map(|link| link.ci_id));
                } else if ids.is_empty() {
                    return Err(Error::invalid("`ids` or `ticket` is needed"));
                }
                let mut seen = HashSet::new();
                ids.retain(|id| seen.insert(id.clone()));
                let roots = ids.iter().map(|id| system.id(id)).collect::<Result<_>>()?;
                written(&walk(system, roots, Direction::Dependents, &args.reach()?).await?)
            }
            Self::Link => link(system, args).await,
            Self::Unlink => unlink(system, args).await,
            Self::LinkedItems => written(&json!({ "results": system.links_of_ticket(args.text("ticket")?).await? })),
            Self::LinkedTickets => written(&json!({ "results": system.links_of_item(&system.id(args.text("id")?)?).await? })),
        }
    }
}

async fn probe(system: System<'_>) -> Result<Value> {
    let probe = &system.profile.probe;
    let vars = system.vars();
    let found = system.read(&system.path(&probe.path, &vars)?, &system.pairs(&[&probe.query], &vars)).await?;
    let found = found.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("the address answers, but not like {}; check base URL and profile", system.profile.name))
    })?;
    let version = probe.version.as_ref().and_then(|at| at.text(&found));
    Ok(json!({ "ok": true, "system": system.profile.profile, "version": version }))
}

async fn relations(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
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
    let mut found: Vec<crate::neutral::Relation> = Vec::new();
    for direction in directions {
        for relation in graph.relations(std::slice::from_ref(&id), *direction, &kinds, &names).await? {
            if !found.contains(&relation) {
                found.push(relation);
            }
        }
    }
    written(&json!({ "results": found }))
}

async fn link(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    // All ids are checked before the first link is made.
    let ids = args.texts("ci_ids").iter().map(|id| system.id(id)).collect::<Result<Vec<_>>>()?;
    let vars = system.ticket(ticket).await?;
    let (mut linked, mut already): (Vec<TicketLink>, Vec<TicketLink>) = (Vec::new(), Vec::new());
    for id in &ids {
        if linked.iter().chain(&already).any(|link| link.ci_id == id.whole) {
            continue;
        }
        let (made, link) = system.link(ticket, &vars, id).await?;
        if made { linked.push(link) } else { already.push(link) }
    }
    written(&json!({ "ticket": ticket, "linked": linked, "already_linked": already }))
}

async fn unlink(system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
    let ticket = args.text("ticket")?;
    let ids = args.texts("ci_ids");
    for id in &ids {
        system.id(id)?;
    }
    let mut removed = Vec::new();
    for link in system.links_of_ticket(ticket).await? {
        if ids.is_empty() || ids.contains(&link.ci_id) {
            system.unlink(&link).await?;
            removed.push(link);
        }
    }
    written(&json!({ "ticket": ticket, "removed": removed }))
}

/// The arguments of a call; what is absent has the manifest's default. Types and bounds were checked by the engine.
struct Arguments<'a> {
    engine: &'a Engine,
    call: &'a OpCall,
}

impl Arguments<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        let given = self.call.args.get(name).filter(|value| !value.is_null());
        let declared = || self.engine.manifest().tool(&self.call.operation)?.param(name).map(|param| &param.default).filter(|value| !value.is_null());
        given.or_else(declared)
    }

    fn text_if(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.text_if(name).ok_or_else(|| Error::invalid(format!("parameter `{name}` must not be empty")))
    }

    fn texts(&self, name: &str) -> Vec<String> {
        self.value(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn object(&self, name: &str) -> Map<String, Value> {
        self.value(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    fn number(&self, name: &str) -> usize {
        self.value(name).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok()).unwrap_or(1)
    }

    fn reach(&self) -> Result<Reach> {
        let kinds = self.texts("kinds");
        let kinds = kinds.iter().map(|wanted| {
            Kind::ALL.iter().find(|(name, _)| name == wanted).map(|(_, kind)| *kind).ok_or_else(|| {
                let wanted = connector_core::redact::printable(wanted, 40);
                let known = Kind::ALL.map(|(name, _)| name).join(", ");
                Error::invalid(format!("`{wanted}` is no kind of relation; there are {known}"))
            })
        });
        Ok(Reach { depth: self.number("depth"), max_nodes: self.number("max_nodes"), kinds: kinds.collect::<Result<_>>()? })
    }
}

fn written(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal("an answer could not be written as JSON").with_source(error))
}
