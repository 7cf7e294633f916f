//! From what is written to rules that can run: every path, expression, name and placeholder is looked at once, before the first event.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use connector_core::{
    context::{TenantId, WorkspaceId},
    redact::printable,
    spec::{Effect as OpEffect, OpSpec},
    state::StoredEvent,
    suggest::nearest,
};
use connector_manifest::template::{Template, Tree};
use serde_json::{Map, Value};

use super::{
    condition::Condition,
    effect::{Facts, Run},
    model::{AlertLevel, OnFailure, RuleConfig, StepConfig},
};

/// The most rules and the most steps of one.
const MAX_RULES: usize = 1_000;
const MAX_STEPS: usize = 50;
/// Names of rules may not begin with this: it marks what alerts do, in audit and in dead letters.
pub const RESERVED: &str = "alert:";
/// What placeholders may begin with.
const ROOTS: [&str; 3] = ["payload", "event", "steps"];
/// What is known of an event.
const EVENT: [&str; 5] = ["id", "type", "connector", "workspace", "received_at"];

/// What a rule must know of a tool that it calls.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it removes something.
    pub is_destructive: bool,
    /// Its parameters, and whether each must be given.
    pub params: Vec<(String, bool)>,
}

impl Tool {
    /// What `op` takes.
    pub fn of(op: &OpSpec) -> Self {
        let params = op.params.iter().map(|param| (param.name.to_string(), param.required)).collect();
        Self { name: op.name.clone(), is_destructive: op.effect == OpEffect::Destructive, params }
    }
}

/// What rules may name: tools, kinds of events, endpoints.
pub trait Vocabulary {
    /// A tool.
    fn tool(&self, name: &str) -> Option<Tool>;
    /// All tools, for suggestions.
    fn tools(&self) -> Vec<String>;
    /// Whether a connector has this kind of event; `None`: there is no such connector. Connectors may send kinds that nobody declared.
    fn has_event(&self, connector: &str, kind: &str) -> Option<bool>;
    /// All kinds of events, as `connector.kind`, for suggestions.
    fn events(&self) -> Vec<String>;
    /// The configured endpoints of a tenant.
    fn endpoints(&self, tenant: &TenantId) -> Vec<String>;
}

/// Finds a tool for a call with these parameters, or says what is wrong with the call, each with the key it is about
/// (`call`, `params`, `params.titel`).
///
/// # Errors
/// Every mistake.
pub fn check_call(vocabulary: &dyn Vocabulary, name: &str, params: &Map<String, Value>) -> Result<Tool, Vec<(String, String)>> {
    let Some(tool) = vocabulary.tool(name) else {
        let tools = vocabulary.tools();
        let hint = nearest(name, tools.iter().map(String::as_str))
            .map_or_else(|| "`tools` lists what there is".to_owned(), |near| format!("did you mean `{near}`?"));
        return Err(vec![("call".into(), format!("there is no tool `{}`; {hint}", printable(name, 60)))]);
    };
    let mut wrong = Vec::new();
    for param in params.keys().filter(|param| !tool.params.iter().any(|(name, _)| name == *param)) {
        let accepted = || tool.params.iter().map(|(name, _)| name.as_str());
        let hint = nearest(param, accepted())
            .map_or_else(|| format!("accepted: {}", accepted().collect::<Vec<_>>().join(", ")), |near| format!("did you mean `{near}`?"));
        wrong.push((format!("params.{param}"), format!("`{name}` has no parameter `{}`; {hint}", printable(param, 40))));
    }
    for (param, _) in tool.params.iter().filter(|(param, required)| *required && !params.contains_key(param)) {
        wrong.push(("params".into(), format!("`{name}` needs the parameter `{param}`")));
    }
    if wrong.is_empty() { Ok(tool) } else { Err(wrong) }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `rules[2].do[0].call`.
    pub key: String,
    /// What, and what to write instead.
    pub message: String,
    /// Whether the rule works nevertheless.
    pub is_warning: bool,
}

/// Rules that can run.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// By connector: an event without a rule costs one look here.
    index: HashMap<Arc<str>, Kinds>,
}

/// The rules of one connector's events, in the order they were written.
#[derive(Debug, Clone, Default)]
struct Kinds {
    /// Those for all of its events.
    every: Vec<usize>,
    /// Those for a kind that is named somewhere, with those for all.
    named: HashMap<Arc<str>, Vec<usize>>,
}

