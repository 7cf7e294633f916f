//! The operations of the manifest: which there are, over which profile a call runs, and its arguments. What each does is in the files beside
//! this one.

mod graphs;
mod items;
mod tickets;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use connector_core::{CallCx, Cursor, Error, OpCall, OpReply, Result, delta::DeltaPage};
use connector_manifest::{Engine, Hooks, NativeDelta, NativeOperation};
use serde_json::{Map, Value, json};

use crate::{
    neutral::{Direction, Kind},
    profile::{Profile, builtin},
    system::{Sessions, System},
    walk::Reach,
};

/// The connection setting that names the profile.
const PROFILE_SETTING: &str = "profile";
/// The connection setting that is a profile.
const TEXT_SETTING: &str = "profile_yaml";
/// Profiles of more connections than these are read again.
const MOST_OWN_PROFILES: usize = 64;

/// The operations by the names the manifest gives them.
const OPERATIONS: [(&str, Operation); 42] = [
    ("search_cis", Operation::Search),
    ("get_ci", Operation::Get),
    ("get_cis", Operation::Many),
    ("find_ci_by_name", Operation::Find),
    ("find_cis_by_serial", Operation::Serial),
    ("find_cis_by_ip", Operation::Address),
    ("find_cis_in_text", Operation::InText),
    ("list_cis", Operation::List),
    ("count_cis", Operation::Count),
    ("list_classes", Operation::Classes),
    ("list_changes", Operation::Changes),
    ("get_ci_history", Operation::History),
    ("get_owner", Operation::Owner),
    ("list_owned_cis", Operation::Owned),
    ("identify_ci", Operation::Identify),
    ("create_ci", Operation::Create),
    ("update_ci", Operation::Update),
    ("upsert_ci", Operation::Upsert),
    ("plan_cis", Operation::Reconcile { dry: true }),
    ("reconcile_cis", Operation::Reconcile { dry: false }),
    ("retire_ci", Operation::Retire(true)),
    ("restore_ci", Operation::Retire(false)),
    ("probe", Operation::Probe),
    ("capabilities", Operation::Capabilities),
    ("list_relations", Operation::Relations),
    ("list_relation_kinds", Operation::Kinds),
    ("add_relation", Operation::Relate),
    ("remove_relation", Operation::Unrelate),
    ("dependencies", Operation::Walk(Direction::Dependencies)),
    ("dependents", Operation::Walk(Direction::Dependents)),
    ("impact", Operation::Impact),
    ("find_path", Operation::Path),
    ("common_dependencies", Operation::Common),
    ("find_cycles", Operation::Cycles),
    ("service_map", Operation::Map),
    ("get_ticket", Operation::Ticket),
    ("ticket_impact", Operation::TicketImpact),
    ("link_ticket", Operation::Link),
    ("unlink_ticket", Operation::Unlink),
    ("set_linked_cis", Operation::SetLinks),
    ("list_linked_cis", Operation::LinkedItems),
    ("list_linked_tickets", Operation::LinkedTickets),
];

#[derive(Debug, Clone, Copy)]
enum Operation {
    Search,
    Get,
    Many,
    Find,
    Serial,
    Address,
    InText,
    List,
    Count,
    Classes,
    Changes,
    History,
    Owner,
    Owned,
    Identify,
    Create,
    Update,
    Upsert,
    Reconcile { dry: bool },
    Retire(bool),
    Probe,
    Capabilities,
    Relations,
    Kinds,
    Relate,
    Unrelate,
    Walk(Direction),
    Impact,
    Path,
    Common,
    Cycles,
    Map,
    Ticket,
    TicketImpact,
    Link,
    Unlink,
    SetLinks,
    LinkedItems,
    LinkedTickets,
}

/// What the operations of one connector share.
#[derive(Debug)]
struct Known {
    profiles: Vec<Arc<Profile>>,
    /// Profiles that connections bring themselves, by their text.
    own: Mutex<HashMap<String, Arc<Profile>>>,
    sessions: Sessions,
}

/// An operation over the profiles it knows.
#[derive(Debug)]
struct Neutral {
    operation: Operation,
    known: Arc<Known>,
}

