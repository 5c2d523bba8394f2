-- The read models in a shape that takes every text. They are made anew from the log, so what was there goes.

DROP TABLE read.sessions, read.messages, read.usage_batches;
-- What has projected something begins a new build; an empty database stays at its first.
UPDATE read.checkpoints SET xid = '0', position = 0, epoch = epoch + 1 WHERE position > 0;

-- A row's `data` is `json`, not `jsonb`: it keeps every text as it is, also with U+0000, which a model may well say
-- and `jsonb` refuses. What is searched or sorted by has a column of its own.
CREATE TABLE read.sessions
(
    id         uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL,
    updated_at timestamptz NOT NULL,
    archived   boolean     NOT NULL,
    data       json        NOT NULL
);
CREATE INDEX sessions_by_owner ON read.sessions (owner_id, archived, updated_at DESC, id DESC);

CREATE TABLE read.messages
(
    id             uuid PRIMARY KEY,
    owner_id       uuid    NOT NULL,
    session_id     uuid    NOT NULL,
    parent_id      uuid,
    is_answer      boolean NOT NULL,
    -- An answer that has ended with something to go on from.
    is_usable      boolean NOT NULL,
    -- Place of the message's first event: the order of a session's messages.
    first_xid      xid8    NOT NULL,
    first_position bigint  NOT NULL,
    data           json    NOT NULL
);
CREATE INDEX messages_by_session ON read.messages (session_id);

-- Boundaries of the batches of facts that are on their way to ClickHouse, stored before it sees them: a retry sends
-- the very same rows under the very same token, and ClickHouse drops what it has.
CREATE TABLE read.usage_batches
(
    epoch         bigint NOT NULL,
    from_xid      xid8   NOT NULL,
    from_position bigint NOT NULL,
    to_xid        xid8   NOT NULL,
    to_position   bigint NOT NULL,
    prepared_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, from_xid, from_position)
);
