//! What a response header says about the calls that are left: a bare number, or a text of a described form.

use connector_core::spec::LimitSpec;
use http::{HeaderMap, HeaderName};

use crate::template::{Part, Template};

/// How a limit class reads what is left.
#[derive(Debug)]
pub(crate) struct Allowance {
    header: HeaderName,
    form: Option<Vec<Part>>,
}

/// The numbers a form may name.
const NAMES: [&str; 3] = ["used", "limit", "remaining"];

impl Allowance {
    /// Compiles what a class says; `None` if it names no header.
    ///
    /// # Errors
    /// What is wrong with the header's name or the form.
    pub(crate) fn compile(spec: &LimitSpec) -> Result<Option<Self>, String> {
        let form = match &spec.remaining_form {
            None => None,
            Some(form) => {
                let template = Template::parse(form);
                let names: Vec<&str> = template.placeholders().collect();
                let complete = names.contains(&"remaining") || (names.contains(&"used") && names.contains(&"limit"));
                let starts = matches!(template.parts().first(), Some(Part::Literal(_)));
                let apart = template.parts().windows(2).all(|two| !matches!(two, [Part::Param(_), Part::Param(_)]));
                if !complete || !starts || !apart || names.iter().any(|name| !NAMES.contains(name)) {
                    return Err(format!(
                        "`{form}` is not a form; start with a text and name `{{used}}` and `{{limit}}`, or `{{remaining}}`, for example `api-usage={{used}}/{{limit}}`"
                    ));
                }
                Some(template.parts().to_vec())
            }
        };
        let header = |name: &String| HeaderName::try_from(name).map_err(|_| format!("`{name}` is not a header name"));
        Ok(spec.remaining_header.as_ref().map(header).transpose()?.map(|header| Self { header, form }))
    }

    /// How many calls are left. Of a limit that is told, a tenth is kept in reserve, as of the published ones.
    pub(super) fn left(&self, headers: &HeaderMap) -> Option<u64> {
        let text = headers.get(&self.header)?.to_str().ok()?;
        let Some(form) = &self.form else { return text.trim().parse().ok() };
        let [used, limit, remaining] = numbers(form, text)?;
        remaining.or_else(|| limit.zip(used).map(|(limit, used)| (limit - limit / 10).saturating_sub(used)))
    }
}

/// The numbers at the first place where the form fits. A place in the middle of a word is none: `per-app-api-usage` is not `api-usage`.
fn numbers(form: &[Part], text: &str) -> Option<[Option<u64>; 3]> {
    let Some(Part::Literal(first)) = form.first() else { return None };
    text.match_indices(&**first).find_map(|(at, _)| {
        let inside = text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if inside { None } else { read(form, &text[at..]) }
    })
}

fn read(form: &[Part], mut text: &str) -> Option<[Option<u64>; 3]> {
    let mut found = [None; 3];
    for part in form {
        match part {
            Part::Literal(literal) => text = text.strip_prefix(&**literal)?,
            Part::Param(name) => {
                let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                found[NAMES.iter().position(|known| **known == **name)?] = Some(text[..digits].parse().ok()?);
                text = &text[digits..];
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(form: Option<&str>, text: &str) -> Option<u64> {
        let spec = LimitSpec { remaining_header: Some("x-left".into()), remaining_form: form.map(str::to_owned), ..LimitSpec::default() };
        let mut headers = HeaderMap::new();
        headers.insert("x-left", text.parse().unwrap());
        Allowance::compile(&spec).unwrap().unwrap().left(&headers)
    }

    #[test]
    fn what_is_used_of_a_limit_leaves_the_rest_but_a_tenth() {
        let form = Some("api-usage={used}/{limit}");
        assert_eq!(left(form, "api-usage=18/15000"), Some(13_482));
        assert_eq!(left(form, "per-app-api-usage=17/250(appName=hub); api-usage=13500/15000"), Some(0));
        assert_eq!(left(form, "api-usage=99999/15000"), Some(0));
        for unreadable in ["per-app-api-usage=17/250", "api-usage=x/15000", "api-usage=1", ""] {
            assert_eq!(left(form, unreadable), None, "{unreadable}");
        }
        assert_eq!(left(Some("left={remaining}"), "a; left=7"), Some(7));
        assert_eq!(left(None, " 12 "), Some(12));
    }

    #[test]
    fn a_form_that_tells_nothing_is_refused() {
        for form in ["{used}/{limit}", "a={used}", "a={used}{limit}", "a={other}", "plain"] {
            let spec = LimitSpec { remaining_header: Some("x".into()), remaining_form: Some(form.into()), ..LimitSpec::default() };
            assert!(Allowance::compile(&spec).is_err(), "{form}");
        }
    }
}