/// The changes of a class, as a stream.
#[derive(Debug)]
struct Changes(Arc<Known>);

/// The hooks over the built-in profiles and these further ones.
pub(crate) fn hooks(further: Vec<Profile>) -> Result<Hooks> {
    let mut profiles: Vec<Arc<Profile>> = further.into_iter().map(Arc::new).collect();
    // A profile of the same name replaces ours.
    profiles.extend(builtin()?);
    let known = Arc::new(Known { profiles, own: Mutex::default(), sessions: Sessions::default() });
    let hooks = OPERATIONS.into_iter().fold(Hooks::new(), |hooks, (name, operation)| hooks.native(name, Neutral { operation, known: known.clone() }));
    Ok(hooks.delta(Changes(known)))
}

#[async_trait]
impl NativeOperation for Neutral {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let profile = self.known.profile(cx)?;
        let system = System { engine, cx, profile: &profile, sessions: &self.known.sessions };
        let answer = self.operation.run(system, &Arguments { engine, call: &call }).await?;
        OpReply::from_value(answer, call.decode)
    }
}

#[async_trait]
impl NativeDelta for Changes {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let profile = self.0.profile(cx)?;
        let system = System { engine, cx, profile: &profile, sessions: &self.0.sessions };
        crate::changes::page(system, stream, cursor).await
    }
}

impl Known {
    fn profile(&self, cx: &CallCx) -> Result<Arc<Profile>> {
        if let Some(text) = cx.connection.setting(TEXT_SETTING).filter(|text| !text.trim().is_empty()) {
            return self.own(text);
        }
        let known = || self.profiles.iter().map(|profile| profile.profile.as_str());
        let Some(name) = cx.connection.setting(PROFILE_SETTING) else {
            let all = known().collect::<Vec<_>>().join(", ");
            return Err(Error::config(format!("connection `{}` needs the setting `{PROFILE_SETTING}`: {all}", cx.connection.id)));
        };
        self.profiles.iter().find(|profile| profile.profile == name).cloned().ok_or_else(|| {
            let hint = match connector_core::suggest::nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let name = connector_core::redact::printable(name, 60);
            Error::config(format!("connection `{}` names the profile `{name}`, which does not exist; {hint}", cx.connection.id))
        })
    }

    /// A profile that a connection brings itself, read once.
    fn own(&self, text: &str) -> Result<Arc<Profile>> {
        let lock = || self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(text) {
            return Ok(known.clone());
        }
        let profile = Arc::new(Profile::parse(text)?);
        let mut all = lock();
        if all.len() >= MOST_OWN_PROFILES {
            all.clear();
        }
        all.insert(text.to_owned(), profile.clone());
        Ok(profile)
    }
}

