-- The event log on the table contract of postgres-es, with a global commit order.
--
-- The stock columns keep their names and types, so that the stock reader works on this table. Ours beside them:
-- position and xid give commit order, root_id names the data key that seals the personal fields, owner_id the account.

CREATE SCHEMA ops;
CREATE SCHEMA read;

CREATE SEQUENCE event_position AS bigint CACHE 1;

CREATE TABLE events
(
    aggregate_type text COLLATE "C"                   NOT NULL,
    aggregate_id   text COLLATE "C"                   NOT NULL,
    sequence       bigint CHECK (sequence >= 0)       NOT NULL,
    event_type     text                               NOT NULL,
    event_version  text                               NOT NULL,
    payload        json                               NOT NULL,
    metadata       json                               NOT NULL,
    position       bigint      DEFAULT nextval('event_position') NOT NULL,
    xid            xid8        DEFAULT pg_current_xact_id()      NOT NULL,
    event_id       uuid                               NOT NULL,
    root_id        uuid                               NOT NULL,
    owner_id       uuid                               NOT NULL,
    recorded_at    timestamptz DEFAULT now()          NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
) PARTITION BY RANGE (aggregate_id);

CREATE INDEX events_commit_order ON events (xid, position);
CREATE INDEX events_by_root ON events (root_id, xid, position);
CREATE INDEX events_by_owner ON events (owner_id, xid, position);

-- Append only, also for the table's owner: a mistake in a query must not rewrite history.
CREATE FUNCTION ops.refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    RAISE EXCEPTION 'the event log is append only' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();

-- UUIDv7 begins with 48 bits of Unix milliseconds, so a month of ids is a range of their text.
CREATE FUNCTION ops.uuid7_bound(moment timestamptz) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS
$$
SELECT regexp_replace(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0'), '^(.{8})(.{4})$', '\1-\2')
$$;

CREATE TABLE events_default PARTITION OF events DEFAULT;

-- Makes the partitions of the current month and of `ahead` months after it; run daily by the relay's leader.
-- A month whose ids already lie in the default partition (clock far ahead) is left there: correct, only slower.
CREATE FUNCTION ops.ensure_event_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql AS
$$
DECLARE
    first date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    month date;
    name  text;
    made  integer := 0;
BEGIN
    FOR i IN 0..ahead LOOP
        month := first + make_interval(months => i);
        name := 'events_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
        CONTINUE WHEN EXISTS (SELECT FROM events_default
                              WHERE aggregate_id >= ops.uuid7_bound(month::timestamp AT TIME ZONE 'UTC')
                                AND aggregate_id < ops.uuid7_bound((month + interval '1 month') AT TIME ZONE 'UTC'));
        EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)', name,
                       ops.uuid7_bound(month::timestamp AT TIME ZONE 'UTC'),
                       ops.uuid7_bound((month + interval '1 month') AT TIME ZONE 'UTC'));
        EXECUTE format('CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change()', name);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON events_default
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();
SELECT ops.ensure_event_partitions(2);

REVOKE UPDATE, DELETE, TRUNCATE ON events FROM PUBLIC;

-- Data keys, one for each root (session or account), wrapped by a version of the key ring. Destroying the row
-- erases the root's personal data: the log itself stays whole.
CREATE TABLE ops.data_keys
(
    root_id      uuid PRIMARY KEY,
    owner_id     uuid        NOT NULL,
    kek_version  integer     NOT NULL,
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
CREATE INDEX data_keys_by_owner ON ops.data_keys (owner_id);

-- The first answer to each idempotent command, sealed with the account's data key.
CREATE TABLE ops.idempotency
(
    scope        uuid        NOT NULL,
    key          text        NOT NULL,
    request_hash bytea       NOT NULL,
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_by_age ON ops.idempotency (created_at);

-- Secrets and lookups of the write side that don't belong in a log that is kept for ever.
CREATE TABLE ops.credentials
(
    account_id    uuid PRIMARY KEY,
    email_index   bytea       NOT NULL UNIQUE,
    password_hash text        NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ops.devices
(
    device_id     uuid PRIMARY KEY,
    account_id    uuid        NOT NULL,
    token_hash    bytea       NOT NULL UNIQUE,
    generation    bigint      NOT NULL DEFAULT 1,
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    last_seen_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX devices_by_account ON ops.devices (account_id);
CREATE INDEX devices_ended ON ops.devices (ended_at) WHERE ended_at IS NOT NULL;

-- Refresh tokens that have been used, so that a second use is noticed.
CREATE TABLE ops.used_refresh_tokens
(
    token_hash bytea PRIMARY KEY,
    device_id  uuid        NOT NULL REFERENCES ops.devices ON DELETE CASCADE,
    used_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ops.access_tokens
(
    token_id   uuid PRIMARY KEY,
    account_id uuid        NOT NULL,
    token_hash bytea       NOT NULL UNIQUE,
    name       bytea       NOT NULL,
    scopes     text[]      NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX access_tokens_by_account ON ops.access_tokens (account_id);

CREATE TABLE ops.api_keys
(
    key_id         uuid PRIMARY KEY,
    account_id     uuid        NOT NULL,
    provider       text        NOT NULL,
    base_url       text,
    name           bytea       NOT NULL,
    key_hint       bytea       NOT NULL,
    sealed_key     bytea       NOT NULL,
    priority       integer     NOT NULL,
    is_valid       boolean     NOT NULL DEFAULT true,
    version        integer     NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    last_validated timestamptz,
    last_used_at   timestamptz
);
CREATE INDEX api_keys_by_account ON ops.api_keys (account_id, provider, priority, key_id);

-- Answers in flight: the lease that fences their attempts. A row is made with the request and goes with the end.
CREATE TABLE ops.runs
(
    answer_id    uuid PRIMARY KEY,
    turn_id      uuid        NOT NULL,
    session_id   uuid        NOT NULL,
    owner_id     uuid        NOT NULL,
    turn_version bigint      NOT NULL,
    attempt      integer     NOT NULL DEFAULT 0,
    worker       text,
    lease_until  timestamptz,
    handed_over  boolean     NOT NULL DEFAULT false,
    -- Beside the event and the message to the worker: a worker that missed the message sees it with its heartbeat.
    stop_requested boolean   NOT NULL DEFAULT false,
    issues       integer     NOT NULL DEFAULT 1,
    issued_at    timestamptz NOT NULL DEFAULT now(),
    requested_at timestamptz NOT NULL DEFAULT now(),
    -- Refuses a second prompt under an answer that is still in the making; null where branching was asked for.
    guard        text UNIQUE
) WITH (fillfactor = 70);
CREATE INDEX runs_by_owner ON ops.runs (owner_id);
CREATE INDEX runs_by_session ON ops.runs (session_id);

-- Where the relay stands; `epoch` fences a leader that has been replaced.
CREATE TABLE ops.relay
(
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch    bigint NOT NULL DEFAULT 0,
    xid      xid8   NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0
);
INSERT INTO ops.relay DEFAULT VALUES;

-- Where each answer is: message ids arrive alone in requests. Never changed, never deleted.
CREATE TABLE ops.answers
(
    answer_id  uuid PRIMARY KEY,
    turn_id    uuid NOT NULL,
    session_id uuid NOT NULL,
    owner_id   uuid NOT NULL
);
