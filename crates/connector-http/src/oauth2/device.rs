//! The device flow (RFC 8628): a person confirms on another device what this one cannot show.
//!
//! Owns the pace of asking: never quicker than the server said, slower when it asks for that or does not answer. Refuses addresses that are
//! no web pages, because a person is going to open them.

use std::{fmt, time::Duration};

use connector_core::{
    clock::Instant,
    context::CallCx,
    credential::Credential,
    error::{Error, ErrorKind, Result},
    redact::printable,
    token::TokenRecord,
};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::{
    authorize,
    client::OAuth2Client,
    refusal::{Failed, Fate},
    request::{self, Form},
    template,
};

/// The grant that polls.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How often it is asked if the server does not say (RFC 8628 §3.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// How much slower after each `slow_down` (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// The slowest pace, however often the server does not answer.
const SLOWEST: Duration = Duration::from_secs(60);

/// How long codes are good if the server does not say, and at most.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(3600));

/// What the person has to confirm, and what this program asks with meanwhile. `Debug` does not show the latter.
pub struct DeviceCodes {
    /// What the person types in.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// Where it is typed in already.
    pub verification_uri_complete: Option<Url>,
    device_code: SecretString,
    expires_at: Instant,
    interval: Duration,
    next: Instant,
}

impl DeviceCodes {
    /// When the codes end.
    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// The pace at which [`OAuth2Client::poll_device`] asks now.
    pub fn interval(&self) -> Duration {
        self.interval
    }
}

impl fmt::Debug for DeviceCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCodes")
            .field("verification_uri", &self.verification_uri.as_str())
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// The answer as it is written. Google says `verification_url`.
#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    device_code: SecretString,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(default, alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    interval: Option<u64>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    Ok(String::deserialize(deserializer)?.into())
}

impl OAuth2Client {
    /// Asks for codes that a person confirms on another device. Without `scopes`, those of the manifest are asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the vendor has no such flow, [`ErrorKind::Protocol`] if its answer cannot be used, and what the endpoint answers.
    pub async fn device_codes(&self, cx: &CallCx, credential: &Credential, scopes: &[String]) -> Result<DeviceCodes> {
        let spec = &self.endpoint.spec;
        let place = request::place(spec, &cx.connection, spec.device_url.as_deref())?
            .ok_or_else(|| Error::config(format!("{} names no place where a device asks for its codes", cx.connection.connector)))?;
        let url = self.endpoint.url(cx, &place, "device authorization endpoint", |metadata| metadata.device_authorization_endpoint.as_ref()).await?;
        let scopes = authorize::scopes(spec, &cx.connection, scopes)?.join(spec.scope_separator.as_str());
        let request = self.endpoint.client(cx, credential).request(&url, Form::default().with_scopes(&scopes))?;
        let (_, body) = self.endpoint.send(cx, request).await.map_err(|failed| failed.error)?;
        // serde's messages quote the value they dislike, and here that value may be a code.
        let unreadable = || Error::protocol("the answer to the request for device codes is not the JSON of RFC 8628");
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let page = |text: &str| template::endpoint(text, "the page to confirm on").map_err(|error| error.with_kind(ErrorKind::Protocol));
        let now = self.endpoint.deps.clock.now();
        let interval = answer.interval.map_or(INTERVAL, |seconds| Duration::from_secs(seconds).clamp(Duration::from_secs(1), SLOWEST));
        let lifetime = answer.expires_in.map_or(LIFETIME.0, |seconds| Duration::from_secs(seconds).min(LIFETIME.1));
        Ok(DeviceCodes {
            user_code: printable(&answer.user_code, 64),
            verification_uri: page(&answer.verification_uri)?,
            verification_uri_complete: answer.verification_uri_complete.as_deref().map(page).transpose()?,
            device_code: answer.device_code,
            expires_at: now + lifetime,
            interval,
            next: now + interval,
        })
    }

    /// Waits until the server may be asked again, and asks once. `None`: the person has not confirmed yet.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] if the person refused, [`ErrorKind::AuthExpired`] if the time is over or the codes are not taken any more,
    /// [`ErrorKind::Config`] for what is set up wrongly. After an error the codes are useless.
    pub async fn poll_device(&self, cx: &CallCx, credential: &Credential, codes: &mut DeviceCodes) -> Result<Option<TokenRecord>> {
        let clock = &self.endpoint.deps.clock;
        tokio::time::sleep_until(codes.next.min(codes.expires_at)).await;
        if clock.now() >= codes.expires_at {
            return Err(Error::new(ErrorKind::AuthExpired, "nobody confirmed the code in time: connect again"));
        }
        let target = request::target(&self.endpoint.spec, &cx.connection)?;
        let url = self.endpoint.token_url(cx, &target.place).await?;
        let form = Form::of(GRANT).with("device_code", codes.device_code.clone());
        let request = self.endpoint.client(cx, credential).request(&url, form)?;
        let wall = self.endpoint.wall_millis();
        let outcome = self.endpoint.ask(cx, request).await;
        let failed = match outcome {
            Ok(answer) => return Ok(Some(self.record(cx, credential, answer, wall))),
            Err(failed) => failed,
        };
        codes.interval = pace(codes.interval, &failed)?;
        codes.next = clock.now() + codes.interval.max(failed.error.retry_after().unwrap_or_default().min(SLOWEST));
        Ok(None)
    }
}

/// The pace after an answer that was no token; an error if there will never be one.
fn pace(interval: Duration, failed: &Failed) -> Result<Duration> {
    match (failed.error.vendor_code(), failed.error.kind()) {
        (Some("authorization_pending"), _) => Ok(interval),
        (Some("slow_down"), _) | (_, ErrorKind::Throttled) => Ok(interval + SLOWER),
        // Nobody answered, or nobody who knows.
        (_, kind) if kind.is_passing() || (kind == ErrorKind::Protocol && failed.fate == Fate::Unknown) => Ok((interval * 2).min(SLOWEST)),
        _ => Err(failed.error.clone()),
    }
}
