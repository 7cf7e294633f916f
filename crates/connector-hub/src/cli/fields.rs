//! Secret values on their way in: standard input, a hidden prompt, a file. Never an argument, which other users see in the process list.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Read as _},
};

use clap::Args;
use connector_core::{
    Error, Result,
    spec::{AuthSpec, ConnectorSpec, OAuth2Flow},
};
use secrecy::{ExposeSecret as _, SecretString};

/// The longest file or input a value is read from, in bytes.
const MOST: u64 = 256 * 1024;
/// Fields that say who it is and prove nothing; they are echoed at a prompt.
const PUBLIC: [&str; 6] = ["username", "client_id", "key_id", "tenant_id", "subject", "certificate"];
/// What people are told who put a value on the command line.
const SAFER: &str = "a secret does not go on the command line: others see it in the process list and it stays in the shell's history. Name the \
                     field alone (`--field token`) and give the value at the prompt, on standard input as `token=…`, or with --from-file; and \
                     replace the secret you just typed";

/// Where the values come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Sources {
    /// The name of a field; its value is asked for, or read from standard input as `field=value`
    #[arg(long = "field", value_name = "F")]
    pub(crate) fields: Vec<String>,
    /// A field whose value is a file's content
    #[arg(long, value_name = "F=PATH")]
    pub(crate) from_file: Vec<String>,
    /// Standard input is one JSON object of fields
    #[arg(long)]
    pub(crate) stdin_json: bool,
    /// Nothing belongs here; catches secrets before anybody repeats them.
    #[arg(hide = true)]
    pub(crate) stray: Vec<String>,
}

/// Values by field.
pub(crate) type Values = BTreeMap<String, SecretString>;

impl Sources {
    /// Refuses what must not stand on a command line, without repeating it.
    pub(crate) fn check(&self) -> Result<()> {
        let plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !self.stray.is_empty() || !self.fields.iter().all(plain) {
            return Err(Error::invalid(SAFER));
        }
        if self.from_file.iter().any(|pair| pair.split_once('=').is_none_or(|(name, path)| !plain(&name.to_owned()) || path.is_empty())) {
            return Err(Error::invalid("--from-file wants FIELD=PATH, for example `private_key=./key.pem`"));
        }
        Ok(())
    }

    /// Whether anything says where values come from.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.from_file.is_empty() && !self.stdin_json
    }

    /// Reads them. `expected` are the fields to be asked for if none are named.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] that says what is missing and how to give it, and never holds a value.
    pub(crate) fn read(&self, expected: &[&str]) -> Result<Values> {
        self.check()?;
        let mut values = Values::new();
        for pair in &self.from_file {
            if let Some((name, path)) = pair.split_once('=') {
                values.insert(name.to_owned(), file(path)?);
            }
        }
        if self.stdin_json {
            values.extend(json(&stdin()?)?);
        } else {
            let mut wanted: Vec<&str> = self.fields.iter().map(String::as_str).collect();
            if wanted.is_empty() {
                wanted = expected.to_vec();
            }
            wanted.retain(|name| !values.contains_key(*name));
            if !wanted.is_empty() || values.is_empty() {
                let read = if std::io::stdin().is_terminal() { ask(&wanted)? } else { lines(&stdin()?, &wanted)? };
                values.extend(read);
            }
            let lacks: Vec<&str> = wanted.into_iter().filter(|name| !values.contains_key(*name)).collect();
            if !lacks.is_empty() {
                let lines = lacks.iter().map(|name| format!("{name}=…")).collect::<Vec<_>>().join(" ");
                return Err(Error::invalid(format!(
                    "no value for `{}`; give it on standard input, one `field=value` on a line ({lines}), or with --from-file",
                    lacks.join("`, `")
                )));
            }
        }
        if let Some((name, _)) = values.iter().find(|(_, value)| value.expose_secret().trim().is_empty()) {
            return Err(Error::invalid(format!("the value of `{name}` is empty")));
        }
        Ok(values)
    }
}

/// The fields a connector's credential needs under `scheme`, or under the first scheme there is.
pub(crate) fn expected<'a>(spec: &'a ConnectorSpec, scheme: Option<&str>) -> Result<Vec<&'a str>> {
    Ok(scheme_of(spec, scheme)?.map(|auth| auth.fields().into_iter().map(|(name, _)| name).collect()).unwrap_or_default())
}

/// The scheme of that name (`bearer`, `oauth2`, `authorization_code`), or the first that is one.
pub(crate) fn scheme_of<'a>(spec: &'a ConnectorSpec, scheme: Option<&str>) -> Result<Option<&'a AuthSpec>> {
    let Some(wanted) = scheme else { return Ok(spec.auth.iter().find(|auth| **auth != AuthSpec::None)) };
    let found = spec.auth.iter().find(|auth| auth.kind() == wanted || flow(auth).is_some_and(|flow| flow.as_str() == wanted));
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = spec.auth.iter().map(|auth| flow(auth).map_or(auth.kind(), OAuth2Flow::as_str)).collect();
        Error::invalid(format!("`{}` has no scheme of that name; it has: {}", spec.id, known.join(", ")))
    })
}

