//! From a manifest to core's inert description of the connector: what people, agents and layers read.
//!
//! Owns the short forms' meaning in the spec (implicit parameters, default effects) and the JSON Schemas. Refuses to run anything.

mod op;
mod schema;
mod words;

pub(crate) use op::pagination;

use std::sync::Arc;

use connector_core::spec::{ConnectorSpec, EventSpec, StreamSpec, SubscriptionSpec, WebhookSpec};

use crate::model::{Manifest, Verify};

/// Describes a connector of this id. Schemas and examples are worked out when they are first looked at, so the description keeps the manifest.
pub fn build_spec(manifest: &Arc<Manifest>, id: &str) -> ConnectorSpec {
    let operations = (0..manifest.tools.len()).map(|at| op::operation(manifest, at)).collect();
    let mut spec = ConnectorSpec::new(id, &manifest.name, &manifest.version, operations);
    spec.summary.clone_from(&manifest.doc);
    spec.docs = manifest.api.as_ref().and_then(|api| api.docs.clone());
    spec.api_version = manifest.api.as_ref().and_then(|api| api.version.clone());
    spec.base_url.clone_from(&manifest.base_url);
    spec.auth = manifest.auth.to_vec();
    spec.rotatable.clone_from(&manifest.rotatable);
    spec.limits = manifest.limits.iter().map(|(name, class)| (name.as_str().into(), class.clone())).collect();
    spec.errors = manifest.errors.table.iter().map(words::row).collect();
    spec.webhook = manifest.webhook.as_ref().map(|webhook| WebhookSpec {
        scheme: scheme(&webhook.verify).to_owned(),
        notes: webhook.notes.clone(),
        events_at: webhook.events_at.clone(),
    });
    spec.events = manifest
        .events
        .iter()
        .map(|(name, event)| EventSpec {
            name: name.as_str().into(),
            doc: event.doc.clone(),
            matches: event.matches.clone(),
            invalidates: event.invalidates.clone(),
            schema: event.payload.as_ref().map(|payload| schema::with_models(schema::of(payload), payload, manifest)),
        })
        .collect();
    spec.streams = manifest
        .streams
        .iter()
        .map(|(name, stream)| StreamSpec {
            name: name.as_str().into(),
            doc: stream.doc.clone(),
            key: stream.key.clone(),
            list: stream.list.as_str().into(),
            cursor: stream.cursor.as_ref().map(|cursor| cursor.field.clone()),
            deletes: stream.deleted.is_some(),
        })
        .collect();
    spec.subscriptions = manifest.subscriptions.iter().map(|(name, kind)| SubscriptionSpec { name: name.as_str().into(), ..kind.clone() }).collect();
    spec.views = manifest.views.iter().map(|(id, view)| (id.as_str().into(), view.clone())).collect();
    spec.status = manifest.status;
    spec
}

/// The name of the way deliveries prove themselves.
fn scheme(verify: &Verify) -> &str {
    use crate::model::MacAlgorithm::{HmacSha1, HmacSha256, HmacSha512};
    match (&verify.scheme, verify.kind) {
        (Some(scheme), _) => scheme,
        (None, Some(HmacSha1)) => "hmac_sha1",
        (None, Some(HmacSha256)) => "hmac_sha256",
        (None, Some(HmacSha512)) => "hmac_sha512",
        // The cross-checks refuse this; a connector without a verifier receives nothing.
        (None, None) => "none",
    }
}
