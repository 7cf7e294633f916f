//! Which parameters a tool's templates use, declared or not.

use std::collections::HashSet;

use crate::{
    model::{Method, Tool},
    template::{Template, Tree},
};

/// The parameter that a placeholder reads: `properties` for `{properties.email}`.
pub(crate) fn root(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The parameters named in the path, query, headers and body, each once, in that order, with the key each is first used under.
pub(crate) fn used(tool: &Tool) -> Vec<(String, &'static str)> {
    let mut found: Vec<(String, &'static str)> = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |name: &str, at| {
        let name = root(name);
        if seen.insert(name.to_owned()) {
            found.push((name.to_owned(), at));
        }
    };
    if let Some(path) = &tool.path {
        Template::parse(path).placeholders().for_each(|name| add(name, "path"));
    }
    let mut in_tree = |value, at| {
        let mut names = Vec::new();
        Tree::parse(value).placeholders(&mut names);
        names.iter().for_each(|name| add(name, at));
    };
    tool.query.iter().flat_map(|query| query.values()).for_each(|value| in_tree(value, "query"));
    if let Some(body) = &tool.body {
        in_tree(body, "body");
    }
    for value in tool.headers.values() {
        Template::parse(value).placeholders().for_each(|name| add(name, "headers"));
    }
    found
}

/// The parameters that are used and not declared: any type, required.
pub(crate) fn implicit(tool: &Tool) -> Vec<(String, &'static str)> {
    used(tool).into_iter().filter(|(name, _)| tool.param(name).is_none()).collect()
}

/// Whether parameters that no template names go into the query (a tool without a body that spells out no query) or the body (one that
/// spells out neither).
pub(crate) fn takes_the_rest(tool: &Tool) -> bool {
    tool.query.is_none() && (matches!(tool.method, Some(Method::Get | Method::Head | Method::Delete)) || tool.body.is_none())
}

/// The names of all parameters, declared first.
pub(crate) fn all(tool: &Tool) -> Vec<String> {
    tool.params.iter().map(|param| param.name.clone()).chain(implicit(tool).into_iter().map(|(name, _)| name)).collect()
}