fn flow(auth: &AuthSpec) -> Option<OAuth2Flow> {
    match auth {
        AuthSpec::OAuth2(oauth2) => Some(oauth2.flow),
        _ => None,
    }
}

fn file(path: &str) -> Result<SecretString> {
    let unreadable = |error: std::io::Error| Error::invalid(format!("`{path}` cannot be read")).with_source(error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(unreadable)?.take(MOST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(tidy(text))
}

fn stdin() -> Result<SecretString> {
    let mut text = String::new();
    let read = std::io::stdin().take(MOST).read_to_string(&mut text);
    read.map_err(|_| Error::invalid("standard input cannot be read as text"))?;
    Ok(SecretString::from(text))
}

/// One line loses its line end, which editors and `echo` add; a file of several (a PEM key) stays as it is.
fn tidy(text: String) -> SecretString {
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains('\n') { SecretString::from(text) } else { SecretString::from(line) }
}

fn json(text: &SecretString) -> Result<Values> {
    // serde's own words quote what they stumble over.
    let parsed: BTreeMap<String, String> = serde_json::from_str(text.expose_secret()).map_err(|error| {
        Error::invalid(format!("standard input is not one JSON object of texts (line {}, column {})", error.line(), error.column()))
    })?;
    Ok(parsed.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect())
}

/// `field=value` lines; where one field alone is wanted, the whole input may be its value.
fn lines(text: &SecretString, wanted: &[&str]) -> Result<Values> {
    let text = text.expose_secret();
    if let [only] = wanted
        && !text.trim_start().starts_with(&format!("{only}="))
        && !text.trim().is_empty()
    {
        return Ok([((*only).to_owned(), tidy(text.to_owned()))].into());
    }
    let mut values = Values::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) =
            line.split_once('=').ok_or_else(|| Error::invalid(format!("line {} of standard input is not `field=value`", number + 1)))?;
        if !wanted.is_empty() && !wanted.contains(&name.trim()) {
            return Err(Error::invalid(format!(
                "line {} of standard input is for a field that was not asked for; the fields are: {}",
                number + 1,
                wanted.join(", ")
            )));
        }
        values.insert(name.trim().to_owned(), SecretString::from(value));
    }
    if values.is_empty() {
        let wanted = if wanted.is_empty() { "name the fields with --field, or the connector with --connector".to_owned() } else { wanted.join(", ") };
        return Err(Error::invalid(format!("no values on standard input; one `field=value` on a line: {wanted}")));
    }
    Ok(values)
}

fn ask(wanted: &[&str]) -> Result<Values> {
    if wanted.is_empty() {
        return Err(Error::invalid("say which fields it has: `--field token`, or `--connector hubspot`, which knows its own"));
    }
    let broken = |_| Error::invalid("the terminal cannot be read; give the values on standard input");
    let mut values = Values::new();
    for name in wanted {
        let value = if PUBLIC.contains(name) {
            eprint!("{name}: ");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(broken)?;
            line.trim().to_owned()
        } else {
            rpassword::prompt_password(format!("{name} (not shown): ")).map_err(broken)?.trim().to_owned()
        };
        values.insert((*name).to_owned(), SecretString::from(value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &Values) -> Vec<(&str, &str)> {
        values.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
    }

    #[test]
    fn input_is_lines_of_fields_or_one_bare_value() {
        let read = |text: &str, wanted: &[&str]| lines(&SecretString::from(text), wanted);
        assert_eq!(
            shown(&read("client_id=a\nclient_secret=b=c==\n", &["client_id", "client_secret"]).unwrap()),
            [("client_id", "a"), ("client_secret", "b=c==")]
        );
        assert_eq!(shown(&read("hunter2==\n", &["token"]).unwrap()), [("token", "hunter2==")]);
        assert_eq!(shown(&read("token=hunter2\n", &["token"]).unwrap()), [("token", "hunter2")]);
        assert_eq!(shown(&read("any=1\n", &[]).unwrap()), [("any", "1")]);
    }

    #[test]
    fn wrong_input_is_told_by_its_place_only() {
        for (text, wanted) in [("hunter2", &["a", "b"][..]), ("x=hunter2", &["a", "b"]), ("hunter2", &[])] {
            let error = lines(&SecretString::from(text), wanted).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = json(&SecretString::from(r#"{"a": 7, "b": "hunter2""#)).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        for sources in [
            Sources { fields: vec!["token=hunter2".into()], ..Sources::default() },
            Sources { stray: vec!["token=hunter2".into()], ..Sources::default() },
            Sources { from_file: vec!["hunter2".into()], ..Sources::default() },
        ] {
            let error = sources.check().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_key_file_keeps_its_lines_and_a_token_file_loses_its_end() {
        assert_eq!(tidy("a\r\n".into()).expose_secret(), "a");
        assert_eq!(tidy("-----BEGIN\nx\n-----END\n".into()).expose_secret(), "-----BEGIN\nx\n-----END\n");
    }
}
