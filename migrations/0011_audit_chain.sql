-- The tamper-evident chain: every event of the log, in commit order, is a leaf of one Merkle tree (RFC 6962). The
-- relay's leader adds the leaves of a batch in the statement that moves its checkpoint, and signs the new root.

CREATE TABLE ops.audit_chain
(
    -- Leaves before this batch. As the key it also keeps two leaders from going on from the same place.
    first     bigint PRIMARY KEY CHECK (first >= 0),
    -- 64 bytes for each event: transaction id, position (big-endian), event id, leaf.
    entries   bytea       NOT NULL CHECK (length(entries) % 64 = 0 AND length(entries) > 0),
    -- Place of the last event: where the next batch goes on.
    xid       xid8        NOT NULL,
    position  bigint      NOT NULL,
    -- Leaves after this batch, and the signed root over them.
    size      bigint      NOT NULL UNIQUE CHECK (size = first + length(entries) / 64),
    root      bytea       NOT NULL CHECK (length(root) = 32),
    signed_at text        NOT NULL,
    key       text        NOT NULL,
    signature bytea       NOT NULL,
    epoch     bigint      NOT NULL
);
CREATE INDEX audit_chain_by_place ON ops.audit_chain (xid, position);

-- Roots of complete subtrees of 2^8, 2^16 and 2^24 leaves, so that a proof reads little of a long log.
CREATE TABLE ops.audit_nodes
(
    level smallint NOT NULL CHECK (level > 0 AND level % 8 = 0),
    index bigint   NOT NULL CHECK (index >= 0),
    hash  bytea    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, index)
);

CREATE TRIGGER audit_chain_is_append_only BEFORE UPDATE OR DELETE ON ops.audit_chain
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER audit_chain_is_not_truncated BEFORE TRUNCATE ON ops.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER audit_nodes_are_append_only BEFORE UPDATE OR DELETE ON ops.audit_nodes
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER audit_nodes_are_not_truncated BEFORE TRUNCATE ON ops.audit_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ops.audit_chain, ops.audit_nodes FROM PUBLIC;
