//! Signing in on another device (RFC 8628): a short code is shown here and typed in there.
//!
//! Refuses to spend what comes of it before it is stored. The pace of asking is [`OAuth2Client`]'s.

use connector_core::{Error, Result, clock::unix_seconds, spec::OAuth2Flow, state::AuditOutcome};
use connector_http::oauth2::OAuth2Client;

use super::{
    answer::{ConnectAsk, ConnectReport, DeviceStart, Settled},
    cx_of, errand, may_connect, redirect, scopes,
};
use crate::runtime::Runtime;

impl Runtime {
    /// Asks the vendor for a code that a person types in elsewhere. Neither `session` nor `redirect_uri` of the ask is used.
    ///
    /// # Errors
    /// As [`Runtime::begin_connect`], and what the vendor reports.
    pub async fn begin_device(&self, ask: ConnectAsk) -> Result<DeviceStart> {
        may_connect(ask.role)?;
        let target = self.target(&ask.tenant, &ask.connector, ask.connection.as_deref())?;
        let cx = cx_of(&target, &ask.actor, errand::DEVICE);
        let asked = async {
            self.require_vault()?;
            redirect::check_next(ask.next.as_deref())?;
            let spec = target.consent(OAuth2Flow::DeviceCode)?;
            let wanted = target.wanted(&ask.tools, &ask.scopes)?;
            let client = self.client(&cx, &target, errand::DEVICE).await?;
            let oauth = OAuth2Client::new(spec.clone(), self.0.auth.clone())?;
            let codes = oauth.device_codes(&cx, &client, &wanted).await?;
            Ok((codes, scopes::asked(spec, target.connection(), &wanted)))
        };
        let put = super::errand(&cx, target.credential(), errand::DEVICE);
        let (codes, scopes) = match asked.await {
            Ok(asked) => asked,
            Err(error) => {
                self.record_refused(&put, &error);
                return Err(error);
            }
        };
        self.record(&put, AuditOutcome::Ok, None).await?;
        let left = codes.expires_at().saturating_duration_since(self.0.shared.clock.now());
        Ok(DeviceStart {
            user_code: codes.user_code.clone(),
            verification_uri: codes.verification_uri.to_string(),
            verification_uri_complete: codes.verification_uri_complete.as_ref().map(ToString::to_string),
            expires_at: unix_seconds(self.0.shared.clock.wall()) + left.as_secs(),
            interval: codes.interval().as_secs(),
            scopes,
            codes,
            ask,
        })
    }

    /// Waits until the code was typed in, was declined, or lapsed, at most an hour.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Forbidden`] if the person declined, [`connector_core::ErrorKind::AuthExpired`] if the code lapsed, and what the vendor,
    /// the vault or the state store report.
    pub async fn finish_device(&self, start: DeviceStart) -> Result<ConnectReport> {
        // A caller that goes away must not take the tokens with it.
        let this = self.clone();
        let finishing = tokio::spawn(async move { this.await_device(start).await });
        finishing.await.map_err(|error| Error::internal("a sign-in was not finished").with_source(error))?
    }

    async fn await_device(&self, start: DeviceStart) -> Result<ConnectReport> {
        let DeviceStart { mut codes, ask, scopes, .. } = start;
        let target = self.target(&ask.tenant, &ask.connector, ask.connection.as_deref())?;
        let cx = cx_of(&target, &ask.actor, errand::FINISH);
        let put = super::errand(&cx, target.credential(), errand::FINISH);
        self.record(&put, AuditOutcome::Intent, None).await?;
        let result = async {
            let spec = target.consent(OAuth2Flow::DeviceCode)?;
            let client = self.client(&cx, &target, errand::DEVICE).await?;
            self.ensure_record(&target, &client).await?;
            let oauth = OAuth2Client::new(spec.clone(), self.0.auth.clone())?;
            let record = loop {
                if let Some(record) = oauth.poll_device(&cx, &client, &mut codes).await? {
                    break record;
                }
            };
            let settled = Settled { target: &target, tools: &ask.tools, next: ask.next.clone() };
            self.settle(&cx, &oauth, spec, record, &scopes, settled).await
        };
        let result = result.await;
        self.record_end(&put, &result).await;
        result
    }
}
