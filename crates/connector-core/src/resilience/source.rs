//! Where each resilience number came from: preset, connector, hub file, environment; and how each is checked.
//!
//! One table names every number once: its key, its environment variable, its range. Merging, the environment and
//! `config explain` all read that table.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::policy::Resilience;
use crate::{
    error::{Error, Result},
    suggest,
};

/// One number.
struct Key {
    /// `section.name`, as a hub file writes it.
    name: &'static str,
    /// The environment variable without its `CONNECTOR_` or `CONNECTOR_<ID>_`.
    env: &'static str,
    min: u64,
    max: u64,
    get: fn(&Resilience) -> u64,
    set: fn(&mut Resilience, u64),
}

fn to_millis(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

macro_rules! keys {
    ($($name:literal $env:literal $min:literal..=$max:literal $kind:ident $($field:ident).+;)+) => {
        &[$(Key {
            name: $name,
            env: $env,
            min: $min,
            max: $max,
            get: |all| keys!(@get $kind all.$($field).+),
            set: |all, value| all.$($field).+ = keys!(@set $kind value),
        }),+]
    };
    (@get count $value:expr) => { u64::from($value) };
    (@get millis $value:expr) => { to_millis($value) };
    // Every count is checked against a maximum that fits before it is set.
    (@set count $value:expr) => { u32::try_from($value).unwrap_or(u32::MAX) };
    (@set millis $value:expr) => { Duration::from_millis($value) };
}

const KEYS: &[Key] = keys! {
    "retry.max_attempts" "RETRY_MAX_ATTEMPTS" 1..=10 count retry.max_attempts;
    "retry.timeout_attempts" "RETRY_TIMEOUT_ATTEMPTS" 1..=10 count retry.timeout_attempts;
    "retry.base_delay_ms" "RETRY_BASE_DELAY_MS" 0..=300_000 millis retry.base_delay;
    "retry.max_delay_ms" "RETRY_MAX_DELAY_MS" 0..=3_600_000 millis retry.max_delay;
    "retry.throttle_base_ms" "RETRY_THROTTLE_BASE_MS" 0..=300_000 millis retry.throttle_base;
    "retry.throttle_max_ms" "RETRY_THROTTLE_MAX_MS" 0..=3_600_000 millis retry.throttle_max;
    "retry.inline_wait_ms" "RETRY_INLINE_WAIT_MS" 0..=3_600_000 millis retry.inline_wait;
    "budget.percent" "BUDGET_PERCENT" 0..=50 count budget.percent;
    "budget.burst" "BUDGET_BURST" 0..=10_000 count budget.burst;
    "breaker.threshold" "CIRCUIT_BREAKER_THRESHOLD" 1..=10_000 count breaker.threshold;
    "breaker.failure_percent" "CIRCUIT_BREAKER_FAILURE_PERCENT" 1..=100 count breaker.failure_percent;
    "breaker.min_calls" "CIRCUIT_BREAKER_MIN_CALLS" 1..=10_000 count breaker.min_calls;
    "breaker.window_ms" "CIRCUIT_BREAKER_WINDOW_MS" 1_000..=3_600_000 millis breaker.window;
    "breaker.reset_ms" "CIRCUIT_BREAKER_RESET_MS" 1..=3_600_000 millis breaker.reset;
    "breaker.max_reset_ms" "CIRCUIT_BREAKER_MAX_RESET_MS" 1..=86_400_000 millis breaker.max_reset;
    "breaker.jitter_percent" "CIRCUIT_BREAKER_JITTER_PERCENT" 0..=50 count breaker.jitter_percent;
    "limits.percent" "LIMITS_PERCENT" 1..=100 count limits.percent;
    "limits.burst_percent" "LIMITS_BURST_PERCENT" 0..=100 count limits.burst_percent;
    "limits.concurrent" "LIMITS_CONCURRENT" 1..=10_000 count limits.concurrent;
    "limits.max_wait_ms" "LIMITS_MAX_WAIT_MS" 0..=3_600_000 millis limits.max_wait;
    "limits.max_keys" "LIMITS_MAX_KEYS" 1..=10_000_000 count limits.max_keys;
    "timeout.connect_ms" "TIMEOUT_CONNECT_MS" 1..=300_000 millis timeouts.connect;
    "timeout.read_ms" "TIMEOUT_READ_MS" 1..=300_000 millis timeouts.read;
    "timeout.write_ms" "TIMEOUT_WRITE_MS" 1..=300_000 millis timeouts.write;
    "timeout.long_ms" "TIMEOUT_LONG_MS" 1..=300_000 millis timeouts.long;
    "timeout.operation_ms" "TIMEOUT_OPERATION_MS" 1..=3_600_000 millis timeouts.operation;
    "timeout.stall_ms" "TIMEOUT_STALL_MS" 1_000..=300_000 millis timeouts.stall;
    "timeout.stall_bytes_per_second" "TIMEOUT_STALL_BYTES_PER_SECOND" 0..=1_000_000_000 count timeouts.stall_bytes_per_second;
};

/// One variable that sets both the read and the write timeout.
const TIMEOUT_ENV: &str = "TIMEOUT_MS";
const TIMEOUT_KEYS: [&str; 2] = ["timeout.read_ms", "timeout.write_ms"];

fn key(name: &str) -> Result<&'static Key> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let hint = suggest::nearest(name, KEYS.iter().map(|key| key.name)).map_or_else(
            || format!("accepted: {}", KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        Error::config(format!("there is no resilience setting `{name}`; {hint}"))
    })
}

