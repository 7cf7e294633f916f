//! Views: every tool and argument named exists, every placeholder is an argument of the operation, every path leads somewhere in what the
//! tool declares to return.

use connector_core::spec::{
    Effect,
    views::{self, CUSTOM, Gives, View, ViewCall, ViewOp, ViewSpec},
};
use serde_json::{Map, Value};

use super::{Check, Strictness, shown, suggestion, under};
use crate::{
    diagnostic::Severity,
    model::{Manifest, Tool, TypeExpr},
    placeholders,
    select::{Path, Step},
    sources::{child, item},
    template::Tree,
    views::Fulfilment,
    views_reply::{Take, lifted},
};

pub(super) fn check(check: &mut Check<'_>) {
    let manifest = check.manifest;
    for (at, tool) in manifest.tools.iter().enumerate() {
        if views::tool(&tool.name).is_some() {
            let severity = if check.strictness == Strictness::BuiltIn { Severity::Error } else { Severity::Warning };
            let message = format!("`{}` is also a tool of a view, which cannot be reached beside it; rename this one", tool.name);
            check.report(severity, child(&item("tools", at), "name"), message);
        }
    }
    for (id, fulfils) in &manifest.views {
        let key = child("views", id);
        let Some(view) = views::view(id) else {
            let near = suggestion(id, views::all().iter().map(|view| view.id));
            check.error(key, format!("there is no view `{}`{near}", shown(id)));
            continue;
        };
        if fulfils.operations.is_empty() {
            check.error(child(&key, "operations"), "a view of which nothing is fulfilled is not fulfilled; leave it out");
        }
        for name in fulfils.models.keys().filter(|name| view.model(name).is_none()) {
            let near = suggestion(name, view.models.iter().map(|model| model.name));
            check.error(under(&key, &["models", name]), format!("the view `{id}` has no model `{}`{near}", shown(name)));
        }
        for (name, call) in &fulfils.operations {
            let key = under(&key, &["operations", name]);
            match view.operation(name) {
                Some(op) => operation(check, &key, view, op, fulfils, call),
                None => {
                    let near = suggestion(name, view.operations.iter().map(|op| op.name));
                    check.error(key, format!("the view `{id}` has no operation `{}`{near}", shown(name)));
                }
            }
        }
    }
}

fn operation(check: &mut Check<'_>, key: &str, view: &'static View, op: &'static ViewOp, fulfils: &ViewSpec, call: &ViewCall) {
    let before = check.found.errors().count();
    let Some(tool) = check.tool(child(key, "call"), &call.call) else { return };
    if tool.effect() != op.effect {
        let (says, does) = (op.effect.as_str(), tool.effect().as_str());
        check.error(
            child(key, "call"),
            format!("`{}` is a {says}, but `{}` is a {does}; people decide by that what may be called", op.name, tool.name),
        );
    }
    request(check, key, op, tool, call);
    let place = if call.map.is_some() { child(key, "map") } else { under("views", &[view.id, "models", op.gives.model()]) };
    if let Some(map) = call.map.as_ref().or_else(|| fulfils.models.get(op.gives.model())) {
        reply(check, key, &place, view, op, tool, call, map);
    }
    // What was not seen here is still not to surprise anybody when it runs.
    if check.found.errors().count() == before
        && let Err(message) = Fulfilment::new(view, op, fulfils, call)
    {
        check.error(key, message);
    }
}

/// What goes in.
fn request(check: &mut Check<'_>, key: &str, op: &ViewOp, tool: &Tool, call: &ViewCall) {
    let implicit = placeholders::implicit(tool);
    let accepted: Vec<&str> = tool.params.iter().map(|param| param.name.as_str()).chain(implicit.iter().map(|(name, _)| name.as_str())).collect();
    let mut used = Vec::new();
    for (part, map) in [("with", &call.with), ("add", &call.add)] {
        for (name, value) in map {
            let key = under(key, &[part, name]);
            if !accepted.contains(&name.as_str()) {
                let near = suggestion(name, accepted.iter().copied());
                check.error(key.clone(), format!("`{}` has no parameter `{}`{near}", tool.name, shown(name)));
            }
            arguments(check, &key, op, value, &mut used);
        }
    }
    for (name, value) in &call.each {
        let key = under(key, &["each", name]);
        match op.params.iter().find(|param| param.name == name) {
            Some(param) if param.kind.is_list() => {}
            Some(_) => check.error(key.clone(), format!("`{}` is no list, so it has no items", shown(name))),
            None => unknown_argument(check, key.clone(), op, name),
        }
        let mut names = Vec::new();
        Tree::parse(value).placeholders(&mut names);
        if names.is_empty() || names.iter().any(|name| name != "item") {
            check.error(key, "here `{item}` stands for the item, and nothing else is filled");
        }
    }
    for (at, name) in call.anyway.iter().enumerate() {
        if !op.params.iter().any(|param| param.name == &**name) {
            unknown_argument(check, item(&child(key, "anyway"), at), op, name);
        }
    }
    let given = |name: &str| call.with.contains_key(name) || call.add.contains_key(name);
    let required = tool.params.iter().filter(|param| param.required && param.default.is_null() && param.setting.is_none()).map(|param| &param.name);
    for name in required.chain(implicit.iter().map(|(name, _)| name)) {
        if !given(name) {
            check.error(child(key, "with"), format!("`{}` needs the parameter `{name}`", tool.name));
        }
    }
    for param in op.params.iter().filter(|param| param.required && !used.iter().any(|name| name == param.name)) {
        check.error(child(key, "with"), format!("the argument `{}` is always given and reaches nothing; use `{{{}}}`", param.name, param.name));
    }
}

