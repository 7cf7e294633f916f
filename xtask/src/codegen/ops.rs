//! `ops.rs`: one struct of each operation with setters for what is optional, and a method of each on the client.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use connector_core::spec::OpSpec;
use connector_manifest::{
    Manifest,
    model::{Param, Tool, TypeExpr},
};

use super::{MARK, names};
use crate::workspace::Vendor;

/// `mod.rs`.
pub(super) fn module(vendor: &Vendor) -> String {
    format!(
        "{MARK}\n//! What follows from the manifest: records, typed operations and the manifest itself.\n\n\
         pub mod models;\npub mod ops;\n\n\
         use std::sync::{{Arc, LazyLock}};\n\nuse connector_manifest::Manifest;\n\n\
         /// The manifest as compiled data.\nconst SPEC: &str = include_str!(\"spec.json\");\n\n\
         /// The manifest everything follows from, read once.\npub fn manifest() -> Arc<Manifest> {{\n    \
         static MANIFEST: LazyLock<Arc<Manifest>> =\n        \
         LazyLock::new(|| Arc::new(Manifest::from_json(SPEC).expect(\"`cargo xtask codegen` wrote spec.json\")));\n    \
         MANIFEST.clone()\n}}\n\n\
         /// The tools as JSON, as `connector-hub tools --json` lists them.\npub const TOOLS: &str = include_str!(\"tools.json\");\n\n\
         /// How many operations {} has.\npub const OPERATIONS: usize = {};\n",
        vendor.manifest.name,
        vendor.spec.operations().len()
    )
}

pub(super) fn source(vendor: &Vendor) -> Result<String> {
    let mut structs = String::new();
    let mut methods = String::new();
    for op in vendor.spec.operations() {
        let tool = vendor.manifest.tool(&op.name).with_context(|| format!("tool `{}`", op.name))?;
        operation(vendor, tool, op, &mut structs, &mut methods)?;
    }
    Ok(format!(
        "{MARK}\n//! The operations of {}, typed.\n#![allow(clippy::too_many_arguments, reason = \"a vendor's operation may need many\")]\n\n\
         use connector_core::{{Call, ListOperation, Operation}};\nuse serde::Serialize;\n\nuse super::models;\nuse crate::{};\n\n{structs}\nimpl {} {{\n{methods}}}\n",
        vendor.manifest.name, vendor.client, vendor.client
    )
    .replace("use connector_core::{Call, ListOperation, Operation};", if structs.contains("impl ListOperation") { "use connector_core::{Call, ListOperation, Operation};" } else { "use connector_core::{Call, Operation};" })
    .replace("use super::models;\n", if structs.contains("models::") { "use super::models;\n" } else { "" }))
}

fn operation(vendor: &Vendor, tool: &Tool, op: &OpSpec, structs: &mut String, methods: &mut String) -> Result<()> {
    let short = names::without_prefix(&op.name, vendor.manifest.tool_prefix());
    let name = names::camel(short);
    let params = parameters(tool, op);
    let (required, optional): (Vec<_>, Vec<_>) = params.iter().partition(|param| is_argument(param));
    writeln!(
        structs,
        "{}#[derive(Debug, Clone, Default, PartialEq, Serialize)]\n#[non_exhaustive]\npub struct {name} {{",
        names::doc(&docs(op), "")
    )?;
    for param in &params {
        structs.push_str(&names::doc(&param.doc, "    "));
        let rust = names::field(&param.name);
        let mut attributes = Vec::new();
        if rust.trim_start_matches("r#") != param.name {
            attributes.push(format!("rename = \"{}\"", param.name));
        }
        let kind = names::rust_type(&param.type_expr, "models::");
        let kind = if is_argument(param) {
            kind
        } else {
            attributes.push("skip_serializing_if = \"Option::is_none\"".into());
            if kind.starts_with("Option<") { kind } else { format!("Option<{kind}>") }
        };
        if !attributes.is_empty() {
            writeln!(structs, "    #[serde({})]", attributes.join(", "))?;
        }
        writeln!(structs, "    pub {rust}: {kind},")?;
    }
    structs.push_str("}\n\n");

    let arguments: Vec<(String, Argument)> = required.iter().map(|param| (names::field(&param.name), Argument::of(&param.type_expr))).collect();
    let signature: String = arguments.iter().map(|(name, argument)| format!("{name}: {}, ", argument.kind)).collect();
    let member = |(name, argument): &(String, Argument)| {
        if argument.conversion.is_empty() { format!("{name}, ") } else { format!("{name}: {}, ", argument.value(name)) }
    };
    let values: String = arguments.iter().map(member).collect();
    let rest = if optional.is_empty() { "" } else { "..Default::default()" };
    write!(
        structs,
        "impl {name} {{\n    /// The operation with what it needs.\n    pub fn new({signature}) -> Self {{\n        Self {{ {values}{rest} }}\n    }}\n"
    )?;
    for param in &optional {
        let rust = names::field(&param.name);
        let inner = match &param.type_expr {
            TypeExpr::Nullable(inner) => inner,
            other => other,
        };
        let argument = Argument::of(inner);
        let mut doc = param.doc.clone();
        if let Some(setting) = &param.setting {
            doc = format!("{} If not said, the connection's setting `{setting}`.", doc.trim_end());
        } else if !param.default.is_null() {
            doc = format!("{} If not said, `{}`.", doc.trim_end(), param.default);
        }
        write!(
            structs,
            "\n{}    #[must_use]\n    pub fn {rust}(mut self, {rust}: {}) -> Self {{\n        self.{rust} = Some({});\n        self\n    }}\n",
            names::doc(&doc, "    "),
            argument.kind,
            argument.value(&rust)
        )?;
    }
    structs.push_str("}\n\n");

    let output = output(tool);
    write!(structs, "impl Operation for {name} {{\n    type Output = {output};\n    const NAME: &'static str = \"{}\";\n}}\n\n", op.name)?;
    if let Some((item, take)) = listing(&vendor.manifest, tool, op) {
        write!(
            structs,
            "impl ListOperation for {name} {{\n    type Item = {item};\n\n    fn items(page: Self::Output) -> Vec<Self::Item> {{\n        {take}\n    }}\n}}\n\n"
        )?;
    }

    let passed: String = arguments.iter().map(|(name, _)| format!("{name}, ")).collect();
    write!(
        methods,
        "{}    pub fn {}(&self, {signature}) -> Call<{name}> {{\n        self.client().call({name}::new({passed}))\n    }}\n\n",
        names::doc(&docs(op), "    "),
        names::field(short)
    )?;
    Ok(())
}

