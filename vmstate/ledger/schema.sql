-- A vmstate ledger, format 1. Receipts are the record; every other table can be derived from them.
-- Times are whole microseconds since 1970 (`_us`) or since a boot (`_boot_us`); no SQL reads a clock.

CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    format      INTEGER NOT NULL,
    origin      TEXT NOT NULL,
    verifier    TEXT NOT NULL,          -- the log's verifier key, C2SP signed-note spelling
    drill       TEXT                    -- what makes this a drill's ledger, as JSON; else NULL
) STRICT;

CREATE TABLE constitution (
    seq         INTEGER PRIMARY KEY,    -- the receipt that put it in force; the last one rules
    digest      TEXT NOT NULL,
    canonical   BLOB NOT NULL,          -- the bytes that the digest is of
    toml        BLOB NOT NULL           -- the file as it was read
) STRICT;

-- Columns beside `body` are an index, never evidence; audit compares them with it.
CREATE TABLE receipt (
    seq         INTEGER PRIMARY KEY,
    leaf        BLOB NOT NULL CHECK (length(leaf) = 32),
    body        BLOB NOT NULL CHECK (length(body) <= 65535),
    scroll      TEXT NOT NULL,
    scroll_seq  INTEGER NOT NULL,
    type        TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    principal   TEXT,
    lease_seq   INTEGER,
    UNIQUE (scroll, scroll_seq)
) STRICT;
CREATE INDEX receipt_of_principal ON receipt (principal, seq);
CREATE INDEX receipt_of_lease ON receipt (lease_seq, seq) WHERE lease_seq IS NOT NULL;
CREATE INDEX receipt_denied ON receipt (seq) WHERE outcome = 'denied';

-- Against accidents; against an attacker there are the tree and its signed head.
CREATE TRIGGER receipt_is_new BEFORE INSERT ON receipt
WHEN EXISTS (SELECT 1 FROM receipt WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'a receipt is never replaced'); END;
CREATE TRIGGER receipt_is_final BEFORE UPDATE ON receipt
BEGIN SELECT RAISE(ABORT, 'a receipt never changes'); END;
CREATE TRIGGER receipt_stays BEFORE DELETE ON receipt
BEGIN SELECT RAISE(ABORT, 'a receipt is never deleted'); END;

-- The tree as its peaks, its signed checkpoint, and what was last known of time.
CREATE TABLE head (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    size            INTEGER NOT NULL,
    peaks           BLOB NOT NULL,
    note            TEXT NOT NULL,
    newest_us       INTEGER NOT NULL,
    newest_boot     TEXT NOT NULL,
    newest_boot_us  INTEGER NOT NULL,
    ahead_us        INTEGER NOT NULL,
    voided_below    INTEGER NOT NULL,
    voided_except   TEXT NOT NULL,
    held_until_us   INTEGER,
    recovered_us      INTEGER,
    recovered_boot    TEXT,
    recovered_boot_us INTEGER,
    signed_us       INTEGER NOT NULL,
    since_us        INTEGER NOT NULL,
    back            TEXT NOT NULL
) STRICT;