/// The placeholders of a value are arguments of the operation.
fn arguments(check: &mut Check<'_>, key: &str, op: &ViewOp, value: &Value, used: &mut Vec<String>) {
    let mut names = Vec::new();
    Tree::parse(value).placeholders(&mut names);
    for name in &names {
        if !op.params.iter().any(|param| param.name == name) {
            unknown_argument(check, key.to_owned(), op, name);
        }
    }
    used.extend(names);
}

fn unknown_argument(check: &mut Check<'_>, key: String, op: &ViewOp, name: &str) {
    let near = suggestion(name, op.params.iter().map(|param| param.name));
    check.error(key, format!("`{}` has no argument `{}`{near}", op.name, shown(name)));
}

/// What comes out.
#[allow(clippy::too_many_arguments, reason = "one step of one check, split off for its length")]
fn reply(check: &mut Check<'_>, key: &str, place: &str, view: &View, op: &ViewOp, tool: &Tool, call: &ViewCall, map: &Map<String, Value>) {
    let manifest = check.manifest;
    let whole = tool.returns.clone().unwrap_or_default();
    let mut record = whole.clone();
    for (part, text) in [("at", &call.at), ("more", &call.more)] {
        let Some(text) = text else { continue };
        let Some(found) = leads(check, &child(key, part), manifest, &whole, text) else { return };
        if part == "at" {
            record = found;
        }
    }
    if let Gives::Many(_) = op.gives {
        record = match plain(&record) {
            TypeExpr::Array(inner) => (**inner).clone(),
            TypeExpr::Any => TypeExpr::Any,
            other => {
                let message =
                    format!("`{}` gives a list, and here is `{other}`; say with `at` where the list is in what `{}` returns", op.name, tool.name);
                check.error(child(key, "at"), message);
                return;
            }
        };
    }
    let Some(model) = view.model(op.gives.model()) else { return };
    for (name, value) in map.iter().filter(|(name, _)| *name != CUSTOM) {
        let key = child(place, name);
        if !model.fields.iter().any(|field| field.name == name) {
            let near = suggestion(name, model.fields.iter().map(|field| field.name));
            check.error(key, format!("`{}` has no field `{}`{near}", model.name, shown(name)));
            continue;
        }
        match Take::parse(value) {
            Err(message) => check.error(key, message),
            Ok(take) => {
                let mut names = Vec::new();
                take.placeholders(&mut names);
                for name in names.iter().filter(|name| !op.params.iter().any(|param| param.name == *name)) {
                    unknown_argument(check, key.clone(), op, name);
                }
                let mut paths = Vec::new();
                take.paths(&mut paths);
                // A write that gives nothing back still has its arguments; fields that are not there are absent.
                if op.effect == Effect::Read || !matches!(record, TypeExpr::None) {
                    paths.iter().for_each(|path| drop(leads(check, &key, manifest, &record, &path.to_string())));
                }
            }
        }
    }
    match lifted(map) {
        Err(message) => check.error(child(place, CUSTOM), message),
        Ok(paths) => paths.iter().for_each(|path| drop(leads(check, &child(place, CUSTOM), manifest, &record, &path.to_string()))),
    }
}

/// What is at a path of a type; an error if there can be nothing.
fn leads(check: &mut Check<'_>, key: &str, manifest: &Manifest, from: &TypeExpr, text: &str) -> Option<TypeExpr> {
    let path = match Path::parse(text) {
        Ok(path) => path,
        Err(message) => {
            check.error(key, message);
            return None;
        }
    };
    let mut found = None;
    for steps in path.alternatives() {
        match follow(manifest, from, steps) {
            Ok(end) => found = found.or(Some(end)),
            Err(why) => {
                check.error(key, format!("`{}` leads nowhere: {why}", shown(text)));
                return None;
            }
        }
    }
    found
}

fn plain(expr: &TypeExpr) -> &TypeExpr {
    match expr {
        TypeExpr::Nullable(inner) => plain(inner),
        other => other,
    }
}

fn follow(manifest: &Manifest, from: &TypeExpr, steps: &[Step]) -> Result<TypeExpr, String> {
    let mut at = from.clone();
    let mut through_list = false;
    for step in steps {
        at = match (plain(&at), step) {
            (TypeExpr::Any | TypeExpr::Object, _) => TypeExpr::Any,
            (TypeExpr::Map(inner), Step::Key(_)) | (TypeExpr::Array(inner), Step::Index(_)) => (**inner).clone(),
            (TypeExpr::Array(inner), Step::Each) => {
                through_list = true;
                (**inner).clone()
            }
            (TypeExpr::Model(name), Step::Key(key)) => {
                let Some(model) = manifest.models.get(name) else { return Ok(TypeExpr::Any) };
                let field = model.fields.0.iter().find(|(field, _)| *field == **key);
                let near = || suggestion(key, model.fields.0.iter().map(|(field, _)| field.as_str()));
                field.map(|(_, field)| field.type_expr.clone()).ok_or_else(|| format!("`{name}` has no field `{}`{}", shown(key), near()))?
            }
            (other, Step::Key(key)) => return Err(format!("`{other}` has no `{}`", shown(key))),
            (other, Step::Index(_) | Step::Each) => return Err(format!("`{other}` is no list")),
        };
    }
    Ok(if through_list { TypeExpr::Array(Box::new(at)) } else { at })
}
