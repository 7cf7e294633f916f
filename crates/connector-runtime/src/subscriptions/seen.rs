//! Which changes of a record were told already, and by which event: what keeps a change that came by webhook and was found by a reading as
//! well from being handled twice.
//!
//! An event owns the change it was the first to claim; handled again after a crash it still owns it. Pure rules in [`Mark::decide`], their
//! storage below.

use connector_core::{
    Error, ErrorKind, Result, TenantId,
    state::{Condition, Namespace, PutOutcome},
};
use serde::{Deserialize, Serialize};

use super::row::encode;
use crate::{canonical, runtime::Runtime};

const NAMESPACE: &str = "subscriptions.seen";
/// Versions of one record that are remembered.
const VERSIONS: usize = 16;
/// How often a mark that somebody else wrote is looked at again.
const TRIES: usize = 16;
/// So long a vendor's own notification may follow what a reading told: vendors try again for hours (Graph: 4), in milliseconds.
const LATE: u64 = 6 * 3_600_000;
/// The event number of what was there before the subscription.
const BEFORE: u64 = 0;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Updated,
    Deleted,
}

impl Change {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is news.
    Tell,
    /// Its creation was told already and this is a later version: tell it as a change.
    TellAsUpdate,
    /// It was told already.
    Drop,
}

/// What is remembered of one record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    /// The record's key.
    pub(super) key: String,
    /// The event that told its creation, while it is there.
    created: Option<u64>,
    /// The event that told that it is gone, while it is.
    gone: Option<u64>,
    /// Digests of the last versions and the events that told them.
    versions: Vec<(String, u64)>,
    /// A reading told that it is gone, and until then (Unix milliseconds) the vendor's own notification of that may still come.
    owed: Option<u64>,
    /// Unix milliseconds of the last event.
    at: u64,
}

/// One event about a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) change: Change,
    pub(super) version: Option<&'a str>,
    /// The event's number in the log.
    pub(super) seq: u64,
    /// A reading of the stream found it.
    pub(super) found: bool,
    /// For what a reading found: the event that had told the creation (of an end), or the end (of a creation; 0: none), when the reading looked.
    /// If another one has since, the reading is behind.
    pub(super) after: Option<u64>,
    pub(super) now: u64,
}

fn short(version: &str) -> String {
    canonical::sha256_hex(version.as_bytes()).chars().take(16).collect()
}

impl Mark {
    pub(super) fn before(key: &str, version: Option<&str>, now: u64) -> Self {
        let versions = version.map(|version| (short(version), BEFORE)).into_iter().collect();
        Self { key: key.to_owned(), created: Some(BEFORE), versions, at: now, ..Self::default() }
    }

    fn teller(&self, version: &str) -> Option<u64> {
        self.versions.iter().find(|(known, _)| known == version).map(|(_, seq)| *seq)
    }

    fn note(&mut self, version: Option<String>, seq: u64) {
        if let Some(version) = version
            && self.teller(&version).is_none()
        {
            self.versions.push((version, seq));
            let more = self.versions.len().saturating_sub(VERSIONS);
            self.versions.drain(..more);
        }
    }

    /// Decides about an event, and remembers the decision.
    pub(super) fn decide(&mut self, told: Told<'_>) -> Verdict {
        let Told { change, seq, found, .. } = told;
        let version = told.version.map(short);
        self.at = self.at.max(told.now);
        let known = version.as_deref().and_then(|version| self.teller(version));
        // The version that an end was told of: this came before it and is overtaken.
        let ended = version.as_deref().and_then(|version| self.teller(&format!("end:{version}"))).is_some();
        if change != Change::Deleted && ended && known != Some(seq) {
            return Verdict::Drop;
        }
        match change {
            Change::Created => {
                if self.created == Some(seq) {
                    return Verdict::Tell;
                }
                if known == Some(seq) {
                    return Verdict::TellAsUpdate;
                }
                match self.created {
                    None if told.after.is_some_and(|after| after != self.gone.unwrap_or(BEFORE)) => Verdict::Drop,
                    None => {
                        self.created = Some(seq);
                        self.gone = None;
                        self.note(version, seq);
                        Verdict::Tell
                    }
                    // Also the vendor's own word for what a reading told already, come late. If it is something else (it left and came back,
                    // and nobody told that it left), the next reading tells the version, which is therefore not noted.
                    Some(_) if known.is_some() || !found => Verdict::Drop,
                    Some(_) => {
                        self.note(version, seq);
                        Verdict::TellAsUpdate
                    }
                }
            }
            Change::Updated => match known {
                Some(first) if first != seq => Verdict::Drop,
                _ => {
                    self.note(version, seq);
                    Verdict::Tell
                }
            },
            Change::Deleted => {
                if self.gone == Some(seq) {
                    return Verdict::Tell;
                }
                if told.after.is_some_and(|after| self.created != Some(after)) {
                    return Verdict::Drop;
                }
                // The same end over two of the vendor's subscriptions, one of them late. The version is the last one before the end.
                let end = version.map(|version| format!("end:{version}"));
                if end.as_deref().and_then(|end| self.teller(end)).is_some_and(|first| first != seq) {
                    return Verdict::Drop;
                }
                self.note(end, seq);
                let owed = self.owed.take().is_some_and(|until| told.now < until) && !found;
                if owed || self.gone.is_some() {
                    return Verdict::Drop;
                }
                self.gone = Some(seq);
                self.created = None;
                self.owed = found.then(|| told.now.saturating_add(LATE));
                Verdict::Tell
            }
        }
    }

