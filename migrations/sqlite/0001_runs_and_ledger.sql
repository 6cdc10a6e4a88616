-- Runs and what happened in them; the ledger of units and their pulls; the counters of leases.
-- Instants are text in UTC with nine digits of a second, so that they sort; digests are 32 hexadecimal digits.

CREATE TABLE run (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,
    pipeline     TEXT    NOT NULL,
    logical_date TEXT    NOT NULL,
    number       INTEGER NOT NULL,
    asked_by     TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    started_at   TEXT    NOT NULL,
    finished_at  TEXT,
    loaded       INTEGER NOT NULL DEFAULT 0,
    unchanged    INTEGER NOT NULL DEFAULT 0,
    held         INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (pipeline, logical_date, number)
) STRICT;

CREATE INDEX run_by_status ON run (status, pipeline);

CREATE TABLE event (
    seq  INTEGER PRIMARY KEY,
    run  TEXT NOT NULL REFERENCES run (id),
    step TEXT NOT NULL,
    unit TEXT NOT NULL,
    at   TEXT NOT NULL,
    event TEXT NOT NULL
) STRICT;

CREATE INDEX event_by_run ON event (run, seq);

CREATE TABLE unit (
    table_name         TEXT    NOT NULL,
    unit               TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    last_pull          INTEGER NOT NULL,
    pulled_at          TEXT    NOT NULL,
    unchanged_pulls    INTEGER NOT NULL,
    reason             TEXT,
    held_stage         TEXT,
    loaded_pull        INTEGER,
    loaded_generation  INTEGER,
    loaded_rows        INTEGER,
    loaded_fingerprint TEXT,
    loaded_inputs      TEXT,
    loaded_at          TEXT,
    PRIMARY KEY (table_name, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE pull (
    table_name  TEXT    NOT NULL,
    unit        TEXT    NOT NULL,
    pull        INTEGER NOT NULL,
    run         TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    row_count   INTEGER NOT NULL,
    fingerprint TEXT,
    added       INTEGER,
    removed     INTEGER,
    changed     INTEGER,
    age         INTEGER,
    requests    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    started_at  TEXT    NOT NULL,
    finished_at TEXT    NOT NULL,
    reason      TEXT,
    PRIMARY KEY (table_name, unit, pull)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    table_name TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    leased_at  TEXT    NOT NULL,
    PRIMARY KEY (table_name, unit)
) STRICT, WITHOUT ROWID;
