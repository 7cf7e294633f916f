//! AWS KMS and Secrets Manager: the JSON 1.1 protocol, signed with SigV4, four operations.
//!
//! The facts are those of the service models in botocore 1.44. Refuses retries of its own, as the rest of this module does.
//!
//! Credentials come from the environment, from a web identity (EKS service accounts), or from the container's credential server (ECS,
//! EKS pod identities). Not supported: the instance metadata service of EC2, profiles and files of the AWS command line, SSO.

mod credentials;
mod kms;
mod secrets;
mod sign;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result, clock::Clock, transport::Transport};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;

use super::wire::{Answer, Wire, header, said};

pub use self::{credentials::AwsCredentials, kms::KmsKey, secrets::SecretsManagerStore};

/// The content type of the protocol.
const JSON: &str = "application/x-amz-json-1.1";

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsService {
    /// Key Management Service.
    Kms,
    /// Secrets Manager.
    SecretsManager,
}

impl AwsService {
    /// As host names, signatures and policies call it.
    fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::SecretsManager => "secretsmanager",
        }
    }

    /// What stands before the operation in `X-Amz-Target`.
    fn target(self) -> &'static str {
        match self {
            Self::Kms => "TrentService",
            Self::SecretsManager => "secretsmanager",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Kms => "AWS KMS",
            Self::SecretsManager => "AWS Secrets Manager",
        }
    }
}

/// One service in one region. Clones share the credentials.
#[derive(Clone)]
pub struct AwsClient {
    wire: Wire,
    service: AwsService,
    region: Arc<str>,
    credentials: Arc<AwsCredentials>,
    clock: Arc<dyn Clock>,
}

impl AwsClient {
    /// A client of a service. `endpoint` replaces the public one (a VPC endpoint, a test server). Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a region or endpoint that cannot be used.
    pub fn new(
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        credentials: Arc<AwsCredentials>,
        service: AwsService,
        region: &str,
        endpoint: Option<&str>,
    ) -> Result<Self> {
        check_region(region)?;
        let public = format!("https://{}.{region}.{}", service.name(), domain(region));
        let wire = Wire::new(transport, service.title(), endpoint.unwrap_or(&public))?;
        if wire.base().path() != "/" {
            return Err(wire.error(ErrorKind::Config, "has a path in its endpoint; give the host alone"));
        }
        Ok(Self { wire, service, region: region.into(), credentials, clock })
    }

    fn place(&self) -> &str {
        self.wire.place()
    }

    /// Sends an operation. Gives what it answered, or the fault that is the caller's to judge.
    async fn call(&self, operation: &'static str, body: Bytes) -> Result<std::result::Result<Answer, Fault>> {
        let keys = self.credentials.keys().await?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let target = format!("{}.{operation}", self.service.target());
        header(&mut headers, "x-amz-target", HeaderValue::from_str(&target).map_err(|_| Error::internal("an AWS operation cannot be named"))?);
        let scope = sign::Scope { region: &self.region, service: self.service.name(), at: self.clock.wall() };
        let authorization = sign::sign(&keys, &scope, self.wire.base(), &mut headers, &body)?;
        headers.insert(AUTHORIZATION, authorization);
        let answer = self.wire.send(Method::POST, self.wire.base().clone(), headers, body).await?;
        if answer.status.is_success() {
            return Ok(Ok(answer));
        }
        let fault = Fault::of(&answer);
        match fault.code.as_str() {
            "InternalServiceError"
            | "KMSInternalException"
            | "KeyUnavailableException"
            | "DependencyTimeoutException"
            | "ServiceUnavailableException" => Err(fault.on(self.wire.passing(&answer, "failed"))),
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" => Err(fault.on(self.wire.passing(&answer, "asks us to slow down"))),
            "LimitExceededException" => Err(fault.on(self.wire.passing(&answer, "is over a quota of this account; raise it if this stays"))),
            "AccessDeniedException" | "AccessDenied" => Err(fault.on(self.wire.error(
                ErrorKind::Config,
                format!("refuses us: allow `{}:{operation}` on it in the policy of this role and in the key's own", self.service.name()),
            ))),
            "ExpiredTokenException" | "ExpiredToken" => {
                self.credentials.forget(&keys);
                Err(fault.on(self.wire.error(ErrorKind::Config, "says that our session token is over; renew the AWS credentials")))
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" | "MissingAuthenticationToken" | "IncompleteSignature" | "OptInRequired" => {
                self.credentials.forget(&keys);
                Err(fault.on(self.wire.error(ErrorKind::Config, "does not know our access key; check the AWS credentials and the region")))
            }
            "SignatureDoesNotMatch" | "InvalidSignatureException" | "RequestExpired" | "RequestTimeTooSkewed" => Err(fault.on(self.wire.error(
                ErrorKind::Config,
                "does not accept our signature: the secret access key is wrong, or this machine's clock is off by more than 5 minutes",
            ))),
            _ if answer.status.is_server_error() || answer.status.as_u16() == 429 => Err(fault.on(self.wire.passing(&answer, "failed"))),
            "" => Err(fault.on(self.wire.error(ErrorKind::Config, "does not answer like AWS; check the endpoint"))),
            _ => Ok(Err(fault)),
        }
    }

    /// A fault as an error of this kind.
    fn error(&self, kind: ErrorKind, fault: Fault, what: impl fmt::Display) -> Error {
        fault.on(self.wire.error(kind, what))
    }

    /// An answer without what it must hold.
    fn odd(&self) -> Error {
        self.wire.error(ErrorKind::Config, "does not answer as its documentation says; check the endpoint")
    }
}

impl fmt::Debug for AwsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsClient").field("place", &self.place()).field("region", &self.region).finish_non_exhaustive()
    }
}

/// A region as host names have it.
fn check_region(region: &str) -> Result<()> {
    let is_region = (1..=32).contains(&region.len()) && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_region {
        return Ok(());
    }
    Err(Error::config(format!("`{}` is not an AWS region; write it like `eu-central-1`", connector_core::redact::printable(region, 40))))
}

/// The domain of a region's endpoints.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// What a service answered instead of a result.
struct Fault {
    /// `ResourceNotFoundException`; empty if it did not say.
    code: String,
    status: u16,
    said: String,
    request_id: Option<String>,
}

impl Fault {
    fn of(answer: &Answer) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(default, rename = "__type")]
            code: String,
            #[serde(default, alias = "Message")]
            message: String,
        }
        let body: Body = serde_json::from_slice(answer.body()).unwrap_or_default();
        let code = if body.code.is_empty() { answer.header("x-amzn-errortype").unwrap_or_default() } else { &body.code };
        // A namespace may stand before `#`, and an address after `:` (unverified).
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
        let is_code = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = answer.header("x-amzn-requestid").filter(|id| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic()));
        Self {
            code: if is_code { code.to_owned() } else { String::new() },
            status: answer.status.as_u16(),
            said: said(&body.message),
            request_id: id.map(str::to_owned),
        }
    }

    /// The error with what is known about the fault.
    fn on(self, error: Error) -> Error {
        let error = error.with_status(self.status);
        let error = if self.code.is_empty() { error } else { error.with_vendor_code(self.code) };
        let error = if self.said.is_empty() { error } else { error.with_context("said", self.said) };
        match self.request_id {
            Some(id) => error.with_request_id(id),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests;
