-- What the tree of messages needs to know of each of them, and the steps that follow an answer.

ALTER TABLE read.messages
    -- Of an answer: 0 ended with nothing, 1 a comment in a discussion, 2 one to go on from; null for a prompt.
    ADD COLUMN standing smallint,
    -- Deleted by a person; what hangs under it is not shown either.
    ADD COLUMN is_deleted boolean NOT NULL DEFAULT false,
    -- A prompt of a turn that is no conversation, for example one that finds a title.
    ADD COLUMN is_hidden boolean NOT NULL DEFAULT false,
    -- Place of the newest event by which a person chose it for the active branch.
    ADD COLUMN chosen_xid xid8,
    ADD COLUMN chosen_position bigint,
    DROP COLUMN is_usable;
CREATE INDEX messages_gone ON read.messages (session_id) WHERE is_deleted OR is_hidden;

-- The messages are made anew from the log, so that the new columns are filled.
TRUNCATE read.messages;
UPDATE read.checkpoints SET xid = '0', position = 0, epoch = epoch + 1
WHERE name = 'message_thread_v1' AND position > 0;

-- Turns after whose answers something is to follow: the next round of a discussion, a title. A row is made with the
-- turn and goes with the last step; whoever finds one whose answers have all ended takes the next step.
CREATE TABLE ops.follow_ups
(
    turn_id    uuid PRIMARY KEY,
    session_id uuid        NOT NULL,
    owner_id   uuid        NOT NULL,
    -- When somebody last looked.
    looked_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX follow_ups_by_session ON ops.follow_ups (session_id);
