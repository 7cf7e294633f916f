-- An event's id is unique per connection, no longer per connector. What is there already counts as having come over a connection called like
-- its connector. The table is made anew because a constraint of a table cannot be changed; the old way of renaming leaves the jobs' reference
-- where it points.
PRAGMA legacy_alter_table = ON;
ALTER TABLE events RENAME TO events_before;
PRAGMA legacy_alter_table = OFF;
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant       TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    connector    TEXT NOT NULL,
    connection   TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    event_type   TEXT NOT NULL,
    order_key    TEXT,
    flags        TEXT NOT NULL,
    payload      BLOB NOT NULL,
    payload_hash BLOB NOT NULL,
    received_at  INTEGER NOT NULL,
    duplicates   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, connection, event_id)
);
INSERT INTO events (seq, tenant, workspace, connector, connection, event_id, event_type, order_key, flags, payload, payload_hash, received_at, duplicates)
SELECT seq, tenant, workspace, connector, connector, event_id, event_type, order_key, flags, payload, payload_hash, received_at, duplicates
FROM events_before;
DROP TABLE events_before;
CREATE INDEX events_by_tenant ON events (tenant, seq);
CREATE INDEX events_by_age ON events (received_at);
