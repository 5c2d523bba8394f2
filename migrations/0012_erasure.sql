-- Sessions that were deleted and can still be restored; after their undo time the relay's leader erases them.
CREATE TABLE ops.deleted_sessions
(
    session_id uuid PRIMARY KEY,
    owner_id   uuid        NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX deleted_sessions_by_age ON ops.deleted_sessions (deleted_at);
CREATE INDEX deleted_sessions_by_owner ON ops.deleted_sessions (owner_id);

-- Deleted sessions stay in the list's table while they can be restored, but nobody is shown them.
ALTER TABLE read.sessions ADD COLUMN deleted boolean NOT NULL DEFAULT false;
