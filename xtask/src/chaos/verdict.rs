//! What a chaos run ends with: one JSON line and an exit code. Scripts read it, so its shape stays.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

/// The verdict of one run, while it is being found.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    case: &'static str,
    seed: u64,
    ok: bool,
    figures: Map<String, Value>,
    /// What did not hold, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    breaches: Vec<String>,
}

impl Verdict {
    /// Nothing was found wrong so far.
    pub(crate) fn new(case: &'static str, seed: u64) -> Self {
        Self { case, seed, ok: true, figures: Map::new(), breaches: Vec::new() }
    }

    /// Notes a figure. Its name says the unit where it has one.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// A promise: `holds`, or the run has failed.
    pub(crate) fn require(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds {
            self.ok = false;
            self.breaches.push(promise());
        }
    }

    /// Prints the line and gives the exit code: 1 on a breach.
    ///
    /// # Errors
    /// If the figures cannot be written as JSON.
    pub(crate) fn conclude(self) -> Result<ExitCode> {
        for breach in &self.breaches {
            eprintln!("breach: {breach}");
        }
        println!("{}", serde_json::to_string(&self)?);
        Ok(if self.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The value below which `share` (0 to 1) of all values lie; 0 if there are none. Sorts them.
pub(crate) fn percentile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else { return 0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index into a list of some thousands")]
    let index = (last as f64 * share).round() as usize;
    values[index.min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_turns_the_verdict_and_is_told() {
        let mut verdict = Verdict::new("refresh-race", 7);
        verdict.figure("rounds", 2);
        verdict.require(true, || "holds".into());
        assert_eq!(serde_json::to_string(&verdict).unwrap(), r#"{"case":"refresh-race","seed":7,"ok":true,"figures":{"rounds":2}}"#);
        verdict.require(false, || "two requests in round 1".into());
        let line = serde_json::to_string(&verdict).unwrap();
        assert!(line.contains(r#""ok":false"#) && line.contains("two requests in round 1"), "{line}");
    }

    #[test]
    fn percentiles_are_values_of_the_list() {
        assert_eq!(percentile(&mut [], 0.5), 0);
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!((percentile(&mut values, 0.0), percentile(&mut values, 0.99), percentile(&mut values, 1.0)), (1, 99, 100));
    }
}
