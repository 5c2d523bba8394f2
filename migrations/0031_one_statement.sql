-- What a command needs to be one statement (ADR 41).

-- Takes the statement back; the word says why. SQLSTATE class PY is nobody else's.
CREATE FUNCTION ops.refuse(why text) RETURNS integer LANGUAGE plpgsql AS
$$
BEGIN
    RAISE EXCEPTION '%', why USING ERRCODE = 'PY001';
END
$$;

-- The door of those who add to a session's tree of messages; they pass it together. Each statement in here has a snapshot
-- of its own, so what is counted is what there is behind the door, and not when the command's statement began.
CREATE FUNCTION ops.add_to_tree(session uuid, deletions bigint) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(session::text, 0));
    IF (deletions, false) <> (SELECT count(*) FILTER (WHERE event_type = 'message_deleted'),
                                     count(*) FILTER (WHERE event_type = 'session_deleted')
                                         > count(*) FILTER (WHERE event_type = 'session_restored')
                              FROM events WHERE aggregate_type = 'session' AND aggregate_id = session::text
                              AND event_type IN ('message_deleted', 'session_deleted', 'session_restored')) THEN
        PERFORM ops.refuse('tree_changed');
    END IF;
END
$$;

-- The door of whoever deletes from it, alone.
CREATE FUNCTION ops.delete_from_tree(session uuid, prompts bigint, answers bigint) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(session::text, 0));
    -- Nulls where it doesn't matter how many there are.
    IF prompts IS NOT NULL AND (prompts, answers) <> (SELECT count(*) FILTER (WHERE event_type = 'prompt_posted'),
                                     count(*) FILTER (WHERE event_type = 'answer_requested')
                              FROM events WHERE root_id = session) THEN
        PERFORM ops.refuse('tree_changed');
    END IF;
END
$$;
