-- The fair queue: each account has seats for answers in flight; what finds none waits here and costs others nothing.

-- Accounts whose number of seats is not the default.
CREATE TABLE ops.allowances
(
    account_id uuid PRIMARY KEY,
    in_flight  integer NOT NULL CHECK (in_flight >= 0)
);

-- Seats that are taken. An account with many has them in several rows, so that its commands don't queue for one.
CREATE TABLE ops.seats
(
    account_id uuid    NOT NULL,
    shard      integer NOT NULL,
    taken      integer NOT NULL CHECK (taken >= 0),
    PRIMARY KEY (account_id, shard)
) WITH (fillfactor = 50);

-- The row of ops.seats that the answer has its seat in; -1 where seats aren't counted; null while it waits for one.
ALTER TABLE ops.runs ADD COLUMN seat integer DEFAULT -1;
ALTER TABLE ops.runs ALTER COLUMN seat DROP DEFAULT;

CREATE INDEX runs_waiting ON ops.runs (owner_id, requested_at, answer_id) WHERE seat IS NULL;
-- Jobs that no worker has begun: the job stream holds no more than it should.
CREATE INDEX runs_unstarted ON ops.runs (requested_at) WHERE worker IS NULL AND seat IS NOT NULL;
