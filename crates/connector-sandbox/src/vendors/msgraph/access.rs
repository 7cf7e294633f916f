//! Who may do what: the application permissions the app was given, and the tokens of people who signed in. An app has everything it needs unless
//! a test takes something away; what takes a person, an app never has. <https://learn.microsoft.com/graph/permissions-reference>

use super::MsGraph;
use super::wire::error;
use crate::exchange::{Reply, Req};
use crate::ledger::lock;
use std::collections::{BTreeSet, HashMap};

/// What was given to whom.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// The app's permissions; absent: all.
    roles: Option<BTreeSet<String>>,
    /// Delegated permissions by access token.
    people: HashMap<String, BTreeSet<String>>,
    /// How many requests to files are still to be throttled, and the wait.
    throttled: (u32, u64),
}

impl MsGraph {
    /// Leaves the app these application permissions and no others.
    pub fn set_roles(&self, roles: &[&str]) {
        lock(&self.access).roles = Some(roles.iter().map(|role| (*role).to_owned()).collect());
    }

    /// An access token of a person who signed in and agreed to these delegated permissions.
    pub fn delegated_token(&self, scopes: &[&str]) -> String {
        let token = self.tokens.issue();
        self.signed_in(&token, &scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>());
        token
    }

    /// Throttles the next requests to files and lists, as SharePoint does when its budget is spent.
    pub fn throttle_files(&self, times: u32, retry_after: u64) {
        lock(&self.access).throttled = (times, retry_after);
    }

    pub(super) fn signed_in(&self, token: &str, scopes: &[String]) {
        lock(&self.access).people.insert(token.to_owned(), scopes.iter().cloned().collect());
    }

    /// Whether the request is a signed-in person's.
    pub(super) fn is_person(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| lock(&self.access).people.contains_key(token))
    }

    /// Refuses a caller who has none of these permissions. `code` is the service's own name for that.
    pub(super) fn permitted(&self, req: &Req, needed: &[&str], code: &str) -> Result<(), Reply> {
        let access = lock(&self.access);
        // A delegated permission may be a shorter name, or one that includes the other.
        let has = |given: &BTreeSet<String>, needed: &str| {
            let plain = needed.trim_end_matches(".All");
            let wider = plain.replace(".ReadBasic", ".Read").replace(".Read", ".ReadWrite").replace("ReadWriteWrite", "ReadWrite");
            given.iter().any(|one| {
                let one = one.trim_end_matches(".All").trim_end_matches(".Shared");
                one == plain || one == wider
            })
        };
        let allowed = match req.bearer().and_then(|token| access.people.get(token)) {
            Some(scopes) => needed.iter().any(|needed| has(scopes, needed)),
            None => access.roles.as_ref().is_none_or(|roles| needed.iter().any(|needed| roles.contains(*needed))),
        };
        if allowed { Ok(()) } else { Err(refused(code, needed)) }
    }

    /// Refuses everybody but a person with this permission.
    pub(super) fn person(&self, req: &Req, permission: &str, code: &str) -> Result<(), Reply> {
        let access = lock(&self.access);
        let scopes = req.bearer().and_then(|token| access.people.get(token));
        if scopes.is_some_and(|scopes| scopes.contains(permission)) { Ok(()) } else { Err(refused(code, &[permission])) }
    }

    /// SharePoint's budget. <https://learn.microsoft.com/sharepoint/dev/general-development/how-to-avoid-getting-throttled-or-blocked-in-sharepoint-online>
    pub(super) fn unthrottled(&self) -> Result<(), Reply> {
        let mut access = lock(&self.access);
        let (left, wait) = access.throttled;
        if left == 0 {
            return Ok(());
        }
        access.throttled.0 -= 1;
        let wait = wait.to_string();
        let reply = error(429, "activityLimitReached", "The app or user has been throttled.");
        Err(reply.with("retry-after", &wait).with("ratelimit-limit", "1200").with("ratelimit-remaining", "0").with("ratelimit-reset", &wait))
    }
}

/// The three services say it in their own words.
fn refused(code: &str, needed: &[&str]) -> Reply {
    let message = match code {
        "ErrorAccessDenied" => "Access is denied. Check credentials and try again.".to_owned(),
        "accessDenied" => "Access denied".to_owned(),
        _ => format!("Missing role permissions on the request. API requires one of '{}'.", needed.join(", ")),
    };
    error(403, code, &message)
}
