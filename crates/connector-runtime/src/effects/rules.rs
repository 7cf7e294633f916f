//! The rules of the hub, compiled against what there is to call; again whenever that changes.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use connector_core::{Error, Result, TenantId};
use connector_webhook::rules::{Problem, RuleConfig, RuleSet, Tool, Vocabulary};

use crate::{
    alerts,
    catalogue::Catalogue,
    config::AlertConfig,
    forward::Endpoints,
    reauth::REAUTH_REQUIRED,
    rotation::{CREDENTIAL_EXPIRING, ROTATION_DUE},
    subscriptions::{SUBSCRIPTION_LOST, SUBSCRIPTION_QUIET},
};

/// The kinds of events that the hub itself tells about any connector.
const HUB_EVENTS: [&str; 5] = [REAUTH_REQUIRED, CREDENTIAL_EXPIRING, ROTATION_DUE, SUBSCRIPTION_LOST, SUBSCRIPTION_QUIET];

/// What rules and alerts may name.
pub(crate) struct Words<'c> {
    pub(crate) catalogue: &'c Catalogue,
    pub(crate) endpoints: &'c Endpoints,
}

impl Vocabulary for Words<'_> {
    fn tool(&self, name: &str) -> Option<Tool> {
        self.catalogue.registry.tool(name).ok().map(|(_, op)| Tool::of(op))
    }

    fn tools(&self) -> Vec<String> {
        self.catalogue.registry.operations().map(|(_, op)| op.name.to_string()).collect()
    }

    fn has_event(&self, connector: &str, kind: &str) -> Option<bool> {
        let connector = self.catalogue.registry.get(connector)?;
        Some(HUB_EVENTS.contains(&kind) || connector.spec().events.iter().any(|event| *event.name == *kind))
    }

    fn events(&self) -> Vec<String> {
        let of =
            |spec: &connector_core::spec::ConnectorSpec| spec.events.iter().map(|event| format!("{}.{}", spec.id, event.name)).collect::<Vec<_>>();
        self.catalogue.registry.iter().flat_map(|connector| of(connector.spec())).collect()
    }

    fn endpoints(&self, tenant: &TenantId) -> Vec<String> {
        self.endpoints.of(tenant).map(str::to_owned).collect()
    }
}

/// The rules in force and what is wrong with those that are written.
#[derive(Debug)]
pub(crate) struct Rules {
    written: Vec<RuleConfig>,
    alerts: Vec<AlertConfig>,
    set: ArcSwap<RuleSet>,
    problems: Mutex<Vec<Problem>>,
}

impl Rules {
    /// Compiles the rules for the first time. `alerts` are only looked at again later: whoever tells of them has checked them.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] listing every mistake with its key.
    pub(crate) fn new(written: Vec<RuleConfig>, alerts: Vec<AlertConfig>, words: &Words<'_>) -> Result<Self> {
        let (set, warnings) = RuleSet::compile(&written, words).map_err(|problems| {
            let mistakes: Vec<String> = problems.iter().filter(|problem| !problem.is_warning).map(shown).collect();
            Error::config(format!("the rules cannot be used: {}", mistakes.join("; ")))
        })?;
        warnings.iter().for_each(warn);
        Ok(Self { written, alerts, set: ArcSwap::from_pointee(set), problems: Mutex::new(warnings) })
    }

    /// Compiles them anew, because there are other connectors now. Rules that do not fit those any more stay in force as they were: what
    /// cannot be called fails when it is called, and is told then.
    pub(crate) fn follow(&self, words: &Words<'_>) {
        if self.written.is_empty() && self.alerts.is_empty() {
            return;
        }
        let mut problems = match RuleSet::compile(&self.written, words) {
            Ok((set, warnings)) => {
                self.set.store(Arc::new(set));
                warnings
            }
            Err(problems) => problems,
        };
        problems.extend(alerts::problems(&self.alerts, words));
        let mut known = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().filter(|problem| !known.contains(problem)).for_each(warn);
        *known = problems;
    }

    /// What is wrong with the rules as they are written.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules in force.
    pub(crate) fn set(&self) -> Arc<RuleSet> {
        self.set.load_full()
    }
}

/// `key`: message.
pub(crate) fn shown(problem: &Problem) -> String {
    format!("`{}`: {}", problem.key, problem.message)
}

fn warn(problem: &Problem) {
    if problem.is_warning {
        tracing::warn!(key = problem.key, "{}", problem.message);
    } else {
        tracing::error!(key = problem.key, "the last good rules stay in force: {}", problem.message);
    }
}
