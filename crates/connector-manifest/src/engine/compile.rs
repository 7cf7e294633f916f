//! Turns a checked manifest into what a call needs: everything that can be worked out once is worked out here, never per call.

use std::sync::Arc;

use connector_core::{CallCx, Error, OpCall, Result, spec::OpSpec};
use http::{HeaderName, HeaderValue, Method};

use super::{
    allowance::Allowance,
    escape,
    hooks::{Hooks, NativeOperation, Prepare},
    input::Arguments,
    paginate::Paging,
};
use crate::{
    model::{self, Encoding, Param, RepeatRule, Tool, ToolPagination, TypeExpr},
    select::Path,
    template::{Part, Template, Tree},
};

/// A tool, ready to be called.
#[derive(Debug)]
pub(super) struct CompiledTool {
    pub(super) spec: Arc<OpSpec>,
    pub(super) params: Vec<Param>,
    pub(super) door: Door,
}

/// How it is carried out.
#[derive(Debug)]
pub(super) enum Door {
    /// By a request template.
    Http(Box<HttpTool>),
    /// By Rust.
    Native(Arc<dyn NativeOperation>),
}

/// A request template and what becomes of the reply.
#[derive(Debug)]
pub(super) struct HttpTool {
    pub(super) method: Method,
    pub(super) path: Vec<Part>,
    pub(super) query: Vec<(Box<str>, Tree)>,
    pub(super) fixed_headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Option<Tree>,
    pub(super) encoding: Encoding,
    pub(super) key_header: Option<HeaderName>,
    pub(super) paging: Option<Paging>,
    pub(super) select: Option<Path>,
    pub(super) response_map: Option<Vec<(String, Path)>>,
    pub(super) none_on: Vec<u16>,
    pub(super) done_on: Vec<String>,
    pub(super) raw: bool,
    pub(super) nothing: bool,
    /// An answer without a body is not what the vendor promised.
    pub(super) promises: bool,
    pub(super) split: Option<Split>,
    pub(super) allowance: Option<Allowance>,
    pub(super) prepare: Option<Prepare>,
    /// A reply of success may name items that failed.
    pub(super) outcomes: bool,
}

/// How a long list of inputs is cut into requests.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) by: String,
    pub(super) max: usize,
    pub(super) items: Path,
}

impl HttpTool {
    /// The call as its request is rendered: the arguments as they came, or what the connector's code made of them once they were checked.
    pub(super) fn prepared(&self, tool: &CompiledTool, cx: &CallCx, mut call: OpCall) -> Result<OpCall> {
        if let Some(prepare) = self.prepare {
            Arguments::check(tool, &call.args, cx)?;
            prepare(&mut call.args)?;
        }
        Ok(call)
    }
}

impl CompiledTool {
    /// The parameter of this name.
    pub(super) fn param(&self, name: &str) -> Option<&Param> {
        // Tools have few parameters; a scan beats hashing.
        self.params.iter().find(|param| param.name == name)
    }
}

