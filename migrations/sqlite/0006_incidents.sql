-- What is wrong and who was told of it; messages that wait for their channel; what keeps pipelines from beginning; marks.
-- Lists are JSON. An incident is known by its key, of which at most one is open.

CREATE TABLE incident (
    id        INTEGER PRIMARY KEY,
    key       TEXT NOT NULL,
    topic     TEXT NOT NULL,
    pipeline  TEXT,
    subject   TEXT NOT NULL,
    units     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    causes    TEXT NOT NULL,
    evidence  TEXT NOT NULL,
    opened_at TEXT NOT NULL,
    told_at   TEXT,
    closed_at TEXT,
    channels  TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX incident_open ON incident (key) WHERE closed_at IS NULL;
CREATE INDEX incident_by_key ON incident (key, evidence);

CREATE TABLE message (
    id         INTEGER PRIMARY KEY,
    channel    TEXT    NOT NULL,
    content    TEXT    NOT NULL,
    queued_at  TEXT    NOT NULL,
    not_before TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    taken_until TEXT,
    fault      TEXT,
    batch      INTEGER,
    sent_at    TEXT
) STRICT;

CREATE INDEX message_waiting ON message (channel, not_before) WHERE sent_at IS NULL;
CREATE INDEX message_sent ON message (channel, sent_at) WHERE sent_at IS NOT NULL;

CREATE TABLE obstacle (
    pipeline TEXT NOT NULL PRIMARY KEY,
    reason   TEXT NOT NULL,
    at       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mark (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX unit_in_trouble ON unit (state, table_name, unit) WHERE state <> 'loaded';
CREATE INDEX run_by_end ON run (finished_at);
