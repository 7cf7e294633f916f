-- Tables. Text is compared by its bytes, so that key order and index order do not hang on the server's locale.
-- Keys that come from outside and may be long are indexed by their digest: an index row of PostgreSQL holds at most 2.7 KB.

-- Key-value pairs. A version is drawn while the key is locked (see `kv_put`), so it grows across delete and re-create without tombstones.
CREATE TABLE kv (
    tenant     text COLLATE "C" NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      bytea NOT NULL,
    version    bigint NOT NULL,
    expires_at bigint,
    PRIMARY KEY (tenant, namespace, key)
);
CREATE INDEX kv_expiry ON kv (expires_at) WHERE expires_at IS NOT NULL;
CREATE SEQUENCE kv_version;

-- Events: the unique index over `dedupe`, SHA-256 of (tenant, connection, event id), is the dedupe.
CREATE SEQUENCE events_seq;
CREATE TABLE events (
    seq          bigint PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    workspace    text COLLATE "C" NOT NULL,
    connector    text COLLATE "C" NOT NULL,
    connection   text COLLATE "C" NOT NULL,
    event_id     text COLLATE "C" NOT NULL,
    event_type   text COLLATE "C" NOT NULL,
    order_key    text COLLATE "C",
    flags        text NOT NULL,
    payload      bytea NOT NULL,
    payload_hash bytea NOT NULL,
    received_at  bigint NOT NULL,
    duplicates   bigint NOT NULL DEFAULT 0,
    dedupe       bytea NOT NULL
);
CREATE UNIQUE INDEX events_dedupe ON events (dedupe);
CREATE INDEX events_by_tenant ON events (tenant, seq);
CREATE INDEX events_by_age ON events (received_at);

-- Jobs. state: 0 pending, 1 leased, 2 done, 3 dead, 4 discarded.
-- due_at: when it may be taken; its time while pending, the end of its lease while leased; always by this server's clock.
-- lane: a hash of (tenant, queue, order key). Two lanes that share a hash wait for each other, which is harmless.
CREATE SEQUENCE jobs_id;
CREATE TABLE jobs (
    id           bigint PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    workspace    text COLLATE "C" NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    key          text COLLATE "C",
    key_hash     bytea,
    order_key    text COLLATE "C",
    lane         bigint,
    payload      bytea NOT NULL,
    state        smallint NOT NULL,
    attempts     bigint NOT NULL DEFAULT 0,
    max_attempts bigint NOT NULL,
    not_before   bigint NOT NULL,
    created_at   bigint NOT NULL,
    due_at       bigint NOT NULL,
    fence        bigint NOT NULL DEFAULT 0,
    last_error   text,
    event_seq    bigint REFERENCES events (seq) ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX jobs_due ON jobs (queue, due_at, id) WHERE state IN (0, 1);
CREATE INDEX jobs_lane ON jobs (lane, id) WHERE lane IS NOT NULL AND state IN (0, 1);
CREATE INDEX jobs_lane_leased ON jobs (lane) WHERE lane IS NOT NULL AND state = 1;
CREATE UNIQUE INDEX jobs_key ON jobs (key_hash) WHERE key_hash IS NOT NULL AND state IN (0, 1, 3);
CREATE INDEX jobs_dead ON jobs (queue) WHERE state = 3;
CREATE INDEX jobs_dead_of_tenant ON jobs (tenant, id) WHERE state = 3;
CREATE INDEX jobs_by_tenant ON jobs (tenant, id);
CREATE INDEX jobs_by_event ON jobs (event_seq) WHERE event_seq IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (created_at) WHERE state IN (2, 4);

-- The audit trail: one hash chain per tenant. The head is kept apart so that cutting off the end shows; its row lock orders the writers.
CREATE TABLE audit (
    tenant     text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL,
    hash       text NOT NULL,
    record     text NOT NULL,
    operation  text COLLATE "C" NOT NULL,
    connection text COLLATE "C" NOT NULL,
    credential text COLLATE "C",
    PRIMARY KEY (tenant, seq)
);
CREATE TABLE audit_head (tenant text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, hash text NOT NULL);