CREATE TABLE lease (
    seq               INTEGER PRIMARY KEY,  -- the receipt that granted it
    principal         TEXT NOT NULL,
    profile           TEXT NOT NULL,
    rule              TEXT NOT NULL,
    trigger           TEXT NOT NULL,
    parent_seq        INTEGER REFERENCES lease (seq),
    granted_us        INTEGER NOT NULL,
    granted_boot      TEXT NOT NULL,
    granted_boot_us   INTEGER NOT NULL,
    limit_us          INTEGER NOT NULL,     -- its end at the latest
    limit_boot        TEXT NOT NULL,
    limit_boot_us     INTEGER NOT NULL,
    deadline_us       INTEGER NOT NULL,     -- its end unless something is done under it
    deadline_boot     TEXT NOT NULL,
    deadline_boot_us  INTEGER NOT NULL,
    renewals          INTEGER NOT NULL,
    max_uses          INTEGER,
    idle_us           INTEGER,
    uses              INTEGER NOT NULL,
    ended_us          INTEGER,
    ended_boot        TEXT,
    ended_boot_us     INTEGER,
    ending            TEXT,
    unseated          INTEGER NOT NULL,     -- ended by a drill's set-up: starts no cool-down
    CHECK ((ended_us IS NULL) = (ending IS NULL))
) STRICT;
CREATE INDEX lease_open ON lease (principal, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_standing ON lease (seq) WHERE ended_us IS NULL;
CREATE INDEX lease_due ON lease (deadline_us, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_due_by_boot ON lease (deadline_boot, deadline_boot_us) WHERE ended_us IS NULL;
CREATE INDEX lease_open_by_boot ON lease (granted_boot, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_history ON lease (principal, profile, seq);

-- Requests that were left open, and those that are over.
CREATE TABLE request (
    seq               INTEGER PRIMARY KEY,  -- the receipt that opened it
    id                TEXT NOT NULL UNIQUE,
    principal         TEXT NOT NULL,
    rule              TEXT NOT NULL,        -- the escalation that it waits for
    body              BLOB NOT NULL,        -- the prepared request, its canonical bytes
    state             TEXT NOT NULL,
    opened_us         INTEGER NOT NULL,
    opened_boot       TEXT NOT NULL,
    opened_boot_us    INTEGER NOT NULL,
    waits_us          INTEGER NOT NULL,
    usable_us         INTEGER,              -- once it was complete
    deadline_us       INTEGER NOT NULL,     -- the one of both that is in force
    deadline_boot     TEXT NOT NULL,
    deadline_boot_us  INTEGER NOT NULL,
    ended_us          INTEGER,
    ended_boot        TEXT,
    ended_boot_us     INTEGER
) STRICT;
CREATE INDEX request_open ON request (principal, seq) WHERE ended_us IS NULL;
CREATE INDEX request_waiting ON request (seq) WHERE ended_us IS NULL;
CREATE INDEX request_due ON request (deadline_us, seq) WHERE ended_us IS NULL;
CREATE INDEX request_due_by_boot ON request (deadline_boot, deadline_boot_us)
    WHERE ended_us IS NULL;
CREATE INDEX request_history ON request (principal, seq);

-- The signed statements that were taken for a request and not replaced since.
CREATE TABLE handed_in (
    request_seq  INTEGER NOT NULL REFERENCES request (seq),
    id           TEXT NOT NULL,
    seq          INTEGER NOT NULL,      -- the receipt that took it
    body         BLOB NOT NULL,
    PRIMARY KEY (request_seq, id)
) STRICT, WITHOUT ROWID;

-- The newest that each sensor pushed about somebody ahead of any request: which receipt holds it.
CREATE TABLE pushed (
    principal  TEXT NOT NULL,
    by         TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    until_us   INTEGER NOT NULL,        -- the last that any of it is young enough
    PRIMARY KEY (principal, by)
) STRICT, WITHOUT ROWID;
CREATE INDEX pushed_until ON pushed (until_us);

CREATE TABLE budget (
    id          TEXT PRIMARY KEY,
    seq         INTEGER NOT NULL,       -- the receipt that allocated it
    name        TEXT NOT NULL,
    unit        TEXT NOT NULL,
    allocated   INTEGER NOT NULL CHECK (allocated >= 0),
    spent       INTEGER NOT NULL CHECK (spent BETWEEN 0 AND allocated)
) STRICT, WITHOUT ROWID;

-- Locks; those in state `locked` stand, until their time is up by the hand of their own boot.
CREATE TABLE lock (
    seq             INTEGER PRIMARY KEY,    -- the receipt that locked
    scope           TEXT NOT NULL,
    name            TEXT NOT NULL,          -- whose or which; empty where it is everybody
    by              TEXT NOT NULL,
    reason          TEXT NOT NULL,
    locked_us       INTEGER NOT NULL,
    locked_boot     TEXT NOT NULL,
    locked_boot_us  INTEGER NOT NULL,
    until_us        INTEGER,
    until_boot      TEXT,
    until_boot_us   INTEGER,
    state           TEXT NOT NULL,
    CHECK ((until_us IS NULL) = (until_boot IS NULL) AND (until_us IS NULL) = (until_boot_us IS NULL))
) STRICT;
CREATE INDEX lock_standing ON lock (seq) WHERE state = 'locked';

-- Locks that ended more than is on record yet: whatever they cover of the leases before them is over.
CREATE TABLE fall (
    seq        INTEGER PRIMARY KEY REFERENCES lock (seq),
    proof      TEXT,                        -- how it is known who locked
    profiles   TEXT,                        -- those that are covered, as JSON; NULL for all
    after_seq  INTEGER NOT NULL             -- the ends of leases up to this one are on record
) STRICT;

-- A drill's mode, in a drill's ledger only: until when it is on, and whether it was ended.
CREATE TABLE drill (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    until_us       INTEGER NOT NULL,
    until_boot     TEXT NOT NULL,
    until_boot_us  INTEGER NOT NULL,
    off            INTEGER NOT NULL
) STRICT;

-- What was answered under an idempotency key, so that it is answered once.
CREATE TABLE answered (
    key      TEXT PRIMARY KEY,          -- digest over who asked and the key
    command  TEXT NOT NULL,             -- digest over what was asked
    seq      INTEGER NOT NULL           -- the receipt that answered
) STRICT, WITHOUT ROWID;

-- Signed statements and prepared requests that a decision rested on: each counts once.
CREATE TABLE statement (
    id   TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is still to be told, and to whom; kept a while once it was. No evidence, and audit leaves it
-- out: each row points at a receipt, and was written in its transaction.
CREATE TABLE outbox (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: a message's id follows from it
    target        TEXT NOT NULL,          -- of [notify]
    event         TEXT NOT NULL,
    seq           INTEGER NOT NULL,       -- the receipt that is told; of several the newest
    first_seq     INTEGER NOT NULL,
    count         INTEGER NOT NULL CHECK (count >= 1),
    fold          TEXT,                   -- what is told in numbers: of whom, and why denied
    lease_seq     INTEGER,                -- for what is told before a lease ends
    planned       INTEGER NOT NULL,       -- not to be told before it is due
    due_us        INTEGER NOT NULL,
    due_boot      TEXT NOT NULL,
    due_boot_us   INTEGER NOT NULL,
    claimed       INTEGER NOT NULL,       -- on its way, or was when its process was killed
    hold_boot     TEXT NOT NULL,          -- not to be tried before: a claim, or a pause after a failure
    hold_boot_us  INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    fault         TEXT NOT NULL,          -- why the last attempt failed
    told_us       INTEGER,
    told_boot     TEXT,
    told_boot_us  INTEGER
) STRICT;
CREATE INDEX outbox_due ON outbox (target, planned, due_us, id) WHERE told_us IS NULL;
CREATE INDEX outbox_due_by_boot ON outbox (target, due_boot, due_boot_us)
    WHERE told_us IS NULL AND planned = 1;
CREATE INDEX outbox_of_lease ON outbox (lease_seq) WHERE told_us IS NULL AND lease_seq IS NOT NULL;
CREATE INDEX outbox_folded ON outbox (target, fold, id) WHERE fold IS NOT NULL;
CREATE INDEX outbox_told ON outbox (id) WHERE told_us IS NOT NULL;

-- Refusals of the last minute, by what they have in common: what repeats is counted here and put on
-- record as one receipt. A count is gone once its receipt stands; audit leaves the table out.
CREATE TABLE refusal (
    key            TEXT PRIMARY KEY,       -- the digest of what is the same
    seq            INTEGER NOT NULL,       -- the newest receipt of its like
    began_boot     TEXT NOT NULL,
    began_boot_us  INTEGER NOT NULL,
    written        INTEGER NOT NULL,       -- receipts of their own
    counted        INTEGER NOT NULL,       -- refusals of which no receipt tells yet
    first_us       INTEGER NOT NULL,
    last_us        INTEGER NOT NULL,
    same           INTEGER NOT NULL        -- each asked for exactly what that receipt says
) STRICT, WITHOUT ROWID;
CREATE INDEX refusal_began ON refusal (began_boot, began_boot_us);
