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
    recovered_boot_us INTEGER
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
    deadline_us       INTEGER NOT NULL,
    deadline_boot     TEXT NOT NULL,
    deadline_boot_us  INTEGER NOT NULL,
    renewals          INTEGER NOT NULL,
    ended_us          INTEGER,
    ended_boot        TEXT,
    ended_boot_us     INTEGER,
    ending            TEXT,
    unseated          INTEGER NOT NULL,     -- ended by a drill's set-up: starts no cool-down
    CHECK ((ended_us IS NULL) = (ending IS NULL))
) STRICT;
CREATE INDEX lease_open ON lease (principal, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_due ON lease (deadline_us, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_due_by_boot ON lease (deadline_boot, deadline_boot_us) WHERE ended_us IS NULL;
CREATE INDEX lease_open_by_boot ON lease (granted_boot, seq) WHERE ended_us IS NULL;
CREATE INDEX lease_history ON lease (principal, profile, seq);

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

-- A drill's mode, in a drill's ledger only: until when it is on, and whether it was ended.
CREATE TABLE drill (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    until_us       INTEGER NOT NULL,
    until_boot     TEXT NOT NULL,
    until_boot_us  INTEGER NOT NULL,
    off            INTEGER NOT NULL
) STRICT;

-- Signed statements and prepared requests that a decision rested on: each counts once.
CREATE TABLE statement (
    id   TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
