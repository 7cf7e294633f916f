//! Where a master key is: the text after `from:`.
//!
//! Refuses to repeat what it cannot read: somebody may have written the key itself.

use std::path::PathBuf;

use url::Url;

use super::fill::is_variable;
use crate::remote::is_plain;

/// The ways, for people.
pub(super) const WAYS: &str =
    "`env:VARIABLE`, `file:/path`, `keyring:SERVICE/ACCOUNT`, `aws-kms:KEY?region=REGION`, `transit:https://HOST:8200/MOUNT/KEY`";

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Env(String),
    File(PathBuf),
    Keyring { service: String, account: String },
    Kms { key: String, region: Option<String>, endpoint: Option<String> },
    Transit { url: String, mount: String, key: String },
}

impl Place {
    /// Reads a place; says what is wrong without quoting it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("this is not a place of a key; there are {WAYS}");
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        match scheme {
            "env" if is_variable(rest) => Ok(Self::Env(rest.to_owned())),
            "env" => Err("`env:` wants the name of an environment variable, like `env:CONNECTORS_MASTER_KEY`, never its value".into()),
            "file" if !rest.is_empty() && !rest.contains('\0') => Ok(Self::File(PathBuf::from(rest))),
            "file" => Err("`file:` wants a path, like `file:/etc/connectors/master.key`".into()),
            "keyring" => match rest.split_once('/') {
                Some((service, account)) if !service.is_empty() && !account.is_empty() => {
                    Ok(Self::Keyring { service: service.to_owned(), account: account.to_owned() })
                }
                _ => Err("`keyring:` wants a service and an account, like `keyring:connectors/master-key`".into()),
            },
            "aws-kms" => kms(rest),
            "transit" => transit(rest),
            _ => Err(unknown()),
        }
    }
}

fn kms(rest: &str) -> Result<Place, String> {
    let (key, query) = rest.split_once('?').unwrap_or((rest, ""));
    if key.is_empty() {
        return Err("`aws-kms:` wants a key, like `aws-kms:alias/connectors?region=eu-central-1`".into());
    }
    // The region is part of an ARN: arn:aws:kms:REGION:ACCOUNT:key/ID.
    let mut region = key.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2)).filter(|region| !region.is_empty()).map(str::to_owned);
    let mut endpoint = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "region" => region = Some(value.into_owned()),
            "endpoint" => endpoint = Some(value.into_owned()),
            _ => return Err("`aws-kms:` knows `region` and `endpoint` after the `?`, nothing else; credentials come from the environment".into()),
        }
    }
    Ok(Place::Kms { key: key.to_owned(), region, endpoint })
}

fn transit(rest: &str) -> Result<Place, String> {
    let wrong = || "`transit:` wants the server, the mount and the key, like `transit:https://bao.internal:8200/transit/connectors`".to_owned();
    let url = Url::parse(rest).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`transit:` must not hold a user name or password; log in with `token` or `approle` beside it".into());
    }
    let segments: Vec<&str> = url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect();
    // A server below a path is told apart by the API's `v1`.
    let (base, segments) = match segments.iter().position(|segment| *segment == "v1") {
        Some(at) => (&segments[..at], &segments[at + 1..]),
        None => (&segments[..0], &segments[..]),
    };
    let (key, mount) = segments.split_last().filter(|(_, mount)| !mount.is_empty()).ok_or_else(wrong)?;
    if !segments.iter().all(|segment| is_plain(segment)) {
        return Err(wrong());
    }
    let mut server = url.origin().ascii_serialization();
    for segment in base {
        server.push('/');
        server.push_str(segment);
    }
    Ok(Place::Transit { url: server, mount: mount.join("/"), key: (*key).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_read() {
        let kms = |key: &str, region: Option<&str>, endpoint: Option<&str>| Place::Kms {
            key: key.into(),
            region: region.map(Into::into),
            endpoint: endpoint.map(Into::into),
        };
        let transit = |url: &str, mount: &str, key: &str| Place::Transit { url: url.into(), mount: mount.into(), key: key.into() };
        for (text, place) in [
            ("env:CONNECTORS_MASTER_KEY", Place::Env("CONNECTORS_MASTER_KEY".into())),
            ("file:/etc/connectors/master.key", Place::File("/etc/connectors/master.key".into())),
            ("keyring:connectors/main/key", Place::Keyring { service: "connectors".into(), account: "main/key".into() }),
            ("aws-kms:alias/connectors", kms("alias/connectors", None, None)),
            (
                "aws-kms:alias/connectors?region=eu-central-1&endpoint=https://kms.internal",
                kms("alias/connectors", Some("eu-central-1"), Some("https://kms.internal")),
            ),
            ("aws-kms:arn:aws:kms:eu-west-1:123456789012:key/1-2", kms("arn:aws:kms:eu-west-1:123456789012:key/1-2", Some("eu-west-1"), None)),
            ("transit:https://bao.internal:8200/transit/connectors", transit("https://bao.internal:8200", "transit", "connectors")),
            ("transit:https://bao.internal/team/eu/transit/k", transit("https://bao.internal", "team/eu/transit", "k")),
            ("transit:https://gw.internal/vault/v1/transit/k", transit("https://gw.internal/vault", "transit", "k")),
        ] {
            assert_eq!(Place::parse(text).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_and_never_repeated() {
        for text in [
            "",
            "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
            "base64:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
            "env:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
            "env:",
            "file:",
            "keyring:connectors",
            "keyring:/x",
            "aws-kms:",
            "aws-kms:alias/x?secret=q83vEjRWeJA",
            "transit:bao.internal/transit/k",
            "transit:https://bao.internal/k",
            "transit:https://user:q83vEjRWeJA@bao.internal/transit/k",
            "transit:https://bao.internal/transit/k?token=q83vEjRWeJA",
            "transit:https://bao.internal/transit/%2e%2e%2fk",
        ] {
            let why = Place::parse(text).unwrap_err();
            assert!(!why.contains("q83vEjRW"), "{why}");
        }
    }
}
