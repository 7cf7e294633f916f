-- Every unit of work is one function, called by one statement that commits by itself: it happens as a whole or not at all, whatever becomes
-- of the client, and a client that freezes never holds a transaction open. The functions need READ COMMITTED, which the client sets: each
-- statement inside must see what was committed before it.
-- A function whose arguments or meaning change gets a new name, because older programs go on calling the old one during a rolling upgrade.

-- Unix milliseconds by this server's clock; `at` replaces it in tests.
CREATE FUNCTION now_ms(at bigint) RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT coalesce(at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) $$;

-- The first half of an advisory lock's name: what it is for, in this schema.
CREATE FUNCTION lock_class(purpose text) RETURNS int LANGUAGE sql STABLE AS
$$ SELECT hashtext('connectors ' || purpose || ' ' || current_schema()) $$;

-- The lower 32 bits, as the second half of an advisory lock's name.
CREATE FUNCTION lock_word(number bigint) RETURNS int LANGUAGE sql IMMUTABLE AS
$$ SELECT ((number & 4294967295) - CASE WHEN number & 2147483648 = 0 THEN 0 ELSE 4294967296 END)::int $$;

CREATE FUNCTION lane_of(tenant text, queue text, order_key text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT hashtextextended(tenant || chr(1) || queue || chr(1) || order_key, 0) $$;

CREATE FUNCTION key_hash_of(tenant text, queue text, key text) RETURNS bytea LANGUAGE sql STABLE AS
$$ SELECT sha256(convert_to(length(tenant) || ' ' || length(queue) || ' ' || tenant || queue || key, 'UTF8')) $$;

-- A write of one key. The lock makes the versions of a key grow in the order of their commits, also where no row is there to be locked.
CREATE FUNCTION kv_put(p_at bigint, p_tenant text, p_namespace text, p_key text, p_value bytea, p_condition smallint, p_version bigint, p_ttl bigint,
                       OUT o_stored boolean, OUT o_value bytea, OUT o_version bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_class('kv'), hashtext(p_tenant || chr(1) || p_namespace || chr(1) || p_key));
    v_now := now_ms(p_at);
    IF p_condition <> 0 THEN
        SELECT kv.value, kv.version INTO o_value, o_version FROM kv
        WHERE kv.tenant = p_tenant AND kv.namespace = p_namespace AND kv.key = p_key AND (kv.expires_at IS NULL OR kv.expires_at > v_now);
        IF (p_condition = 1 AND FOUND) OR (p_condition = 2 AND (NOT FOUND OR o_version <> p_version)) THEN
            o_stored := false;
            RETURN;
        END IF;
    END IF;
    o_stored := true;
    o_value := NULL;
    o_version := nextval('kv_version');
    INSERT INTO kv (tenant, namespace, key, value, version, expires_at)
    VALUES (p_tenant, p_namespace, p_key, p_value, o_version, v_now + p_ttl)
    ON CONFLICT (tenant, namespace, key) DO UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at;
    -- Now and then, what has expired is removed; not so much at once that anybody waits for it.
    IF o_version % 256 = 0 THEN
        DELETE FROM kv WHERE ctid IN (SELECT old.ctid FROM kv AS old WHERE old.expires_at <= v_now LIMIT 1024 FOR UPDATE SKIP LOCKED);
    END IF;
END $$;

CREATE FUNCTION kv_delete(p_at bigint, p_tenant text, p_namespace text, p_key text, p_condition smallint, p_version bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_class('kv'), hashtext(p_tenant || chr(1) || p_namespace || chr(1) || p_key));
    v_now := now_ms(p_at);
    DELETE FROM kv
    WHERE tenant = p_tenant AND namespace = p_namespace AND key = p_key AND (expires_at IS NULL OR expires_at > v_now)
      AND (p_condition = 0 OR (p_condition = 2 AND version = p_version));
    RETURN FOUND;
END $$;

-- A group of events: the events, their dedupe keys and one job each.
--
-- Whoever draws sequence numbers first takes a shared lock named after the last number drawn before: `events_horizon` sees these locks and
-- holds readers back below numbers that are drawn but not committed yet.
-- All groups insert in the order of their dedupe keys and then lock repeated events in the same order, so that two groups cannot wait for
-- each other.
CREATE FUNCTION append_events(p_at bigint, p_queue text, p_max_attempts bigint, p_tenant text[], p_workspace text[], p_connector text[],
                              p_event_id text[], p_event_type text[], p_order_key text[], p_flags text[], p_payload bytea[], p_hash bytea[],
                              p_received_at bigint[], p_dedupe bytea[], p_subject text[], p_lane_key text[], p_connection text[])
RETURNS TABLE (o_ord bigint, o_kind smallint, o_seq bigint, o_job bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_now      bigint := now_ms(p_at);
    v_count    bigint := cardinality(p_tenant);
    v_seq      bigint[];
    v_job      bigint[];
    v_kept     bigint[];
    v_whole    boolean;
    v_matched  bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lock_class('events'), lock_word(last_value - CASE WHEN is_called THEN 0 ELSE 1 END)) FROM events_seq;
    SELECT array_agg(nextval('events_seq')), array_agg(nextval('jobs_id')) INTO v_seq, v_job FROM generate_series(1, v_count);

    WITH kept AS (
        INSERT INTO events (seq, tenant, workspace, connector, connection, event_id, event_type, order_key, flags, payload, payload_hash, received_at,
                            dedupe)
        SELECT i.seq, i.tenant, i.workspace, i.connector, i.connection, i.event_id, i.event_type, i.order_key, i.flags, i.payload, i.hash, i.received_at, i.dedupe
        FROM unnest(v_seq, p_tenant, p_workspace, p_connector, p_event_id, p_event_type, p_order_key, p_flags, p_payload, p_hash, p_received_at,
                    p_dedupe, p_connection)
             AS i (seq, tenant, workspace, connector, event_id, event_type, order_key, flags, payload, hash, received_at, dedupe, connection)
        ORDER BY i.dedupe, i.seq
        ON CONFLICT (dedupe) DO NOTHING
        RETURNING seq)
    SELECT coalesce(array_agg(kept.seq), '{}') INTO v_kept FROM kept;
    v_whole := cardinality(v_kept) = v_count;

    INSERT INTO jobs (id, tenant, workspace, queue, subject, key, key_hash, order_key, lane, payload, state, max_attempts, not_before, created_at,
                      due_at, event_seq)
    SELECT i.job, i.tenant, i.workspace, p_queue, i.subject, 'event:' || i.seq, key_hash_of(i.tenant, p_queue, 'event:' || i.seq), i.lane_key,
           lane_of(i.tenant, p_queue, i.lane_key), convert_to(i.seq::text, 'UTF8'), 0, p_max_attempts, 0, v_now, v_now, i.seq
    FROM unnest(v_seq, v_job, p_tenant, p_workspace, p_subject, p_lane_key) AS i (seq, job, tenant, workspace, subject, lane_key)
    WHERE v_whole OR i.seq = ANY (v_kept);

    IF v_whole THEN
        RETURN QUERY SELECT i.ord, 0::smallint, i.seq, i.job FROM unnest(v_seq, v_job) WITH ORDINALITY AS i (seq, job, ord);
        RETURN;
    END IF;

    PERFORM 1 FROM events AS e WHERE e.dedupe = ANY (p_dedupe) AND e.seq <> ALL (v_seq) ORDER BY e.dedupe FOR NO KEY UPDATE;
    UPDATE events AS e SET duplicates = e.duplicates + again.times
    FROM (SELECT i.dedupe, i.hash, count(*) AS times
          FROM unnest(v_seq, p_dedupe, p_hash) AS i (seq, dedupe, hash)
          WHERE i.seq <> ALL (v_kept)
          GROUP BY i.dedupe, i.hash) AS again
    WHERE e.dedupe = again.dedupe AND e.payload_hash = again.hash;

    RETURN QUERY
    SELECT i.ord,
           (CASE WHEN e.seq = i.seq THEN 0 WHEN e.payload_hash = i.hash THEN 1 ELSE 2 END)::smallint,
           e.seq,
           CASE WHEN e.seq = i.seq THEN i.job END
    FROM unnest(v_seq, v_job, p_dedupe, p_hash) WITH ORDINALITY AS i (seq, job, dedupe, hash, ord) JOIN events AS e ON e.dedupe = i.dedupe;
    GET DIAGNOSTICS v_matched = ROW_COUNT;
    IF v_matched <> v_count THEN
        -- An event that stood in the way was pruned between the statements; the whole group is tried again.
        RAISE EXCEPTION 'an event was pruned meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;

-- Up to here the log is complete: no number below this is still to be committed. Call it in a statement before the one that reads.
CREATE FUNCTION events_horizon() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_last  bigint;
    v_class bigint := lock_class('events');
    v_open  bigint;
BEGIN
    -- The number first: whoever draws a smaller one had its lock before this, and is seen below unless it has ended.
    SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END INTO v_last FROM events_seq;
    -- The lock holds the lower 32 bits; a difference of more than half of that belongs to somebody who came later.
    SELECT max(back) INTO v_open FROM (
        SELECT (((v_last - l.objid::bigint) % 4294967296) + 4294967296) % 4294967296 AS back
        FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid::bigint = (v_class & 4294967295)
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS running WHERE back < 2147483648;
    RETURN v_last - coalesce(v_open, 0);
END $$;

-- A job, unless an open or dead one holds its key. `p_delay` counts from now by this server's clock.
CREATE FUNCTION add_job(p_at bigint, p_tenant text, p_workspace text, p_queue text, p_subject text, p_key text, p_order_key text, p_payload bytea,
                        p_state smallint, p_max_attempts bigint, p_not_before bigint, p_delay bigint, p_error text, p_event_seq bigint,
                        OUT o_id bigint, OUT o_new boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_now  bigint := now_ms(p_at);
    v_hash bytea := key_hash_of(p_tenant, p_queue, p_key);
BEGIN
    LOOP
        SELECT id INTO o_id FROM jobs WHERE key_hash = v_hash AND state IN (0, 1, 3);
        IF FOUND THEN
            o_new := false;
            RETURN;
        END IF;
        INSERT INTO jobs (id, tenant, workspace, queue, subject, key, key_hash, order_key, lane, payload, state, max_attempts, not_before,
                          created_at, due_at, last_error, event_seq)
        VALUES (nextval('jobs_id'), p_tenant, p_workspace, p_queue, p_subject, p_key, v_hash, p_order_key, lane_of(p_tenant, p_queue, p_order_key),
                p_payload, p_state, p_max_attempts, p_not_before, v_now, v_now + p_delay, p_error, p_event_seq)
        ON CONFLICT (key_hash) WHERE key_hash IS NOT NULL AND state IN (0, 1, 3) DO NOTHING
        RETURNING id INTO o_id;
        IF FOUND THEN
            o_new := true;
            RETURN;
        END IF;
        -- Somebody took the key between the two statements: look again.
    END LOOP;
END $$;

-- Queues an event once more; NULL if there is no such event.
CREATE FUNCTION replay_event(p_at bigint, p_tenant text, p_seq bigint, p_queue text, p_max_attempts bigint, p_subject text, p_lane_key text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_workspace text;
    v_job       bigint;
BEGIN
    -- The lock keeps the event from being pruned before its job stands for it.
    SELECT workspace INTO v_workspace FROM events WHERE tenant = p_tenant AND seq = p_seq FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT o_id INTO v_job FROM add_job(p_at, p_tenant, v_workspace, p_queue, p_subject, 'event:' || p_seq, p_lane_key,
                                        convert_to(p_seq::text, 'UTF8'), 0::smallint, p_max_attempts, 0, 0, NULL, p_seq);
    UPDATE jobs SET state = 0, attempts = 0, not_before = 0, due_at = now_ms(p_at) WHERE id = v_job AND state = 3;
    RETURN v_job;
END $$;

-- Takes due jobs, oldest first. Those out of attempts become dead letters on the way.
--
-- Rows: `FOR UPDATE SKIP LOCKED`, so that workers do not wait for each other. Lanes: whoever claims from one holds its lock until the commit
-- and looks once more under it, because the first look may be older than another worker's claim of an earlier job that was revived or
-- committed late. A job waits while an earlier one of its lane is open or any other one is leased.
CREATE FUNCTION claim_jobs(p_at bigint, p_queue text, p_limit bigint, p_lease bigint, p_lost text)
RETURNS TABLE (o_id bigint, o_tenant text, o_workspace text, o_queue text, o_subject text, o_key text, o_order_key text, o_payload bytea,
               o_state smallint, o_attempts bigint, o_max_attempts bigint, o_not_before bigint, o_created_at bigint, o_last_error text, o_fence bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_now   bigint := now_ms(p_at);
    v_left  bigint := p_limit;
    v_taken bigint[];
    v_again boolean := true;
    v_lanes int := 0;
    v_job   record;
BEGIN
    WHILE v_again AND v_left > 0 LOOP
        v_again := false;
        v_taken := '{}';
        FOR v_job IN
            SELECT j.id, j.lane, j.attempts >= j.max_attempts AS spent FROM jobs AS j
            WHERE j.queue = p_queue AND j.due_at <= v_now AND j.state IN (0, 1)
              AND (j.lane IS NULL OR (
                  NOT EXISTS (SELECT 1 FROM jobs AS e WHERE e.lane = j.lane AND e.lane IS NOT NULL AND e.state IN (0, 1) AND e.id < j.id)
                  AND NOT EXISTS (SELECT 1 FROM jobs AS l
                                  WHERE l.lane = j.lane AND l.lane IS NOT NULL AND l.state = 1 AND l.due_at > v_now AND l.id <> j.id)))
            ORDER BY j.due_at, j.id LIMIT v_left
            FOR UPDATE SKIP LOCKED
        LOOP
            IF v_job.spent THEN
                RETURN QUERY
                UPDATE jobs AS j SET state = 3, last_error = p_lost WHERE j.id = v_job.id
                RETURNING j.id, j.tenant, j.workspace, j.queue, j.subject, j.key, j.order_key, j.payload, j.state, j.attempts, j.max_attempts,
                          j.not_before, j.created_at, j.last_error, j.fence;
                v_again := true;
                CONTINUE;
            END IF;
            IF v_job.lane IS NOT NULL THEN
                -- The server's table of locks is shared by everybody; the other lanes go to the next claim.
                CONTINUE WHEN v_lanes >= 64 OR NOT pg_try_advisory_xact_lock(lock_class('lane'), lock_word(v_job.lane));
                v_lanes := v_lanes + 1;
                CONTINUE WHEN EXISTS (SELECT 1 FROM jobs AS o
                                      WHERE o.lane = v_job.lane AND o.lane IS NOT NULL AND o.state IN (0, 1) AND o.id < v_job.id)
                    OR EXISTS (SELECT 1 FROM jobs AS o
                               WHERE o.lane = v_job.lane AND o.lane IS NOT NULL AND o.state = 1 AND o.due_at > v_now AND o.id <> v_job.id);
            END IF;
            v_taken := v_taken || v_job.id;
        END LOOP;
        v_left := v_left - cardinality(v_taken);
        RETURN QUERY
        WITH taken AS (
            UPDATE jobs AS j SET state = 1, attempts = j.attempts + 1, fence = j.fence + 1, due_at = v_now + p_lease
            FROM unnest(v_taken) WITH ORDINALITY AS t (id, ord) WHERE j.id = t.id
            RETURNING t.ord, j.*)
        SELECT j.id, j.tenant, j.workspace, j.queue, j.subject, j.key, j.order_key, j.payload, j.state, j.attempts, j.max_attempts, j.not_before,
               j.created_at, j.last_error, j.fence
        FROM taken AS j ORDER BY j.ord;
    END LOOP;
END $$;

-- Appends to the chains. The records of one call come in their order; tenants are locked in one order for everybody.
CREATE FUNCTION append_audit(p_tenant text[], p_record text[], p_operation text[], p_connection text[], p_credential text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_seq    bigint;
    v_hash   text;
    v_link   bytea;
    v_entry  record;
BEGIN
    FOR v_tenant IN SELECT DISTINCT t COLLATE "C" AS tenant FROM unnest(p_tenant) AS t ORDER BY tenant LOOP
        INSERT INTO audit_head (tenant, seq, hash) VALUES (v_tenant, 0, repeat('0', 64)) ON CONFLICT (tenant) DO NOTHING;
        SELECT seq, hash INTO v_seq, v_hash FROM audit_head WHERE tenant = v_tenant FOR UPDATE;
        -- A previous hash that is not hex was tampered with; hashing its text gives a value that cannot match.
        v_link := CASE WHEN v_hash ~ '^([0-9a-f]{2})*$' THEN decode(v_hash, 'hex') ELSE convert_to(v_hash, 'UTF8') END;
        FOR v_entry IN
            SELECT i.record, i.operation, i.connection, i.credential
            FROM unnest(p_tenant, p_record, p_operation, p_connection, p_credential)
                WITH ORDINALITY AS i (tenant, record, operation, connection, credential, ord)
            WHERE i.tenant = v_tenant ORDER BY i.ord
        LOOP
            v_seq := v_seq + 1;
            v_link := sha256(v_link || convert_to(v_entry.record, 'UTF8'));
            v_hash := encode(v_link, 'hex');
            INSERT INTO audit (tenant, seq, hash, record, operation, connection, credential)
            VALUES (v_tenant, v_seq, v_hash, v_entry.record, v_entry.operation, v_entry.connection, v_entry.credential);
        END LOOP;
        UPDATE audit_head SET seq = v_seq, hash = v_hash WHERE tenant = v_tenant;
    END LOOP;
END $$;

-- Forgets up to `p_limit` old events whose work is over, oldest first, with their jobs.
CREATE FUNCTION prune_some_events(p_before bigint, p_limit bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_old  bigint[];
    v_gone bigint;
BEGIN
    SELECT array_agg(seq) INTO v_old FROM (
        SELECT e.seq FROM events AS e
        WHERE e.received_at < p_before AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.event_seq = e.seq AND j.state IN (0, 1, 3))
        ORDER BY e.received_at LIMIT p_limit FOR UPDATE SKIP LOCKED) AS old;
    -- A second look now that nobody else can add a job to them: a replay may have queued one of them since the first.
    DELETE FROM events AS e
    WHERE e.seq = ANY (v_old) AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.event_seq = e.seq AND j.state IN (0, 1, 3));
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END $$;

CREATE FUNCTION prune_some_jobs(p_before bigint, p_limit bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_gone bigint;
BEGIN
    DELETE FROM jobs WHERE id IN (
        SELECT j.id FROM jobs AS j WHERE j.state IN (2, 4) AND j.created_at < p_before ORDER BY j.created_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END $$;
