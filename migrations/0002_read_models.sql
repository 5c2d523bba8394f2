-- Read models. Everything in this schema can be thrown away and built again from the log.

CREATE TABLE read.checkpoints
(
    name     text PRIMARY KEY,
    xid      xid8   NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0,
    -- How often it has been built anew; part of what makes a batch of facts unique in ClickHouse.
    epoch    bigint NOT NULL DEFAULT 0
);
INSERT INTO read.checkpoints (name) VALUES ('session_list_v1'), ('message_thread_v1'), ('usage_v1');

CREATE TABLE read.sessions
(
    id         uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL,
    updated_at timestamptz NOT NULL,
    archived   boolean     NOT NULL,
    data       jsonb       NOT NULL
);
CREATE INDEX sessions_by_owner ON read.sessions (owner_id, archived, updated_at DESC, id DESC);

CREATE TABLE read.messages
(
    id         uuid PRIMARY KEY,
    owner_id   uuid   NOT NULL,
    session_id uuid   NOT NULL,
    data       jsonb  NOT NULL
);
CREATE INDEX messages_by_session ON read.messages (session_id, id);

-- Boundaries of the batches of facts, stored before ClickHouse sees them: a retry sends the very same rows under the
-- very same token, and ClickHouse drops what it has.
CREATE TABLE read.usage_batches
(
    epoch         bigint NOT NULL,
    from_xid      xid8   NOT NULL,
    from_position bigint NOT NULL,
    to_xid        xid8   NOT NULL,
    to_position   bigint NOT NULL,
    PRIMARY KEY (epoch, from_xid, from_position)
);

-- Events that a projection could not apply, with the reason.
CREATE TABLE read.parked_events
(
    projection text        NOT NULL,
    xid        xid8        NOT NULL,
    position   bigint      NOT NULL,
    event_id   uuid        NOT NULL,
    error      text        NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, position)
);
