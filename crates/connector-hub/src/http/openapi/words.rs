//! One line of words per route: what it does, what its query may say, what goes in and what comes out.

/// What a route answers when it is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    /// 200 with this schema.
    Json(&'static str),
    /// 200 with an array of this schema.
    List(&'static str),
    /// 201 with this schema.
    Made(&'static str),
    /// 200 with text of this media type.
    Text(&'static str),
    /// 303 to another address.
    Redirect,
    /// 101 to another protocol.
    Upgrade,
}

/// The words about one route.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) says: &'static str,
    /// Names and meanings of what may stand in the query.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// The schema of the body.
    pub(super) body: Option<&'static str>,
    pub(super) reply: Reply,
}

const fn words(method: &'static str, path: &'static str, says: &'static str, reply: Reply) -> Words {
    Words { method, path, says, query: &[], body: None, reply }
}

impl Words {
    const fn asks(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }

    const fn takes(self, schema: &'static str) -> Self {
        Self { body: Some(schema), ..self }
    }
}

const ANY: Reply = Reply::Json("Anything");
const LISTING: &[(&str, &str)] = &[
    ("connector", "Only this connector's."),
    ("connection", "Only this connection's."),
    ("type", "Only this kind of event, or this tool's."),
    ("flag", "Only events with this oddity."),
    ("since", "Only what came since then: a date, a time, or a span such as 24h."),
    ("after", "Only what comes after this number; the `Link` header names the next page."),
    ("limit", "At most this many, up to 1000."),
];
const JOBS: &[(&str, &str)] = &[
    ("queue", "Only this queue's: events, outbox, …"),
    ("state", "pending, leased, done, dead (if nothing is said) or discarded."),
    ("connector", "Only this connector's."),
    ("connection", "Only this connection's."),
    ("type", "Only this kind of event, or this tool's."),
    ("flag", "Only events with this oddity."),
    ("since", "Only what came since then: a date, a time, or a span such as 24h."),
    ("after", "Only what comes after this number; the `Link` header names the next page."),
    ("limit", "At most this many, up to 1000."),
];
const PAYLOAD: &[(&str, &str)] = &[("payload", "1: with what is in it; needs the role operator.")];
const STREAM: &[(&str, &str)] = &[
    ("topic", "Topics to hear of, separated by commas or repeated; `*` stands for any word. All of them if nothing is said."),
    ("workspace", "Only this workspace's messages."),
    ("after", "Go on after this number; the header `Last-Event-ID` says the same and wins."),
];

/// The words about all routes.
pub(super) const WORDS: &[Words] = &[
    words("GET", "/", "The dashboard, for people.", Reply::Text("text/html")),
    words("GET", "/openapi.json", "This description.", ANY),
    words("GET", "/healthz", "The process lives.", Reply::Text("text/plain")),
    words("GET", "/readyz", "The process takes work; 503 if not.", Reply::Text("text/plain")),
    words("GET", "/metrics", "Metrics for Prometheus.", Reply::Text("text/plain")),
    words("GET", "/api/connectors", "The connectors.", Reply::List("Anything")),
    words("GET", "/api/connectors/health", "The health of every connection.", Reply::List("Anything")),
    words("GET", "/api/connectors/{id}", "A connector: authentication, operations, limits, events.", ANY),
    words("GET", "/api/v1/tools", "Every tool with the JSON schema of what it takes and gives.", Reply::List("Tool")),
    words("POST", "/api/v1/tools/{tool}/execute", "Carries out one operation.", Reply::Json("Executed")).takes("Execute"),
    words("GET", "/api/v1/connections", "The connections.", Reply::List("Anything")),
    words("DELETE", "/api/v1/connections/{id}", "Destroys a connection's tokens and keys.", ANY),
    words("POST", "/api/v1/connections/{id}/validate", "Makes one harmless call to prove that the connection works.", ANY),
    words("GET", "/api/v1/connections/{id}/scopes", "What a connection has too little or too much.", ANY).asks(&[("tools", "Only for these tools.")]),
    words("GET", "/api/v1/scopes", "The least scopes that tools need.", ANY).asks(&[("tools", "The tools, separated by commas.")]),
    words("POST", "/api/v1/connect/{connector}", "Makes a one-time link that connects an account in a browser.", Reply::Made("Anything"))
        .takes("Connect"),
    words("GET", "/oauth/start/{connector}", "Sends a browser to the vendor to sign in.", Reply::Redirect).asks(&[
        ("tools", "The tools it is for, separated by commas."),
        ("scopes", "More scopes, separated by commas."),
        ("next", "A path on this hub to go on to."),
    ]),
    words("GET", "/oauth/callback", "Where the vendor sends the browser back to.", Reply::Text("text/html")).asks(&[
        ("code", "The vendor's code."),
        ("error", "The vendor's error."),
        ("error_description", "The vendor's words about it."),
    ]),
    words("GET", "/api/v1/dlq", "Dead letters, oldest first.", Reply::List("Job")).asks(JOBS),
    words("POST", "/api/v1/dlq/retry", "Queues the dead letters that fit again, with their idempotency keys.", Reply::Json("Count")).takes("Which"),
    words("POST", "/api/v1/dlq/discard", "Marks the dead letters that fit as not to be done.", Reply::Json("Count")).takes("Which"),
    words("GET", "/api/v1/dlq/{id}", "A job: why it is here, and what it is about.", Reply::Json("Job")).asks(PAYLOAD),
    words("POST", "/api/v1/dlq/{id}/retry", "Queues a dead letter again, with its idempotency key.", ANY),
    words("POST", "/api/v1/dlq/{id}/discard", "Marks a dead letter as not to be done.", ANY),
    words("GET", "/api/v1/events", "Events that vendors told, oldest first.", Reply::List("Event")).asks(LISTING),
    words("POST", "/api/v1/events/replay", "Handles the events that fit once more; what was done is not done twice.", Reply::Json("Count"))
        .takes("Which"),
    words("GET", "/api/v1/events/{seq}", "An event.", Reply::Json("Event")).asks(PAYLOAD),
    words("POST", "/api/v1/events/{seq}/replay", "Handles an event once more; what was done is not done twice.", ANY),
    words(
        "GET",
        "/api/v1/stream",
        "Messages to subscribers, as server-sent events: `id` is the number, `event` the topic, `data` a Message.",
        Reply::Text("text/event-stream"),
    )
    .asks(STREAM),
    words("GET", "/api/v1/ws", "The same messages over a WebSocket, one JSON text frame each.", Reply::Upgrade).asks(STREAM),
    words("GET", "/api/v1/credentials", "The credentials, without their secrets.", Reply::List("Anything")),
    words("POST", "/api/v1/credentials", "Keeps a credential. Its secrets go in and never come out.", Reply::Made("Anything")).takes("Credential"),
    words("GET", "/api/v1/credentials/{name}", "A credential, without its secrets.", ANY),
    words("DELETE", "/api/v1/credentials/{name}", "Revokes a credential.", ANY),
    words("POST", "/api/v1/credentials/{name}/grant", "Says which workspaces may use a credential.", ANY).takes("Grant"),
    words("POST", "/api/v1/credentials/{name}/rotate", "Replaces the secrets of a credential.", ANY).takes("Rotate"),
    words("POST", "/api/v1/credentials/{name}/validate", "Makes one harmless call over each connection that uses it.", ANY),
    words("GET", "/api/v1/subscriptions", "Vendors' subscriptions and how they stand.", Reply::List("Anything")),
    words("POST", "/api/v1/subscriptions", "Keeps one more alive.", ANY).takes("Anything"),
    words("GET", "/api/v1/subscriptions/{id}", "A subscription.", ANY),
    words("DELETE", "/api/v1/subscriptions/{id}", "Takes one down that was added here.", ANY),
    words("POST", "/api/v1/subscriptions/{id}/sync", "Looks at it now, whatever its waits say.", ANY),
    words("GET", "/api/v1/approvals", "Writes that wait for somebody else's yes.", Reply::List("Anything")),
    words("GET", "/api/v1/approvals/{id}", "An approval.", ANY),
    words("POST", "/api/v1/approvals/{id}/approve", "Lets the exact write through, once.", ANY),
    words("POST", "/api/v1/approvals/{id}/deny", "Refuses the write.", ANY),
    words("GET", "/api/v1/audit", "The newest records of who did what, oldest of them first.", Reply::List("Anything"))
        .asks(&[("operation", "Only this operation's."), ("limit", "At most this many, up to 1000.")]),
    words("GET", "/api/v1/audit/verify", "Whether the record still is what was written.", ANY),
    words("GET", "/api/v1/keys", "The API keys; never the keys themselves.", Reply::List("Anything")),
    words("POST", "/api/v1/keys", "Makes an API key. It is shown in this reply and never again.", Reply::Made("Anything")).takes("KeyOrder"),
    words("DELETE", "/api/v1/keys/{id}", "Makes an API key worthless at once.", ANY),
    words(
        "POST",
        "/api/v1/webhooks/{*target}",
        "Takes a vendor's delivery: 2xx once it is durable. GET answers a vendor's handshake.",
        Reply::Text("text/plain"),
    ),
];
