//! Opening everything once, to know that it opens. Shows nothing.

use connector_core::{Result, TenantId, state::Entry};

use super::{CREDENTIALS, Inner, TOKENS, Vault, tokens};
use crate::{
    info::{Unreadable, VerifyReport},
    keys::{Fault, Target},
    record::Row,
};

/// What the audit trail calls it.
const ERRAND: &str = "vault.verify";

impl Vault {
    /// Opens everything once, without showing anything. Each credential's opening is audited as `vault.verify`.
    ///
    /// # Errors
    /// What the store reports; what a master key reports that cannot be reached. What does not open is part of the report.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        for tenant in self.tenants().await? {
            for namespace in [CREDENTIALS, TOKENS] {
                let mut after = None::<String>;
                loop {
                    let page = self.0.page(&tenant, namespace, after.as_deref()).await?;
                    let Some((last, _)) = page.last() else { break };
                    after = Some(last.clone());
                    let mut trail = Vec::new();
                    for (name, entry) in &page {
                        let started = self.0.wall();
                        let fault = if namespace == TOKENS {
                            self.0.verify_tokens(&tenant, name, entry, &mut report).await?
                        } else {
                            report.credentials += 1;
                            self.0.verify_record(&tenant, name, entry, &mut report).await?
                        };
                        trail.push(self.0.errand(&tenant, name, ERRAND, fault.as_ref(), started));
                    }
                    self.0.audit(trail).await;
                }
            }
        }
        Ok(report)
    }
}

impl Inner {
    pub(super) async fn page(&self, tenant: &TenantId, namespace: &str, after: Option<&str>) -> Result<Vec<(String, Entry)>> {
        self.store.scan(connector_core::state::Namespace::new(tenant, namespace), "", after, super::PAGE).await
    }

    async fn verify_record(&self, tenant: &TenantId, name: &str, entry: &Entry, report: &mut VerifyReport) -> Result<Option<Fault>> {
        let Some(record) = Row::read(entry).record else {
            report.unreadable.push(lost(tenant, name, "*", "its record is damaged or was written by a newer version"));
            return Ok(Some(Fault::Unreadable(String::new())));
        };
        let mut fault = None;
        for (field, kept) in record.envelopes() {
            if let Some(id) = kept.key_id() {
                *report.by_key.entry(id.to_owned()).or_default() += 1;
            }
            match self.keys.open(Target { tenant, credential: name, field, version: kept.version }, &kept.sealed).await {
                Ok(_) => report.opened += 1,
                Err(Fault::Unreadable(why)) => {
                    report.unreadable.push(lost(tenant, name, field, &why));
                    fault = Some(Fault::Unreadable(why));
                }
                Err(Fault::Away(error)) => return Err(error),
            }
        }
        Ok(fault)
    }

    async fn verify_tokens(&self, tenant: &TenantId, name: &str, entry: &Entry, report: &mut VerifyReport) -> Result<Option<Fault>> {
        if let Some(id) = tokens::key_id(&entry.value) {
            *report.by_key.entry(id).or_default() += 1;
        }
        match self.open_tokens(tenant, name, &entry.value).await {
            Ok(_) => {
                report.opened += 1;
                Ok(None)
            }
            Err(Fault::Unreadable(why)) => {
                report.unreadable.push(lost(tenant, name, tokens::FIELD, &why));
                Ok(Some(Fault::Unreadable(why)))
            }
            Err(Fault::Away(error)) => Err(error),
        }
    }
}

pub(super) fn lost(tenant: &TenantId, name: &str, field: &str, why: &str) -> Unreadable {
    Unreadable { tenant: tenant.clone(), name: name.to_owned(), field: field.to_owned(), why: why.to_owned() }
}