impl Key {
    fn apply(&self, to: &mut Resilience, value: u64, shown_as: &str) -> Result<()> {
        if !(self.min..=self.max).contains(&value) {
            return Err(self.refuse(shown_as, &value.to_string()));
        }
        (self.set)(to, value);
        Ok(())
    }

    fn refuse(&self, shown_as: &str, value: &str) -> Error {
        Error::config(format!("`{shown_as}` is `{}`; accepted: a whole number from {} to {}", value.escape_debug(), self.min, self.max))
    }
}

/// The value of one setting and who set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The setting (`retry.max_attempts`).
    pub key: &'static str,
    /// Its value: a count, per cent or milliseconds, as the key's ending says.
    pub value: u64,
    /// Who set it (`preset standard`, `environment CONNECTOR_RETRY_MAX_ATTEMPTS`).
    pub origin: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (from {})", self.key, self.value, self.origin)
    }
}

/// A [`Resilience`] that remembers who set each number.
///
/// Apply the sources from the weakest to the strongest: preset, connector descriptor, hub file, environment, tenant.
#[derive(Debug, Clone)]
pub struct ResilienceSource {
    resilience: Resilience,
    base: String,
    origins: BTreeMap<&'static str, String>,
}

impl ResilienceSource {
    /// Starts from the numbers of `resilience`, all of them said to come from `origin`.
    pub fn new(resilience: Resilience, origin: impl Into<String>) -> Self {
        Self { resilience, base: origin.into(), origins: BTreeMap::new() }
    }

    /// Starts from a preset: `standard`, `interactive` or `background`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        Ok(Self::new(Resilience::preset(name)?, format!("preset {name}")))
    }

    /// Overrides what `patch` names, for example `{"retry": {"max_attempts": 5}}`. A `preset` beside the sections sets all
    /// numbers first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key and what it accepts.
    pub fn merge(mut self, patch: &Value, origin: &str) -> Result<Self> {
        let not_a_table = |what: &str| Error::config(format!("{what} of {origin} is not a table of settings"));
        let sections = patch.as_object().ok_or_else(|| not_a_table("the resilience part"))?;
        if let Some(preset) = sections.get("preset") {
            let name = preset.as_str().unwrap_or_default();
            self = Self::new(Resilience::preset(name)?, format!("preset {name}, chosen by {origin}"));
        }
        for (section, settings) in sections.iter().filter(|(section, _)| *section != "preset") {
            let settings = settings.as_object().ok_or_else(|| not_a_table(&format!("`{section}`")))?;
            for (setting, value) in settings {
                let key = key(&format!("{section}.{setting}"))?;
                let number = value.as_u64().ok_or_else(|| key.refuse(&format!("{} of {origin}", key.name), &value.to_string()))?;
                key.apply(&mut self.resilience, number, &format!("{} of {origin}", key.name))?;
                self.origins.insert(key.name, origin.to_owned());
            }
        }
        Ok(self)
    }

    /// Overrides from the environment: `CONNECTOR_RETRY_MAX_ATTEMPTS` and its like for all connectors, and
    /// `CONNECTOR_<ID>_RETRY_MAX_ATTEMPTS` for the one of this id, which wins.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the variable and what it accepts.
    pub fn env(mut self, connector_id: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let id: String = connector_id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        for prefix in ["CONNECTOR_".to_owned(), format!("CONNECTOR_{id}_")] {
            let variable = format!("{prefix}{TIMEOUT_ENV}");
            if let Some(text) = lookup(&variable) {
                for name in TIMEOUT_KEYS {
                    self.set_from_env(key(name)?, &variable, &text)?;
                }
            }
            for key in KEYS {
                let variable = format!("{prefix}{}", key.env);
                if let Some(text) = lookup(&variable) {
                    self.set_from_env(key, &variable, &text)?;
                }
            }
        }
        Ok(self)
    }

    fn set_from_env(&mut self, key: &'static Key, variable: &str, text: &str) -> Result<()> {
        let number = text.trim().parse().map_err(|_| key.refuse(variable, text))?;
        key.apply(&mut self.resilience, number, variable)?;
        self.origins.insert(key.name, format!("environment {variable}"));
        Ok(())
    }

    /// The numbers.
    pub fn resilience(&self) -> &Resilience {
        &self.resilience
    }

    /// The value of one setting and who set it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if there is no such setting; suggests the nearest.
    pub fn explain(&self, name: &str) -> Result<Explained> {
        let key = key(name)?;
        let origin = self.origins.get(key.name).unwrap_or(&self.base).clone();
        Ok(Explained { key: key.name, value: (key.get)(&self.resilience), origin })
    }

    /// All settings, in a fixed order.
    pub fn explain_all(&self) -> Vec<Explained> {
        KEYS.iter().filter_map(|key| self.explain(key.name).ok()).collect()
    }
}

