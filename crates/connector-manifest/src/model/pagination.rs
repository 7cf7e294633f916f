//! How a listing goes on from one page to the next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way of paging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pagination {
    /// The kind.
    pub kind: PaginationKind,
    /// Where a page lists its items; `.results` if not said, `.` for a bare array.
    #[serde(default = "results")]
    pub items: String,
    /// `cursor`: where the reply has the next cursor. `next_url`: where it has the next address. Absent or null there means the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The request parameter that takes cursor, offset, page number or last key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Whether that parameter is in the query or in the body.
    #[serde(default, rename = "in", skip_serializing_if = "super::is_default")]
    pub place: CursorPlace,
    /// The request parameter that takes the page size; a caller's argument of the same name wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_param: Option<String>,
    /// The page size to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The greatest page size the vendor accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// The number of the first page or offset: `offset` 0 and `page` 1 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// Where the reply tells how many items there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// `keyset`: where an item has the key that the next page starts after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Offsets at or above this are refused by the vendor; the listing ends with an error that says to narrow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<u64>,
}

/// The kinds of paging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaginationKind {
    /// The reply has a cursor that goes into the next request.
    Cursor,
    /// The reply has the whole next address; only the connection's own host is followed.
    NextUrl,
    /// The `Link` header has the next address (RFC 8288).
    LinkHeader,
    /// The request names how many items to skip.
    Offset,
    /// The request names a page number.
    Page,
    /// The request names the last key of the page before.
    Keyset,
}

/// Where a paging parameter goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CursorPlace {
    /// In the query.
    #[default]
    Query,
    /// In the body, at the top level.
    Body,
}

fn results() -> String {
    ".results".into()
}