    /// What a reading that shows this version has to tell; `None`: nothing.
    pub(super) fn news(mark: Option<&Self>, version: Option<&str>) -> Option<Change> {
        let Some(mark) = mark.filter(|mark| mark.created.is_some()) else { return Some(Change::Created) };
        let known = version.is_some_and(|version| mark.teller(&short(version)).is_some());
        (!known && version.is_some()).then_some(Change::Updated)
    }

    /// Whether the record is there as far as was told, and nothing was told of it since `since`.
    pub(super) fn is_there_since_before(&self, since: u64) -> bool {
        self.created.is_some() && self.at < since
    }

    /// The event that told its creation, if it is there.
    pub(super) fn there(&self) -> Option<u64> {
        self.created
    }

    /// The event that told its end; 0: none did.
    pub(super) fn ended(&self) -> u64 {
        self.gone.unwrap_or(BEFORE)
    }

    /// Whether an event carried this version already.
    pub(super) fn knows(&self, version: &str) -> bool {
        self.teller(&short(version)).is_some()
    }
}

fn place(row: &str, key: &str) -> String {
    let digest: String = canonical::sha256_hex(key.as_bytes()).chars().take(32).collect();
    format!("{row}/{digest}")
}

impl Runtime {
    pub(super) async fn mark(&self, tenant: &TenantId, row: &str, key: &str) -> Result<Option<Mark>> {
        let found = self.0.store.get(Namespace::new(tenant, NAMESPACE), &place(row, key)).await?;
        found.map(|entry| serde_json::from_slice(&entry.value).map_err(unreadable)).transpose()
    }

    /// Decides about an event under the store's own condition, so that two hubs never both tell a change.
    pub(super) async fn claim_change(&self, tenant: &TenantId, row: &str, key: &str, told: Told<'_>) -> Result<Verdict> {
        let namespace = Namespace::new(tenant, NAMESPACE);
        let place = place(row, key);
        for _ in 0..TRIES {
            let entry = self.0.store.get(namespace, &place).await?;
            let before: Mark = match &entry {
                Some(entry) => serde_json::from_slice(&entry.value).map_err(unreadable)?,
                None => Mark { key: key.to_owned(), ..Mark::default() },
            };
            let mut mark = before.clone();
            let verdict = mark.decide(told);
            if mark == before {
                return Ok(verdict);
            }
            let condition = entry.as_ref().map_or(Condition::Absent, |entry| Condition::Is(entry.version));
            if self.0.store.put(namespace, &place, encode(&mark)?, condition, None).await?.is_stored() {
                return Ok(verdict);
            }
        }
        Err(Error::new(ErrorKind::Transient, "a change is being told by several workers at once; it is tried again"))
    }

    /// Remembers what was there before the subscription. What was told meanwhile stays told.
    pub(super) async fn mark_before(&self, tenant: &TenantId, row: &str, key: &str, version: Option<&str>) -> Result<()> {
        let mark = encode(&Mark::before(key, version, self.wall_ms()))?;
        match self.0.store.put(Namespace::new(tenant, NAMESPACE), &place(row, key), mark, Condition::Absent, None).await? {
            PutOutcome::Stored(_) | PutOutcome::Refused(_) => Ok(()),
        }
    }

    /// All marks of a row, page by page.
    pub(super) async fn marks(&self, tenant: &TenantId, row: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Mark)>> {
        let found = self.0.store.scan(Namespace::new(tenant, NAMESPACE), &format!("{row}/"), after, limit).await?;
        found.into_iter().map(|(key, entry)| Ok((key, serde_json::from_slice(&entry.value).map_err(unreadable)?))).collect()
    }

