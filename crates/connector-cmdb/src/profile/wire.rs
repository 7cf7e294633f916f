//! How a profile describes a system that is not plain REST: everything posted to one address, failures inside a 200, sessions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{At, Query, Words};

/// Every request is a POST of JSON to one address. Paths of the profile are not used then; queries become members of the body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) kind: WireKind,
    /// The address below the base URL.
    #[serde(default)]
    pub(crate) path: String,
    /// Fixed parameters of the address.
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    /// The form's field that carries the JSON.
    #[serde(default)]
    pub(crate) field: Option<String>,
    /// Members that every body has.
    #[serde(default)]
    pub(crate) fixed: Map<String, Value>,
    /// Where the credential goes: a field of the form, or a member of the JSON, to `username`, `password`, `token`, or a header's name.
    #[serde(default)]
    pub(crate) credential: BTreeMap<String, String>,
    /// What an answer must have to be a success.
    pub(crate) ok: Vec<Expected>,
    /// Where an answer that is none tells its code and its message.
    pub(crate) code: At,
    #[serde(default)]
    pub(crate) message: Option<At>,
    /// What the codes mean: an error class to its codes.
    #[serde(default)]
    pub(crate) errors: BTreeMap<WireError, Vec<String>>,
}

/// How the JSON is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireKind {
    /// As one field of a form.
    Form,
    /// As it is.
    Json,
}

/// A value that must be there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) at: At,
    pub(crate) is: Vec<String>,
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireError {
    /// The credential was not accepted.
    Auth,
    /// It may not do this.
    Forbidden,
    /// The request is wrong and stays wrong.
    Invalid,
    /// The system or the profile is set up wrongly.
    Config,
    /// It passes.
    Transient,
    /// A write may or may not have happened. It is never sent again by itself.
    UnknownOutcome,
    NotFound,
}

/// The credential is exchanged for a session, whose token goes with every request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// The path of the GET that starts one.
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    /// Where its answer has the token.
    pub(crate) token: At,
    /// The header that carries it.
    pub(crate) header: String,
    /// Headers of the credential that also go with every request.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
    /// Where an error has its code, and the codes that mean: start another session, once.
    pub(crate) code: At,
    pub(crate) ended: Vec<String>,
}