fn index(rules: &[Rule]) -> HashMap<Arc<str>, Kinds> {
    let mut index: HashMap<Arc<str>, Kinds> = HashMap::new();
    for (connector, kind) in rules.iter().flat_map(|rule| &rule.on) {
        let kinds = index.entry(connector.clone()).or_default();
        if &**kind != "*" {
            kinds.named.entry(kind.clone()).or_default();
        }
    }
    for (connector, kinds) in &mut index {
        let of = |wanted: Option<&str>| -> Vec<usize> {
            let is_for = |rule: &Rule| rule.on.iter().any(|(of, kind)| of == connector && (&**kind == "*" || Some(&**kind) == wanted));
            rules.iter().enumerate().filter(|(_, rule)| is_for(rule)).map(|(at, _)| at).collect()
        };
        kinds.every = of(None);
        kinds.named.iter_mut().for_each(|(kind, rules)| *rules = of(Some(kind)));
    }
    index
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: String,
    on: Vec<(Arc<str>, Arc<str>)>,
    tenant: TenantId,
    workspaces: Vec<String>,
    when: Vec<Condition>,
    pub(super) steps: Vec<Step>,
    pub(super) on_failure: OnFailure,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: Option<String>,
    pub(super) act: Act,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Call { tool: Arc<str>, connection: Option<String>, params: Tree },
    Forward { endpoint: Arc<str>, data: Option<Tree> },
    Push { topic: Template, data: Option<Tree> },
    Invalidate { tags: Vec<Template> },
    Alert { level: AlertLevel, text: Template },
}

impl RuleSet {
    /// Checks and compiles rules.
    ///
    /// # Errors
    /// Everything that is wrong with any of them; warnings alone are no reason to refuse and come with the rules.
    pub fn compile(rules: &[RuleConfig], vocabulary: &dyn Vocabulary) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut compiled = Vec::new();
        let mut names = BTreeSet::new();
        for (at, config) in rules.iter().enumerate() {
            let tenant = config.tenant.as_deref().map_or_else(TenantId::default, TenantId::from);
            let mut check = Check { at: format!("rules[{at}]"), tenant, problems: &mut problems, vocabulary };
            if at >= MAX_RULES {
                check.error("", format!("more than {MAX_RULES} rules; merge some"));
                break;
            }
            if config.name.trim().is_empty() {
                check.error(".name", "a rule needs a name, which stands in audit and in the keys of what it does".into());
            } else if config.name.starts_with(RESERVED) {
                check.error(".name", format!("names that begin with `{RESERVED}` are taken by what alerts do; choose another"));
            } else if !names.insert(config.name.as_str()) {
                check.error(".name", format!("two rules are called `{}`; their effects would be taken for one", printable(&config.name, 60)));
            }
            if let Some(rule) = check.rule(config) {
                compiled.push(rule);
            }
        }
        if problems.iter().any(|problem| !problem.is_warning) {
            return Err(problems);
        }
        let index = index(&compiled);
        Ok((Self { rules: compiled, index }, problems))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any rule may be for this event. Does not look into its payload.
    pub fn concerns(&self, event: &StoredEvent) -> bool {
        self.candidates(&event.connector, &event.event_type).any(|rule| rule.is_for(&event.tenant, &event.workspace))
    }

    /// The rules that fit an event, ready to run, in the order they were written.
    pub fn fitting<'r>(&'r self, facts: &'r Facts) -> impl Iterator<Item = Run<'r>> {
        let fits = |rule: &&Rule| rule.is_for(&facts.tenant, &facts.workspace) && rule.when.iter().all(|condition| condition.holds(facts.payload()));
        self.candidates(&facts.connector, &facts.event_type).filter(fits).map(move |rule| Run::new(rule, facts))
    }

    fn candidates(&self, connector: &str, kind: &str) -> impl Iterator<Item = &Rule> {
        let rules = self.index.get(connector).map_or(&[][..], |kinds| kinds.named.get(kind).unwrap_or(&kinds.every));
        rules.iter().filter_map(|at| self.rules.get(*at))
    }
}

