//! Opening everything once, to know that it opens. Shows nothing.

use connector_core::{Result, TenantId, state::Entry};

use super::{CREDENTIALS, Inner, TOKENS, Vault, tokens};
use crate::{
    info::{Unreadable, VerifyReport},
    keys::{Fault, Target},
    payload::{KeyRow, PAYLOAD_KEYS, SUBJECT},
    record::Row,
};

/// What the audit trail calls it.
const ERRAND: &str = "vault.verify";
/// What to say about the row of a data key that cannot be read.
pub(super) const DAMAGED_KEY: &str = "the row of this data key is damaged or was written by a newer version";

impl Vault {
    /// Opens everything once, without showing anything. Each credential's opening is audited as `vault.verify`.
    ///
    /// # Errors
    /// What the store reports; what a master key reports that cannot be reached. What does not open is part of the report.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        for tenant in self.tenants().await? {
            for namespace in [CREDENTIALS, TOKENS, PAYLOAD_KEYS] {
                let mut after = None::<String>;
                loop {
                    let page = self.0.page(&tenant, namespace, after.as_deref()).await?;
                    let Some((last, _)) = page.last() else { break };
                    after = Some(last.clone());
                    let mut trail = Vec::new();
                    for (name, entry) in &page {
                        let started = self.0.wall();
                        let fault = match namespace {
                            TOKENS => self.0.verify_tokens(&tenant, name, entry, &mut report).await?,
                            PAYLOAD_KEYS => self.0.verify_data_key(&tenant, name, entry, &mut report).await?,
                            _ => {
                                report.credentials += 1;
                                self.0.verify_record(&tenant, name, entry, &mut report).await?
                            }
                        };
                        trail.push(self.0.errand(&tenant, &subject(namespace, name), ERRAND, fault.as_ref(), started));
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

    async fn verify_data_key(&self, tenant: &TenantId, name: &str, entry: &Entry, report: &mut VerifyReport) -> Result<Option<Fault>> {
        let opened = match KeyRow::read(entry) {
            Some(row) => {
                if let Some(id) = row.key_id() {
                    *report.by_key.entry(id).or_default() += 1;
                }
                self.keys.open(row.target(tenant, name), &row.sealed()).await
            }
            None => Err(Fault::Unreadable(DAMAGED_KEY.into())),
        };
        match opened {
            Ok(_) => {
                report.opened += 1;
                Ok(None)
            }
            Err(Fault::Unreadable(why)) => {
                report.unreadable.push(lost(tenant, SUBJECT, name, &why));
                Ok(Some(Fault::Unreadable(why)))
            }
            Err(Fault::Away(error)) => Err(error),
        }
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

/// How the trail and reports call a row: a credential by its name, a data key of payloads so that no credential can be meant.
pub(super) fn subject(namespace: &str, name: &str) -> String {
    if namespace == PAYLOAD_KEYS { format!("{SUBJECT}:{name}") } else { name.to_owned() }
}

pub(super) fn lost(tenant: &TenantId, name: &str, field: &str, why: &str) -> Unreadable {
    Unreadable { tenant: tenant.clone(), name: name.to_owned(), field: field.to_owned(), why: why.to_owned() }
}
