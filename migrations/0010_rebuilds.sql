-- Rebuilds on their way: how much of the log has gone into the table beside the live one. It moves in one transaction
-- with that table, so a build that broke off goes on where it was, if the same program goes on with it.
CREATE TABLE read.rebuilds
(
    name     text PRIMARY KEY,
    build    text        NOT NULL,
    xid      xid8        NOT NULL DEFAULT '0',
    position bigint      NOT NULL DEFAULT 0,
    events   bigint      NOT NULL DEFAULT 0,
    begun_at timestamptz NOT NULL DEFAULT now()
);
