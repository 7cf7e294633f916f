//! Those who hear of alerts, as the configuration names them.

use connector_core::{Error, Result, TenantId, WorkspaceId};
use connector_manifest::template::Tree;
use connector_webhook::rules::{AlertLevel, Problem, check_call};
use serde_json::Value;

use super::Alert;
use crate::{
    config::{ALL_TENANTS, AlertConfig, AlertOn, AlertTo},
    effects::{Words, shown},
};

/// What is known of an alert.
pub(super) const FACTS: [&str; 6] = ["text", "kind", "level", "id", "tenant", "workspace"];

/// Somebody who hears of alerts.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) name: String,
    on: Vec<AlertOn>,
    min_level: AlertLevel,
    /// `None`: of all tenants.
    of: Option<TenantId>,
    pub(super) to: To,
}

/// How it is told, besides the log.
#[derive(Debug, Clone)]
pub(super) enum To {
    Endpoint(String),
    Call { tool: String, connection: Option<String>, params: Tree, tenant: TenantId, workspace: WorkspaceId },
}

/// Everybody who hears of alerts, the log excepted: it hears of all.
#[derive(Debug, Default)]
pub(crate) struct Sinks(Vec<Sink>);

impl Sinks {
    /// Checks and reads the configuration.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] listing every mistake with its key.
    pub(crate) fn compile(config: &[AlertConfig], words: &Words<'_>) -> Result<Self> {
        let problems = problems(config, words);
        if !problems.is_empty() {
            let shown: Vec<String> = problems.iter().map(shown).collect();
            return Err(Error::config(format!("the alerts cannot be used: {}", shown.join("; "))));
        }
        Ok(Self(config.iter().filter_map(sink).collect()))
    }

    /// Those who hear of this one.
    pub(super) fn hearing(&self, alert: &Alert) -> impl Iterator<Item = &Sink> {
        self.0.iter().filter(|sink| {
            sink.of.as_ref().is_none_or(|of| *of == alert.tenant)
                && (sink.on.is_empty() || sink.on.contains(&alert.kind))
                && alert.level >= sink.min_level
        })
    }

    /// One of them.
    pub(super) fn get(&self, name: &str) -> Option<&Sink> {
        self.0.iter().find(|sink| sink.name == name)
    }
}

fn sink(config: &AlertConfig) -> Option<Sink> {
    let own = config.tenant.as_deref().filter(|tenant| *tenant != ALL_TENANTS).map_or_else(TenantId::default, TenantId::from);
    let to = match &config.to {
        AlertTo::Log => return None,
        AlertTo::Endpoint(name) => To::Endpoint(name.clone()),
        AlertTo::Call { call, connection, params } => To::Call {
            tool: call.clone(),
            connection: connection.clone(),
            params: Tree::parse(&Value::Object(params.clone())),
            tenant: own.clone(),
            workspace: config.workspace.as_deref().map_or_else(WorkspaceId::default, WorkspaceId::from),
        },
    };
    let of = (config.tenant.as_deref() != Some(ALL_TENANTS)).then_some(own);
    Some(Sink { name: config.name.clone(), on: config.on.clone(), min_level: config.min_level, of, to })
}

/// What is wrong with the alerts as they are written.
pub(crate) fn problems(config: &[AlertConfig], words: &Words<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |key: String, message: String| found.push(Problem { key, message, is_warning: false });
    for (at, alert) in config.iter().enumerate() {
        let AlertTo::Call { call, params, .. } = &alert.to else { continue };
        for (part, message) in check_call(words, call, params).err().into_iter().flatten() {
            add(format!("alerts[{at}].to.{part}"), message);
        }
        let mut names = Vec::new();
        Tree::parse(&Value::Object(params.clone())).placeholders(&mut names);
        for name in names {
            if !name.strip_prefix("alert.").is_some_and(|fact| FACTS.contains(&fact)) {
                let accepted = FACTS.map(|fact| format!("{{alert.{fact}}}")).join(", ");
                add(format!("alerts[{at}].to.params"), format!("`{{{name}}}` names nothing; there are: {accepted}"));
            }
        }
    }
    found
}
