-- Key-value pairs. A version comes from one growing counter, so it grows across delete and re-create without tombstones.
CREATE TABLE kv (
    tenant     TEXT NOT NULL,
    namespace  TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      BLOB NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant, namespace, key)
);
CREATE INDEX kv_expiry ON kv (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('kv', 0);

-- Events: the unique index is the dedupe.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    connector    TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    event_type   TEXT NOT NULL,
    order_key    TEXT,
    flags        TEXT NOT NULL,
    payload      BLOB NOT NULL,
    payload_hash BLOB NOT NULL,
    received_at  INTEGER NOT NULL,
    duplicates   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, connector, event_id)
);
CREATE INDEX events_by_tenant ON events (tenant, seq);
CREATE INDEX events_by_age ON events (received_at);

-- Jobs. state: 0 pending, 1 leased, 2 done, 3 dead, 4 discarded.
-- due_at: when it may be taken; its time while pending, the end of its lease while leased.
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    queue        TEXT NOT NULL,
    subject      TEXT NOT NULL,
    key          TEXT,
    order_key    TEXT,
    payload      BLOB NOT NULL,
    state        INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    not_before   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    fence        INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT,
    event_seq    INTEGER REFERENCES events (seq) ON DELETE CASCADE
);
CREATE INDEX jobs_due ON jobs (queue, due_at, id) WHERE state IN (0, 1);
CREATE INDEX jobs_lane ON jobs (tenant, queue, order_key, id) WHERE order_key IS NOT NULL AND state IN (0, 1);
CREATE UNIQUE INDEX jobs_key ON jobs (tenant, queue, key) WHERE key IS NOT NULL AND state IN (0, 1, 3);
CREATE INDEX jobs_dead ON jobs (queue) WHERE state = 3;
CREATE INDEX jobs_dead_of_tenant ON jobs (tenant, id) WHERE state = 3;
CREATE INDEX jobs_by_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_event ON jobs (event_seq) WHERE event_seq IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (created_at) WHERE state IN (2, 4);

-- The audit trail: one hash chain per tenant. The head is kept apart so that cutting off the end shows.
CREATE TABLE audit (
    tenant     TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    hash       TEXT NOT NULL,
    record     TEXT NOT NULL,
    operation  TEXT GENERATED ALWAYS AS (json_extract(record, '$.operation')) VIRTUAL,
    connection TEXT GENERATED ALWAYS AS (json_extract(record, '$.connection')) VIRTUAL,
    PRIMARY KEY (tenant, seq)
) WITHOUT ROWID;
CREATE TABLE audit_head (tenant TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID;