impl Resilience {
    /// These numbers, overridden by what `patch` names. See [`ResilienceSource::merge`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key and what it accepts.
    pub fn merge(&self, patch: &Value) -> Result<Self> {
        Ok(ResilienceSource::new(self.clone(), "base").merge(patch, "the configuration")?.resilience)
    }

    /// `base`, overridden by the environment. See [`ResilienceSource::env`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the variable and what it accepts.
    pub fn from_env(base: Self, connector_id: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        Ok(ResilienceSource::new(base, "base").env(connector_id, lookup)?.resilience)
    }

    /// The keys of all settings, for completions and documentation.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|key| key.name)
    }

    /// Checks every number against its range; for values that were read by serde rather than merged.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key and what it accepts.
    pub fn check(&self) -> Result<()> {
        KEYS.iter().try_for_each(|key| key.apply(&mut self.clone(), (key.get)(self), key.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_presets_hold_the_reconciled_numbers() {
        insta::assert_json_snapshot!([Resilience::standard(), Resilience::interactive(), Resilience::background()]);
        for preset in [Resilience::standard(), Resilience::interactive(), Resilience::background()] {
            preset.check().unwrap();
        }
    }

    #[test]
    fn the_seeds_variables_set_what_they_say_and_the_connectors_own_win() {
        let vars = BTreeMap::from([
            ("CONNECTOR_RETRY_MAX_ATTEMPTS", "4"),
            ("CONNECTOR_RETRY_BASE_DELAY_MS", "100"),
            ("CONNECTOR_TIMEOUT_MS", "30000"),
            ("CONNECTOR_CIRCUIT_BREAKER_THRESHOLD", "7"),
            ("CONNECTOR_ERP_SYSTEM_RETRY_MAX_ATTEMPTS", "2"),
        ]);
        let source = ResilienceSource::preset("standard").unwrap();
        let source = source.env("erp-system", |name| vars.get(name).map(|value| (*value).to_owned())).unwrap();
        let resilience = source.resilience();
        assert_eq!(resilience.retry.max_attempts, 2);
        assert_eq!(resilience.retry.base_delay, Duration::from_millis(100));
        assert_eq!((resilience.timeouts.read, resilience.timeouts.write), (Duration::from_secs(30), Duration::from_secs(30)));
        assert_eq!(resilience.breaker.threshold, 7);
        assert_eq!(
            source.explain("retry.max_attempts").unwrap().to_string(),
            "retry.max_attempts = 2 (from environment CONNECTOR_ERP_SYSTEM_RETRY_MAX_ATTEMPTS)"
        );
        assert_eq!(source.explain("retry.max_delay_ms").unwrap().to_string(), "retry.max_delay_ms = 10000 (from preset standard)");
        assert_eq!(source.explain_all().len(), KEYS.len());
    }

    #[test]
    fn a_patch_overrides_only_what_it_names() {
        let merged = Resilience::standard().merge(&json!({"preset": "interactive", "retry": {"max_attempts": 5}})).unwrap();
        assert_eq!(merged.retry.max_attempts, 5);
        assert_eq!(merged.retry.base_delay, Duration::from_millis(100));
        assert_eq!(merged.breaker, Resilience::standard().breaker);
    }

    #[test]
    fn mistakes_name_the_key_and_what_is_accepted() {
        let merge = |patch| Resilience::standard().merge(&patch).unwrap_err().message().to_owned();
        assert_eq!(
            merge(json!({"retry": {"max_atempts": 5}})),
            "there is no resilience setting `retry.max_atempts`; did you mean `retry.max_attempts`?"
        );
        assert_eq!(
            merge(json!({"retry": {"max_attempts": 99}})),
            "`retry.max_attempts of the configuration` is `99`; accepted: a whole number from 1 to 10"
        );
        assert_eq!(merge(json!({"retry": 3})), "`retry` of the configuration is not a table of settings");
        assert_eq!(merge(json!({"preset": "fast"})), "`fast` is not a resilience preset; accepted: standard, interactive, background");
        let error = Resilience::from_env(Resilience::standard(), "x", |name| (name == "CONNECTOR_RETRY_MAX_ATTEMPTS").then(|| "many".into()));
        assert_eq!(error.unwrap_err().message(), "`CONNECTOR_RETRY_MAX_ATTEMPTS` is `many`; accepted: a whole number from 1 to 10");
    }

    #[test]
    fn a_document_may_leave_out_what_it_does_not_change_and_reads_back() {
        let read: Resilience = serde_json::from_value(json!({"breaker": {"reset_ms": 5000}})).unwrap();
        assert_eq!(read.breaker.reset, Duration::from_secs(5));
        assert_eq!(serde_json::from_value::<Resilience>(serde_json::to_value(&read).unwrap()).unwrap(), read);
        assert!(serde_json::from_value::<Resilience>(json!({"brakes": {}})).is_err());
    }
}
