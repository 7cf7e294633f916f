//! Key-value pairs on PostgreSQL. Expiry is by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    error::{Error, Result},
    state::{Condition, Entry, Namespace, PutOutcome, StateStore},
};

use super::{
    PostgresState,
    fault::Repeat,
    int, millis,
    row::{bytes, cell, number, text},
    text::stored,
};

/// The most bytes of tenant, namespace and key together: what an index row holds, with room for the escape.
const KEY_CAP: usize = 2_000;

fn code(condition: Condition) -> (i16, i64) {
    match condition {
        Condition::Any => (0, 0),
        Condition::Absent => (1, 0),
        Condition::Is(version) => (2, int(version)),
    }
}

/// The first text after all that begin with `prefix`, if there is one.
fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The next character, past the gap that surrogates leave.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[async_trait]
impl StateStore for PostgresState {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        let rows = self
            .db
            .rows(
                Repeat::Harmless,
                "SELECT value, version FROM kv
                 WHERE tenant = $1 AND namespace = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > now_ms($4))",
                &[&stored(namespace.tenant.as_str()), &stored(namespace.name), &stored(key), &self.at()],
            )
            .await?;
        rows.first().map(|row| Ok(Entry { value: bytes(row, 0)?, version: number(row, 1)? })).transpose()
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        if namespace.tenant.as_str().len() + namespace.name.len() + key.len() > KEY_CAP {
            return Err(Error::invalid(format!("tenant, namespace and key together have more than {KEY_CAP} bytes; use a digest as the key")));
        }
        let (condition, version) = code(condition);
        let row = self
            .db
            .row(
                // Repeated, a condition no longer holds, and without one the same value is written again.
                Repeat::Harmless,
                "SELECT o_stored, o_value, o_version FROM kv_put($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    &self.at(),
                    &stored(namespace.tenant.as_str()),
                    &stored(namespace.name),
                    &stored(key),
                    &&value[..],
                    &condition,
                    &version,
                    &ttl.map(millis),
                ],
            )
            .await?;
        if cell(&row, 0)? {
            return Ok(PutOutcome::Stored(number(&row, 2)?));
        }
        let found: Option<Vec<u8>> = cell(&row, 1)?;
        let entry = found.map(|value| Ok::<_, Error>(Entry { value: value.into(), version: number(&row, 2)? })).transpose()?;
        Ok(PutOutcome::Refused(entry))
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        let (condition, version) = code(condition);
        let row = self
            .db
            .row(
                Repeat::Harmless,
                "SELECT kv_delete($1, $2, $3, $4, $5, $6)",
                &[&self.at(), &stored(namespace.tenant.as_str()), &stored(namespace.name), &stored(key), &condition, &version],
            )
            .await?;
        cell(&row, 0)
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        let prefix = stored(prefix);
        let end = end_of(&prefix);
        let after = after.map(stored).filter(|after| **after >= *prefix);
        // The bounds are written out, not made optional: only then does the index begin and end where they say.
        let from = if after.is_some() { "key > $3" } else { "key >= $3" };
        let to = if end.is_some() { "key < $4" } else { "$4::text IS NULL" };
        let rows = self
            .db
            .rows(
                Repeat::Harmless,
                &format!(
                    "SELECT key, value, version FROM kv
                     WHERE tenant = $1 AND namespace = $2 AND {from} AND {to} AND (expires_at IS NULL OR expires_at > now_ms($5))
                     ORDER BY key LIMIT $6"
                ),
                &[
                    &stored(namespace.tenant.as_str()),
                    &stored(namespace.name),
                    &after.unwrap_or(prefix),
                    &end,
                    &self.at(),
                    &i64::try_from(limit).unwrap_or(i64::MAX),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((text(row, 0)?, Entry { value: bytes(row, 1)?, version: number(row, 2)? }))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(end_of("b/").as_deref(), Some("b0"));
        assert_eq!(end_of("b\u{D7FF}").as_deref(), Some("b\u{E000}"), "there are no characters between the two");
        assert_eq!(end_of("b\u{10FFFF}\u{10FFFF}").as_deref(), Some("c"));
        assert_eq!(end_of("\u{10FFFF}"), None);
        assert_eq!(end_of(""), None);
    }
}
