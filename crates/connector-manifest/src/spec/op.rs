//! One tool as an operation.

use std::sync::Arc;

use connector_core::spec::{
    Approval, BatchSpec, CacheSpec, Effect, Example, InverseSpec, Lazy, LookupSpec, OpSpec, PageSpec, ParamSpec, Repeat, TimeoutClass,
};

use super::schema;
use crate::{
    model::{Manifest, Pagination, PaginationKind, RepeatRule, Tool, ToolExample, ToolPagination},
    placeholders,
};

/// The operation of the tool at this place in the manifest.
pub(super) fn operation(manifest: &Arc<Manifest>, at: usize) -> OpSpec {
    let tool = &manifest.tools[at];
    let effect = tool.effect();
    let rule = tool.repeat();
    let (repeat, ttl, lookup) = match &rule {
        RepeatRule::Natural => (Repeat::Natural, None, None),
        RepeatRule::Never => (Repeat::Never, None, None),
        RepeatRule::Marker => (Repeat::LookupFirst, None, None),
        RepeatRule::Key(key) => (Repeat::ProviderKey, key.ttl.map(|ttl| ttl.0.as_secs()), None),
        RepeatRule::Lookup(lookup) => {
            let by = lookup.by.iter().map(|(name, path)| (name.as_str().into(), path.clone())).collect();
            (Repeat::LookupFirst, None, Some(LookupSpec { tool: lookup.lookup.as_str().into(), by, found: lookup.found.clone() }))
        }
    };
    OpSpec {
        name: tool.name.as_str().into(),
        summary: tool.doc.clone(),
        effect,
        approval: if tool.approval_required { Approval::Required } else { Approval::Policy },
        repeat,
        repeat_ttl_seconds: ttl,
        lookup,
        scopes: tool.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        limit_class: tool.limit_class.as_deref().unwrap_or("default").into(),
        timeout_class: tool.timeout.unwrap_or(if effect == Effect::Read { TimeoutClass::Read } else { TimeoutClass::Write }),
        cache: tool.cache.as_ref().map(|cache| CacheSpec { ttl_seconds: cache.ttl.0.as_secs(), tags: cache.tags.clone() }),
        batch: tool.batch.as_ref().map(|batch| BatchSpec {
            tool: batch.tool.as_str().into(),
            by: batch.by.as_str().into(),
            max: batch.max,
            window_ms: u64::try_from(batch.window.0.as_millis()).unwrap_or(u64::MAX),
            into: batch.into.as_str().into(),
            input: batch.input.clone(),
            items: batch.items.as_str().into(),
            key: batch.key.as_str().into(),
            args: batch.args.clone(),
            share: batch.share.iter().map(|name| name.as_str().into()).collect(),
        }),
        page: pagination(manifest, tool).map(|page| PageSpec { kind: kind(page.kind).into(), items: page.items.as_str().into() }),
        inverse: tool.inverse.as_ref().map(|inverse| InverseSpec {
            tool: inverse.tool.as_str().into(),
            args: inverse.args.iter().map(|(name, path)| (name.as_str().into(), path.clone())).collect(),
        }),
        params: params(tool),
        absent_is_answer: !tool.none_on.is_empty(),
        input_schema: later(manifest, at, schema::input),
        output_schema: later(manifest, at, schema::output),
        endpoint: endpoint(tool),
        docs: tool.docs.clone(),
        example: later(manifest, at, |_, tool| tool.example.as_ref().map(example).unwrap_or_default()),
    }
}

/// What `make` gives for a tool, made when it is first looked at.
fn later<T: 'static>(manifest: &Arc<Manifest>, at: usize, make: fn(&Manifest, &Tool) -> T) -> Lazy<T> {
    let manifest = manifest.clone();
    Lazy::new(move || make(&manifest, &manifest.tools[at]))
}

/// Declared parameters in order, then those that templates only name: any type, required.
fn params(tool: &Tool) -> Vec<ParamSpec> {
    let declared = tool.params.iter().map(|param| ParamSpec {
        name: param.name.as_str().into(),
        type_name: param.type_expr.to_string().into(),
        required: schema::is_required(param),
        doc: param.doc.clone(),
        default: (!param.default.is_null()).then(|| param.default.clone()),
        setting: param.setting.as_deref().map(Into::into),
    });
    let implicit = placeholders::implicit(tool).into_iter().map(|(name, _)| ParamSpec {
        name: name.into(),
        type_name: "any".into(),
        required: true,
        doc: String::new(),
        default: None,
        setting: None,
    });
    declared.chain(implicit).collect()
}

/// How the tool is paged: its own way, or the manifest's if it says `pagination: true`.
pub(crate) fn pagination<'m>(manifest: &'m Manifest, tool: &'m Tool) -> Option<&'m Pagination> {
    match &tool.pagination {
        Some(ToolPagination::Own(own)) => Some(own),
        Some(ToolPagination::Inherit(true)) => manifest.pagination.as_ref(),
        Some(ToolPagination::Inherit(false)) | None => None,
    }
}

fn kind(kind: PaginationKind) -> &'static str {
    match kind {
        PaginationKind::Cursor => "cursor",
        PaginationKind::NextUrl => "next_url",
        PaginationKind::LinkHeader => "link_header",
        PaginationKind::Offset => "offset",
        PaginationKind::Page => "page",
        PaginationKind::Keyset => "keyset",
    }
}

fn endpoint(tool: &Tool) -> String {
    use crate::model::Method::{Delete, Get, Head, Patch, Post, Put};
    let (Some(method), Some(path)) = (tool.method, &tool.path) else { return "native".into() };
    let method = match method {
        Get => "GET",
        Head => "HEAD",
        Post => "POST",
        Put => "PUT",
        Patch => "PATCH",
        Delete => "DELETE",
    };
    format!("{method} {path}")
}

fn example(example: &ToolExample) -> Example {
    Example {
        args: example.args.clone(),
        request: example.request.clone(),
        reply: example.reply.clone(),
        reply_headers: example.reply_headers.clone(),
        status: example.status,
        expect: example.expect.clone(),
    }
}
