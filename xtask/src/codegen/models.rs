//! `models.rs`: one struct of each model. Vendors add fields at any time, so unknown ones are ignored and nearly all are optional.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Result, bail};
use connector_manifest::model::{Model, TypeExpr};

use super::{MARK, names};
use crate::workspace::Vendor;

pub(super) fn source(vendor: &Vendor) -> Result<String> {
    let mut out = format!(
        "{MARK}\n//! The records of {}. Fields a reply leaves out are `None`; fields this version does not know are ignored.\n\n",
        vendor.manifest.name
    );
    if vendor.manifest.models.is_empty() {
        return Ok(out);
    }
    out.push_str("use serde::{Deserialize, Serialize};\n");
    for (name, model) in &vendor.manifest.models {
        write!(
            out,
            "\n{}#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]\n#[serde(default)]\n#[non_exhaustive]\npub struct {name} {{\n",
            names::doc(&model.doc, "")
        )?;
        let mut taken = BTreeSet::new();
        for (wire, field) in &model.fields.0 {
            let rust = names::field(wire);
            if !taken.insert(rust.clone()) {
                bail!("{}: two fields of model `{name}` would both be called `{rust}`", vendor.id);
            }
            out.push_str(&names::doc(&field.doc, "    "));
            let required = model.required.contains(wire);
            let boxed = holds_itself(vendor, name, &field.type_expr);
            let plain = if boxed { format!("Box<{}>", names::rust_type(&field.type_expr, "")) } else { names::rust_type(&field.type_expr, "") };
            let optional = !required && !matches!(field.type_expr, TypeExpr::Nullable(_));
            let mut attributes = Vec::new();
            if rust.trim_start_matches("r#") != wire {
                attributes.push(format!("rename = \"{wire}\""));
            }
            if optional || matches!(field.type_expr, TypeExpr::Nullable(_)) {
                attributes.push("skip_serializing_if = \"Option::is_none\"".into());
            }
            if !attributes.is_empty() {
                writeln!(out, "    #[serde({})]", attributes.join(", "))?;
            }
            let kind = if optional { format!("Option<{plain}>") } else { plain };
            writeln!(out, "    pub {rust}: {kind},")?;
        }
        out.push_str("}\n");
    }
    Ok(out)
}

/// Whether a field leads back to its own model without a list or map in between, so that it needs a box.
fn holds_itself(vendor: &Vendor, model: &str, field: &TypeExpr) -> bool {
    fn leads(vendor: &Vendor, expr: &TypeExpr, target: &str, seen: &mut BTreeSet<String>) -> bool {
        match expr {
            TypeExpr::Nullable(inner) => leads(vendor, inner, target, seen),
            TypeExpr::Model(name) if name == target => true,
            TypeExpr::Model(name) if seen.insert(name.clone()) => {
                let fields = vendor.manifest.models.get(name).map(|Model { fields, .. }| fields.0.as_slice()).unwrap_or_default();
                fields.iter().any(|(_, field)| leads(vendor, &field.type_expr, target, seen))
            }
            _ => false,
        }
    }
    matches!(field, TypeExpr::Model(_)) && leads(vendor, field, model, &mut BTreeSet::new())
}