    pub(super) async fn forget_mark(&self, tenant: &TenantId, place: &str) -> Result<()> {
        self.0.store.delete(Namespace::new(tenant, NAMESPACE), place, Condition::Any).await.map(drop)
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal("what was told of a record cannot be read").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: Change, version: &str, seq: u64, found: bool) -> Told<'_> {
        Told { change, version: (!version.is_empty()).then_some(version), seq, found, after: None, now: seq }
    }

    fn run(events: &[(Change, &str, u64, bool, Verdict)]) -> Mark {
        let mut mark = Mark::default();
        for (change, version, seq, found, verdict) in events {
            assert_eq!(mark.decide(told(*change, version, *seq, *found)), *verdict, "{change:?} {version} {seq}");
        }
        mark
    }

    use Change::{Created, Deleted, Updated};
    use Verdict::{Drop, Tell, TellAsUpdate};

    #[test]
    fn a_late_notification_of_what_a_reading_told_is_dropped() {
        run(&[(Created, "v2", 5, true, Tell), (Created, "v1", 6, false, Drop), (Updated, "v2", 7, false, Drop), (Updated, "v3", 8, false, Tell)]);
        run(&[(Created, "v1", 1, false, Tell), (Deleted, "", 5, true, Tell), (Deleted, "", 6, false, Drop)]);
    }

    #[test]
    fn an_event_that_is_handled_again_after_a_crash_is_told_again() {
        run(&[(Created, "v1", 1, false, Tell), (Created, "v1", 1, false, Tell), (Updated, "v2", 2, false, Tell), (Updated, "v2", 2, false, Tell)]);
        run(&[(Created, "v1", 1, false, Tell), (Deleted, "", 2, false, Tell), (Deleted, "", 2, false, Tell)]);
    }

    #[test]
    fn a_reading_that_raced_with_a_notification_tells_only_the_rest() {
        run(&[(Created, "v1", 1, false, Tell), (Created, "v1", 2, true, Drop)]);
        run(&[
            (Created, "v1", 1, false, Tell),
            (Created, "v2", 2, true, TellAsUpdate),
            (Created, "v2", 2, true, TellAsUpdate),
            (Updated, "v2", 3, false, Drop),
        ]);
    }

    #[test]
    fn a_creation_that_was_lost_is_told_although_a_change_was_told_before() {
        run(&[(Updated, "v2", 1, false, Tell), (Created, "v2", 2, true, Tell)]);
    }

    #[test]
    fn what_moves_out_and_in_again_is_told_each_time() {
        run(&[
            (Created, "v1", 1, false, Tell),
            (Deleted, "", 2, false, Tell),
            (Created, "v2", 3, false, Tell),
            (Deleted, "", 4, false, Tell),
            (Created, "v3", 5, false, Tell),
        ]);
    }

    #[test]
    fn the_same_end_over_two_subscriptions_is_told_once() {
        run(&[(Created, "v1", 1, false, Tell), (Deleted, "v1", 2, false, Tell), (Created, "v2", 3, false, Tell), (Deleted, "v1", 4, false, Drop)]);
    }

    #[test]
    fn a_creation_that_its_own_end_overtook_is_not_told_after_it() {
        run(&[(Deleted, "v1", 1, false, Tell), (Created, "v1", 2, false, Drop), (Updated, "v1", 3, false, Drop), (Created, "v2", 4, false, Tell)]);
    }

    #[test]
    fn what_came_back_before_anybody_told_that_it_left_is_left_to_the_reading() {
        let mark = run(&[(Created, "v1", 1, false, Tell), (Created, "v3", 2, false, Drop)]);
        assert_eq!(Mark::news(Some(&mark), Some("v3")), Some(Updated));
    }

    #[test]
    fn a_reading_that_is_behind_tells_nothing() {
        let mut mark = run(&[(Created, "v1", 1, false, Tell), (Deleted, "", 2, false, Tell), (Created, "v2", 3, false, Tell)]);
        assert_eq!(mark.decide(Told { after: Some(1), ..told(Deleted, "", 4, true) }), Drop, "it looked before the second creation");
        assert_eq!(mark.decide(Told { after: Some(3), ..told(Deleted, "", 5, true) }), Tell);
        assert_eq!(mark.decide(Told { after: Some(2), ..told(Created, "v2", 6, true) }), Drop, "it looked before the second end");
        assert_eq!(mark.decide(Told { after: Some(5), ..told(Created, "v3", 7, true) }), Tell);
    }

    #[test]
    fn a_late_end_of_what_came_back_is_dropped_and_a_second_end_is_not() {
        let mut mark = run(&[(Created, "v1", 1, false, Tell), (Deleted, "", 2, true, Tell), (Created, "v2", 3, false, Tell)]);
        let mut later = mark.clone();
        assert_eq!(mark.decide(told(Deleted, "", 4, false)), Drop);
        assert_eq!(mark.decide(told(Deleted, "", 5, false)), Tell);
        assert_eq!(later.decide(Told { now: LATE + 2, ..told(Deleted, "", 4, false) }), Tell, "that notification was lost for good");
    }

    #[test]
    fn a_reading_tells_only_what_is_news() {
        let mark = run(&[(Created, "v1", 1, false, Tell)]);
        assert_eq!(Mark::news(Some(&mark), Some("v1")), None);
        assert_eq!(Mark::news(Some(&mark), Some("v2")), Some(Updated));
        assert_eq!(Mark::news(None, Some("v1")), Some(Created));
        let before = Mark::before("k", Some("v1"), 1);
        assert_eq!(Mark::news(Some(&before), Some("v1")), None);
        let mut before = before;
        assert_eq!(before.decide(told(Updated, "v2", 9, false)), Tell);
        assert_eq!(before.decide(told(Created, "v1", 10, false)), Drop);
    }
}
