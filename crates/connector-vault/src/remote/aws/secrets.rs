//! Secrets Manager as a secret manager: `AWSCURRENT`, and `AWSPREVIOUS` while the rotation is young.

use std::collections::BTreeMap;

use async_trait::async_trait;
use connector_core::{ErrorKind, Result, TenantId, clock::unix_seconds};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::AwsClient;
use crate::{
    manager::{ManagedSecret, SecretManager},
    remote::{OVERLAP, PathTemplate, fields, json_body, secret, version_of},
};

/// The field of a secret that is not a JSON object.
const VALUE: &str = "value";

/// Secrets Manager in one region. `AWSPENDING` is never read: it is not in use until the rotation that made it is finished.
#[derive(Debug)]
pub struct SecretsManagerStore {
    client: AwsClient,
    path: PathTemplate,
}

impl SecretsManagerStore {
    /// Secrets are named by `path`.
    pub fn new(client: AwsClient, path: PathTemplate) -> Self {
        Self { client, path }
    }

    async fn stage(&self, id: &str, stage: &'static str) -> Result<Option<Version>> {
        let body = json_body(&Get { secret_id: id, version_stage: stage })?;
        let answer = match self.client.call("GetSecretValue", body).await? {
            Ok(answer) => answer,
            Err(fault) => {
                let kind = ErrorKind::Config;
                return match fault.code.as_str() {
                    "ResourceNotFoundException" => Ok(None),
                    "InvalidRequestException" => {
                        Err(self.client.error(kind, fault, format!("does not give out `{id}`; if its deletion is scheduled, restore it")))
                    }
                    "DecryptionFailure" => Err(self.client.error(kind, fault, format!("may not decrypt `{id}`: allow `kms:Decrypt` on its key"))),
                    _ => Err(self.client.error(kind, fault, format!("refuses to read `{id}`"))),
                };
            }
        };
        let got: Got = serde_json::from_slice(answer.body()).map_err(|_| self.client.odd())?;
        let Some(text) = got.secret_string else {
            return Err(self
                .client
                .wire
                .error(ErrorKind::Config, format!("holds `{id}` as bytes; store it as text, best as a JSON object of fields")));
        };
        let object: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(text.expose_secret()).ok();
        let fields = match object {
            Some(object) => fields(object).ok_or_else(|| self.client.odd())?,
            None => BTreeMap::from([(VALUE.to_owned(), text)]),
        };
        Ok(Some(Version { fields, number: version_of(&got.version_id), created: got.created_date }))
    }
}

struct Version {
    fields: BTreeMap<String, SecretString>,
    number: u64,
    /// Unix seconds.
    created: f64,
}

#[async_trait]
impl SecretManager for SecretsManagerStore {
    fn place(&self) -> String {
        format!("AWS Secrets Manager in {}", self.client.region)
    }

    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>> {
        let Some(path) = self.path.fill(tenant, name)? else { return Ok(None) };
        let id = path.join("/");
        let Some(current) = self.stage(&id, "AWSCURRENT").await? else { return Ok(None) };
        let mut previous = None;
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let now = unix_seconds(self.client.clock.wall()) as f64;
        if now < current.created + OVERLAP.as_secs_f64() {
            match self.stage(&id, "AWSPREVIOUS").await {
                Ok(version) => previous = version.filter(|version| version.number != current.number).map(|version| version.fields),
                // The secret in use is here; it must not fail because of the one before.
                Err(error) => tracing::warn!(place = self.client.place(), %error, "the version before a secret's newest could not be read"),
            }
        }
        Ok(Some(ManagedSecret { fields: current.fields, version: current.number, previous, lease: None }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Get<'a> {
    secret_id: &'a str,
    version_stage: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    #[serde(default, deserialize_with = "some_secret")]
    secret_string: Option<SecretString>,
    version_id: String,
    #[serde(default)]
    created_date: f64,
}

fn some_secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<SecretString>, D::Error> {
    secret(deserializer).map(Some)
}