impl Rule {
    fn is_for(&self, tenant: &TenantId, workspace: &WorkspaceId) -> bool {
        self.tenant == *tenant && (self.workspaces.is_empty() || self.workspaces.iter().any(|own| own == workspace.as_str()))
    }
}

struct Check<'c> {
    at: String,
    tenant: TenantId,
    problems: &'c mut Vec<Problem>,
    vocabulary: &'c dyn Vocabulary,
}

impl Check<'_> {
    fn add(&mut self, key: &str, message: String, is_warning: bool) {
        self.problems.push(Problem { key: format!("{}{key}", self.at), message, is_warning });
    }

    fn error(&mut self, key: &str, message: String) {
        self.add(key, message, false);
    }

    fn rule(&mut self, config: &RuleConfig) -> Option<Rule> {
        let on: Vec<_> = config.on.iter().filter_map(|on| self.on(on)).collect();
        if config.on.is_empty() {
            self.error(".on", "the rule is for no event; name one, for example `msgraph.message_received`".into());
        }
        let mut when = Vec::new();
        for (at, condition) in config.when.iter().enumerate() {
            match Condition::new(condition) {
                Ok(condition) => when.push(condition),
                Err((part, message)) => self.error(&format!(".when[{at}].{part}"), message),
            }
        }
        if config.steps.is_empty() {
            self.error(".do", "the rule does nothing; add a step".into());
        }
        if config.steps.len() > MAX_STEPS {
            self.error(".do", format!("more than {MAX_STEPS} steps; let a later event start a second rule"));
        }
        let mut known = BTreeSet::new();
        let mut steps = Vec::new();
        for (at, step) in config.steps.iter().enumerate() {
            let key = format!(".do[{at}]");
            if let Some(act) = self.act(&key, step, &known) {
                steps.push(Step { name: step.name.clone(), act });
            }
            if let Some(name) = &step.name {
                if step.call.is_none() {
                    self.error(&format!("{key}.as"), "only a `call` has a reply to be named".into());
                } else if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    self.error(&format!("{key}.as"), "a name is letters, digits and `_`".into());
                } else if !known.insert(name.clone()) {
                    self.error(&format!("{key}.as"), format!("two steps are called `{name}`"));
                }
            }
        }
        Some(Rule {
            name: config.name.clone(),
            on,
            tenant: self.tenant.clone(),
            workspaces: config.workspaces.clone(),
            when,
            steps,
            on_failure: config.on_failure,
        })
    }

    fn on(&mut self, text: &str) -> Option<(Arc<str>, Arc<str>)> {
        let shown = printable(text, 80);
        let Some((connector, kind)) = text.split_once('.') else {
            self.error(".on", format!("`{shown}` names no event; write `connector.kind`, or `connector.*` for all of one"));
            return None;
        };
        let near =
            |events: &[String]| nearest(text, events.iter().map(String::as_str)).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        match self.vocabulary.has_event(connector, kind) {
            None => {
                let hint = near(&self.vocabulary.events());
                self.error(".on", format!("there is no connector `{}`{hint}", printable(connector, 40)));
            }
            Some(false) if kind != "*" => {
                let hint = near(&self.vocabulary.events());
                self.add(".on", format!("`{shown}` is not among the declared events of `{connector}`, so it may never come{hint}"), true);
            }
            Some(_) => {}
        }
        Some((connector.into(), kind.into()))
    }

    fn act(&mut self, key: &str, step: &StepConfig, known: &BTreeSet<String>) -> Option<Act> {
        let given = [
            ("call", step.call.is_some()),
            ("forward", step.forward.is_some()),
            ("push", step.push.is_some()),
            ("invalidate", !step.invalidate.is_empty()),
            ("alert", step.alert.is_some()),
        ];
        let chosen: Vec<&str> = given.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
        let [chosen] = chosen[..] else {
            let found = if chosen.is_empty() { "none".to_owned() } else { format!("`{}`", chosen.join("` and `")) };
            self.error(key, format!("a step is exactly one of `call`, `forward`, `push`, `invalidate` and `alert`; here is {found}"));
            return None;
        };
        self.strays(key, step, chosen);
        let data = step.data.as_ref().map(|data| self.tree(&format!("{key}.data"), data, known));
        match chosen {
            "call" => {
                let params = Value::Object(step.params.clone());
                let tree = self.tree(&format!("{key}.params"), &params, known);
                let tool = self.tool(key, step)?;
                Some(Act::Call { tool, connection: step.connection.clone(), params: tree })
            }
            "forward" => {
                let name = step.forward.as_deref()?;
                let endpoints = self.vocabulary.endpoints(&self.tenant);
                if !endpoints.iter().any(|endpoint| endpoint == name) {
                    let hint = nearest(name, endpoints.iter().map(String::as_str))
                        .map_or_else(|| "name it under `endpoints` with its URL and secret".to_owned(), |near| format!("did you mean `{near}`?"));
                    self.error(&format!("{key}.forward"), format!("there is no endpoint `{}`; {hint}", printable(name, 60)));
                }
                Some(Act::Forward { endpoint: name.into(), data })
            }
            "push" => Some(Act::Push { topic: self.text(&format!("{key}.push"), step.push.as_deref()?, known), data }),
            "invalidate" => {
                let tags = step.invalidate.iter().enumerate();
                Some(Act::Invalidate { tags: tags.map(|(at, tag)| self.text(&format!("{key}.invalidate[{at}]"), tag, known)).collect() })
            }
            _ => {
                let text = self.text(&format!("{key}.alert"), step.alert.as_deref()?, known);
                Some(Act::Alert { level: step.level.unwrap_or_default(), text })
            }
        }
    }

    /// What belongs to another kind of step is a mistake, not a decoration.
    fn strays(&mut self, key: &str, step: &StepConfig, chosen: &str) {
        let strays = [
            ("connection", step.connection.is_some(), chosen == "call"),
            ("params", !step.params.is_empty(), chosen == "call"),
            ("data", step.data.is_some(), matches!(chosen, "forward" | "push")),
            ("level", step.level.is_some(), chosen == "alert"),
        ];
        for (name, is_there, belongs) in strays {
            if is_there && !belongs {
                self.error(&format!("{key}.{name}"), format!("`{name}` does not belong to `{chosen}`"));
            }
        }
    }

    fn tool(&mut self, key: &str, step: &StepConfig) -> Option<Arc<str>> {
        let name = step.call.as_deref()?;
        let tool = match check_call(self.vocabulary, name, &step.params) {
            Ok(tool) => tool,
            Err(wrong) => {
                wrong.into_iter().for_each(|(part, message)| self.error(&format!("{key}.{part}"), message));
                return None;
            }
        };
        if tool.is_destructive {
            let message = format!("`{name}` destroys something and will wait for an approval each time, unless a policy lets this workspace do it");
            self.add(&format!("{key}.call"), message, true);
        }
        Some(tool.name)
    }

    fn text(&mut self, key: &str, text: &str, known: &BTreeSet<String>) -> Template {
        let template = Template::parse(text);
        let names: Vec<String> = template.placeholders().map(str::to_owned).collect();
        self.placeholders(key, &names, known);
        template
    }

    fn tree(&mut self, key: &str, value: &Value, known: &BTreeSet<String>) -> Tree {
        let tree = Tree::parse(value);
        let mut names = Vec::new();
        tree.placeholders(&mut names);
        self.placeholders(key, &names, known);
        tree
    }

    fn placeholders(&mut self, key: &str, names: &[String], known: &BTreeSet<String>) {
        for name in names {
            let mut parts = name.split('.');
            let (first, second) = (parts.next().unwrap_or_default(), parts.next());
            let wrong = match (first, second) {
                ("payload", _) => None,
                ("event", Some(fact)) if EVENT.contains(&fact) => None,
                ("event", _) => Some(format!("of an event there are: {}", EVENT.map(|fact| format!("event.{fact}")).join(", "))),
                ("steps", Some(step)) if known.contains(step) => None,
                ("steps", Some(step)) => Some(format!("no earlier step is called `{step}`; name one with `as: {step}`")),
                _ => Some(match nearest(first, ROOTS) {
                    Some(near) if near != first => format!("did you mean `{{{near}.…}}`?"),
                    _ => "placeholders begin with `payload.`, `event.` or `steps.NAME.`".to_owned(),
                }),
            };
            if let Some(hint) = wrong {
                self.error(key, format!("`{{{}}}` names nothing; {hint}", printable(name, 60)));
            }
        }
    }
}
