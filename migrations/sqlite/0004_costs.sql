-- What jobs were billed for, and what was not done again because nothing had changed.
-- Money is in millionths of its currency, at the price of its time; units are a JSON list, `unit` is the first of them.

CREATE TABLE cost (
    seq        INTEGER PRIMARY KEY,
    job        TEXT    NOT NULL UNIQUE,
    run        TEXT    NOT NULL,
    pipeline   TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    table_name TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    units      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    processed  INTEGER NOT NULL,
    billed     INTEGER NOT NULL,
    slot_ms    INTEGER NOT NULL,
    cache_hit  INTEGER NOT NULL,
    micros     INTEGER NOT NULL,
    currency   TEXT    NOT NULL,
    at         TEXT    NOT NULL
) STRICT;

CREATE INDEX cost_by_time ON cost (at);
CREATE INDEX cost_by_unit ON cost (table_name, unit, seq);
CREATE INDEX cost_by_run ON cost (run);

CREATE TABLE spared (
    run        TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    pipeline   TEXT    NOT NULL,
    table_name TEXT    NOT NULL,
    units      TEXT    NOT NULL,
    unit_count INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    billed     INTEGER NOT NULL,
    micros     INTEGER NOT NULL,
    currency   TEXT    NOT NULL,
    at         TEXT    NOT NULL,
    PRIMARY KEY (run, step, unit)
) STRICT, WITHOUT ROWID;

CREATE INDEX spared_by_time ON spared (at);
