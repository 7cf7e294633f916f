//! Rules: when an event like this comes, do that. Conditions are selections and comparisons, steps are a fixed list; there is no language.
//!
//! Owns reading rules, choosing those that fit an event, and filling their steps. Refuses to carry anything out: whoever embeds it does, under
//! the key each effect carries, so that a crash between an effect and its mark never does a keyed write twice.

mod compile;
mod condition;
mod effect;
mod model;

pub use self::{
    compile::{Problem, RESERVED, RuleSet, Tool, Vocabulary, check_call},
    effect::{Effect, Facts, Run},
    model::{AlertLevel, ConditionConfig, OnFailure, RuleConfig, StepConfig},
};

#[cfg(test)]
mod tests;