impl Operation {
    async fn run(self, system: System<'_>, args: &Arguments<'_>) -> Result<Value> {
        match self {
            Self::Search => items::search(system, args).await,
            Self::Get => written(&system.get(&system.id(args.text("id")?)?).await?),
            Self::Many => items::many(system, args).await,
            Self::Find => written(&system.find(args.text("name")?, args.text_if("class")).await?),
            Self::Serial => written(&json!({ "results": system.with_serial(args.text("serial")?, args.text_if("class")).await? })),
            Self::Address => written(&json!({ "results": system.with_ip(args.text("ip")?, args.text_if("class")).await? })),
            Self::InText => items::in_text(system, args).await,
            Self::List => items::list(system, args).await,
            Self::Count => {
                let (count, truncated) = system.count(args.text("class")?).await?;
                Ok(json!({ "class": args.text("class")?, "count": count, "truncated": truncated }))
            }
            Self::Classes => Ok(items::classes(system)),
            Self::Changes => items::changes(system, args).await,
            Self::History => {
                let id = system.id(args.text("id")?)?;
                let (results, truncated) = system.history(&id, args.number("limit")).await?;
                Ok(json!({ "ci_id": id.whole, "results": results, "truncated": truncated }))
            }
            Self::Owner => {
                let id = system.id(args.text("id")?)?;
                Ok(json!({ "ci_id": id.whole, "results": system.owners(&id).await? }))
            }
            Self::Owned => {
                let (found, more) = system.owned_by(args.text("owner")?, args.number("limit")).await?;
                written(&json!({ "results": found, "truncated": more }))
            }
            Self::Identify => items::identify(system, args).await,
            Self::Create => {
                let (created, ci) = system.create(args.text("class")?, args.text("name")?, args.object("attributes")).await?;
                written(&json!({ "created": created, "ci": ci }))
            }
            Self::Update => {
                let id = system.id(args.text("id")?)?;
                let values = args.object("attributes");
                if values.is_empty() {
                    return Err(Error::invalid("`attributes` names nothing to change"));
                }
                written(&system.update(&id, Value::Object(values), args.text_if("unless_changed_since")).await?)
            }
            Self::Upsert => items::upsert(system, args).await,
            Self::Reconcile { dry } => items::reconcile(system, args, dry).await,
            Self::Retire(retired) => written(&system.set_retired(&system.id(args.text("id")?)?, retired).await?),
            Self::Probe => items::probe(system).await,
            Self::Capabilities => Ok(items::capabilities(system)),
            Self::Relations => graphs::relations(system, args).await,
            Self::Kinds => Ok(graphs::kinds(system)),
            Self::Relate => graphs::relate(system, args).await,
            Self::Unrelate => graphs::unrelate(system, args).await,
            Self::Walk(direction) => graphs::walk_from(system, args, direction).await,
            Self::Impact => graphs::impact(system, args).await,
            Self::Path => graphs::path(system, args).await,
            Self::Common => graphs::common(system, args).await,
            Self::Cycles => graphs::cycles(system, args).await,
            Self::Map => graphs::map(system, args).await,
            Self::Ticket => tickets::get(system, args).await,
            Self::TicketImpact => tickets::impact(system, args).await,
            Self::Link => tickets::link(system, args).await,
            Self::Unlink => tickets::unlink(system, args).await,
            Self::SetLinks => tickets::set(system, args).await,
            Self::LinkedItems => written(&json!({ "results": system.links_of_ticket(args.text("ticket")?).await? })),
            Self::LinkedTickets => written(&json!({ "results": system.links_of_item(&system.id(args.text("id")?)?).await? })),
        }
    }

    /// Why this profile cannot do it; `None`: it can.
    fn missing(self, profile: &Profile) -> Option<&'static str> {
        let lacks = |there: bool, why: &'static str| (!there).then_some(why);
        match self {
            Self::Serial => lacks(profile.by_serial.is_some(), "the system's search by serial number is not known"),
            Self::Address => lacks(profile.by_ip.is_some(), "the system's search by address is not known"),
            Self::Changes => lacks(profile.changed_since.is_some(), "the system does not tell when items changed"),
            Self::History => lacks(profile.history.is_some(), "the system's history is not public, or not known"),
            Self::Owned => lacks(profile.owner.owned_by.is_some(), "the system has no filter for owners that is known"),
            Self::Retire(_) => lacks(profile.update.retire.is_some(), "the states of this installation are its own"),
            Self::Relate | Self::Unrelate => lacks(!profile.relate.is_empty(), "relations of this system are made in ways that are not known"),
            Self::Ticket => lacks(profile.links.ticket.is_some(), "the system has no tickets, or no public way to read them"),
            _ => None,
        }
    }
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

    fn kind(&self, name: &str) -> Result<Kind> {
        kind(self.text(name)?)
    }

    fn reach(&self) -> Result<Reach> {
        let kinds = self.texts("kinds");
        let kinds = kinds.iter().map(|wanted| kind(wanted));
        Ok(Reach { depth: self.number("depth"), max_nodes: self.number("max_nodes"), kinds: kinds.collect::<Result<_>>()? })
    }
}

fn kind(wanted: &str) -> Result<Kind> {
    Kind::ALL.iter().find(|(name, _)| *name == wanted).map(|(_, kind)| *kind).ok_or_else(|| {
        let wanted = connector_core::redact::printable(wanted, 40);
        let known = Kind::ALL.map(|(name, _)| name).join(", ");
        Error::invalid(format!("`{wanted}` is no kind of relation; there are {known}"))
    })
}

fn written(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::internal("an answer could not be written as JSON").with_source(error))
}
