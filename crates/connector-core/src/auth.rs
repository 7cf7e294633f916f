//! How a request is authenticated: a port, so that the engine never holds a secret.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{context::CallCx, error::Result, transport::Head};

/// Puts a credential on requests.
#[async_trait]
pub trait AuthProvider: Debug + Send + Sync + 'static {
    /// Authenticates this request. The head is changed only on success.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if the connection has no usable credential, [`crate::ErrorKind::AuthExpired`] if it must be connected again.
    async fn authorize(&self, cx: &CallCx, head: &mut Head, body: &Bytes) -> Result<CredentialUse>;

    /// Tells that the vendor answered 401 to a request authorised with `used`. `true`: something fresher is at hand and one retry is worth it.
    ///
    /// # Errors
    /// As [`AuthProvider::authorize`].
    async fn rejected(&self, cx: &CallCx, used: &CredentialUse) -> Result<bool>;
}

/// Which version of a credential a request was authorised with. Holds no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialUse {
    /// Grows each time the token behind the credential changes; 0 for credentials that never change.
    pub generation: u64,
}

impl CredentialUse {
    /// The use of something that never changes.
    pub const FIXED: Self = Self { generation: 0 };
}

/// Sends requests as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAuth;

#[async_trait]
impl AuthProvider for NoAuth {
    async fn authorize(&self, _cx: &CallCx, _head: &mut Head, _body: &Bytes) -> Result<CredentialUse> {
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _cx: &CallCx, _used: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}