/// Compiles a tool that is a request template.
pub(super) fn http_tool(manifest: &model::Manifest, tool: &Tool, spec: &OpSpec, hooks: &Hooks) -> Result<HttpTool> {
    let wrong = |what: String| Error::config(format!("tool `{}`: {what}", tool.name));
    let path = |text: &str| Path::parse(text).map_err(wrong);
    let header_name = |name: &str| HeaderName::try_from(name).map_err(|_| wrong(format!("`{name}` is not a header name")));
    for rule in tool.params.iter().filter_map(|param| param.escape.as_deref()) {
        if !escape::RULES.contains(&rule) {
            return Err(wrong(format!("`{rule}` is not an escape rule; accepted: {}", escape::RULES.join(", "))));
        }
    }
    let method = match tool.method.ok_or_else(|| wrong("it has neither `method` and `path` nor `native`".into()))? {
        model::Method::Get => Method::GET,
        model::Method::Head => Method::HEAD,
        model::Method::Post => Method::POST,
        model::Method::Put => Method::PUT,
        model::Method::Patch => Method::PATCH,
        model::Method::Delete => Method::DELETE,
    };
    let path_text = tool.path.as_deref().ok_or_else(|| wrong("`path` is missing".into()))?;
    let path_template = Template::parse(path_text);
    let mut used: Vec<String> = path_template.placeholders().map(str::to_owned).collect();
    let mut fixed_headers = Vec::new();
    let mut headers = Vec::new();
    for (name, value) in &tool.headers {
        let template = Template::parse(value);
        used.extend(template.placeholders().map(str::to_owned));
        match template.as_literal() {
            Some(text) => fixed_headers
                .push((header_name(name)?, HeaderValue::from_str(text).map_err(|_| wrong(format!("header `{name}` has an unusable value")))?)),
            None => headers.push((header_name(name)?, template)),
        }
    }
    let mut body = tool.body.as_ref().map(Tree::parse);
    if let Some(body) = &body {
        body.placeholders(&mut used);
    }
    let bodiless = matches!(method, Method::GET | Method::HEAD | Method::DELETE);
    let query = match &tool.query {
        Some(query) => query.iter().map(|(name, value)| (name.as_str().into(), Tree::parse(value))).collect(),
        // The short form: a reading tool's remaining parameters are its query; a writing tool's without a body template are its body.
        None => {
            let rest: Vec<_> = tool.params.iter().filter(|param| !used.contains(&param.name)).map(|param| param.name.as_str()).collect();
            let as_members = || rest.iter().map(|name| ((*name).into(), Tree::Param((*name).into()))).collect::<Vec<_>>();
            if !bodiless && body.is_none() && !rest.is_empty() {
                body = Some(Tree::Object(as_members()));
                Vec::new()
            } else if bodiless {
                as_members()
            } else {
                Vec::new()
            }
        }
    };
    let pagination = match &tool.pagination {
        Some(ToolPagination::Own(own)) => Some(&**own),
        Some(ToolPagination::Inherit(true)) => {
            Some(manifest.pagination.as_ref().ok_or_else(|| wrong("`pagination: true`, but the manifest declares none".into()))?)
        }
        Some(ToolPagination::Inherit(false)) | None => None,
    };
    let allowance = manifest.limits.get(&*spec.limit_class).map(Allowance::compile).transpose().map_err(wrong)?.flatten();
    let prepare = match &tool.prepare {
        Some(name) => Some(*hooks.prepare.get(name).ok_or_else(|| wrong(format!("this connector's code has no `prepare: {name}`")))?),
        None => None,
    };
    if tool.outcomes && hooks.partial.is_none() {
        return Err(wrong("`outcomes` is said, but this connector's code does not read them".into()));
    }
    Ok(HttpTool {
        method,
        path: path_template.parts().to_vec(),
        query,
        fixed_headers,
        headers,
        body,
        encoding: tool.encoding,
        key_header: match tool.repeat() {
            RepeatRule::Key(key) => Some(header_name(&key.header)?),
            _ => None,
        },
        paging: pagination.map(Paging::compile).transpose().map_err(wrong)?,
        select: tool.select.as_deref().map(path).transpose()?,
        response_map: tool
            .response_map
            .as_ref()
            .map(|map| map.iter().map(|(name, text)| Ok((name.clone(), path(text)?))).collect::<Result<_>>())
            .transpose()?,
        none_on: tool.none_on.clone(),
        done_on: tool.done_on.clone(),
        raw: matches!(&tool.returns, Some(TypeExpr::Raw)),
        nothing: matches!(&tool.returns, Some(TypeExpr::None)),
        promises: match &tool.returns {
            Some(TypeExpr::Any | TypeExpr::None | TypeExpr::Raw | TypeExpr::Nullable(_)) => false,
            Some(_) => true,
            None => tool.select.is_some() || tool.response_map.is_some() || pagination.is_some(),
        },
        split: tool
            .split
            .as_ref()
            .map(|split| Ok::<_, Error>(Split { by: split.by.clone(), max: split.max.max(1), items: path(&split.items)? }))
            .transpose()?,
        allowance,
        prepare,
        outcomes: tool.outcomes,
    })
}

/// The declared parameters, and those that appear only as `{name}`: any type, required.
pub(super) fn parameters(spec: &OpSpec, tool: &Tool) -> Vec<Param> {
    let implicit = spec.params.iter().filter(|param| tool.param(&param.name).is_none());
    tool.params.iter().cloned().chain(implicit.map(|param| Param { name: param.name.to_string(), required: true, ..Param::default() })).collect()
}