/// The declared parameters, and those that appear only as `{name}`.
fn parameters(tool: &Tool, op: &OpSpec) -> Vec<Param> {
    let implicit = op.params.iter().filter(|param| tool.param(&param.name).is_none());
    tool.params
        .iter()
        .cloned()
        .chain(implicit.map(|param| Param { name: param.name.to_string(), required: true, doc: param.doc.clone(), ..Param::default() }))
        .collect()
}

/// Whether a caller must give it: required, and neither a default nor a setting of the connection stands in.
fn is_argument(param: &Param) -> bool {
    param.required && param.default.is_null() && param.setting.is_none()
}

fn docs(op: &OpSpec) -> String {
    let mut text = op.summary.trim().to_owned();
    text.push_str(&format!("\n\n`{}` · {} · repeat: {}", op.endpoint, op.effect.as_str(), op.repeat.as_str()));
    if !op.scopes.is_empty() {
        text.push_str(&format!(" · scopes: {}", op.scopes.join(", ")));
    }
    if let Some(docs) = &op.docs {
        text.push_str(&format!("\n\n{docs}"));
    }
    text
}

/// How a method takes a value of some type.
struct Argument {
    kind: String,
    conversion: &'static str,
}

impl Argument {
    fn of(expr: &TypeExpr) -> Self {
        match expr {
            TypeExpr::String | TypeExpr::Datetime | TypeExpr::Date => Self { kind: "impl Into<String>".into(), conversion: ".into()" },
            TypeExpr::Any => Self { kind: "impl Into<serde_json::Value>".into(), conversion: ".into()" },
            TypeExpr::Array(item) if matches!(**item, TypeExpr::String) => {
                Self { kind: "impl IntoIterator<Item = impl Into<String>>".into(), conversion: ".into_iter().map(Into::into).collect()" }
            }
            other => Self { kind: names::rust_type(other, "models::"), conversion: "" },
        }
    }

    fn value(&self, name: &str) -> String {
        format!("{name}{}", self.conversion)
    }
}

fn output(tool: &Tool) -> String {
    let kind = match (&tool.returns, &tool.response_map) {
        (Some(returns), _) => names::rust_type(returns, "models::"),
        (None, _) => "serde_json::Value".into(),
    };
    if tool.none_on.is_empty() || kind.starts_with("Option<") || kind == "serde_json::Value" { kind } else { format!("Option<{kind}>") }
}

/// The type of a listing's items, and the expression that takes them out of a page.
fn listing(manifest: &Manifest, tool: &Tool, op: &OpSpec) -> Option<(String, String)> {
    let page = op.page.as_ref()?;
    if !tool.none_on.is_empty() {
        return None;
    }
    match tool.returns.as_ref()? {
        TypeExpr::Array(item) if &*page.items == "." => Some((names::rust_type(item, "models::"), "page".into())),
        TypeExpr::Model(name) => {
            let model = manifest.models.get(name)?;
            let wire = page.items.strip_prefix('.')?.trim_matches('"');
            let (_, field) = model.fields.0.iter().find(|(name, _)| name == wire)?;
            let TypeExpr::Array(item) = &field.type_expr else { return None };
            let rust = names::field(wire);
            let take =
                if model.required.iter().any(|name| name == wire) { format!("page.{rust}") } else { format!("page.{rust}.unwrap_or_default()") };
            Some((names::rust_type(item, "models::"), take))
        }
        _ => None,
    }
}
