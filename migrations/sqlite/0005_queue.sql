-- The queue: jobs with their leases, backfills, occurrences of schedules, pauses, and the slots of pools.
-- Instants of these tables are whole microseconds since 1970 in UTC, since the queue adds to them where a clock was moved.
-- What the queue looks for lies in partial indices, which do not grow with the jobs that have ended.

CREATE TABLE job (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline      TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    ask           TEXT    NOT NULL,
    class         INTEGER NOT NULL,
    priority      INTEGER NOT NULL,
    scheduled_for INTEGER,
    not_before    INTEGER NOT NULL,
    backfill      TEXT,
    units         INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    on_hold       INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    deaths        INTEGER NOT NULL DEFAULT 0,
    generation    INTEGER NOT NULL DEFAULT 0,
    owner         TEXT,
    lease_until   INTEGER,
    leased_for    INTEGER,
    run           TEXT,
    runs          TEXT    NOT NULL DEFAULT '[]',
    cancel_asked  INTEGER NOT NULL DEFAULT 0,
    queued_at     INTEGER NOT NULL,
    put_at        INTEGER NOT NULL,
    claimed_at    INTEGER,
    started_at    INTEGER,
    finished_at   INTEGER,
    outcome       TEXT,
    reason        TEXT
) STRICT;

CREATE UNIQUE INDEX job_unfinished ON job (pipeline, key) WHERE state <> 'done';
CREATE INDEX job_queued ON job (class, priority DESC, id, pipeline, not_before) WHERE state = 'queued' AND on_hold = 0;
CREATE INDEX job_on_hold ON job (class, id) WHERE state = 'queued' AND on_hold = 1;
CREATE INDEX job_put ON job (put_at) WHERE state = 'queued';
CREATE INDEX job_leased ON job (lease_until, pipeline, owner, class, leased_for) WHERE state = 'leased';
CREATE INDEX job_by_pipeline ON job (pipeline, id);
CREATE INDEX job_by_run ON job (run) WHERE run IS NOT NULL;

CREATE TABLE job_note (
    seq        INTEGER PRIMARY KEY,
    job        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    note       TEXT    NOT NULL
) STRICT;

CREATE INDEX job_note_by_job ON job_note (job, seq);

-- How many claims have passed over less urgent jobs since the last that did not.
CREATE TABLE queue_turn (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    passed_over INTEGER NOT NULL
) STRICT;

INSERT INTO queue_turn (one, passed_over) VALUES (1, 0);

CREATE TABLE backfill (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline     TEXT    NOT NULL,
    first_date   TEXT    NOT NULL,
    end_date     TEXT    NOT NULL,
    ask          TEXT    NOT NULL,
    newest_first INTEGER NOT NULL,
    units        INTEGER NOT NULL,
    tasks        INTEGER NOT NULL,
    requests     INTEGER,
    bytes        INTEGER,
    asked_by     TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    finished_at  INTEGER
) STRICT;

-- The same work may be a piece of several backfills.
CREATE TABLE backfill_job (
    backfill INTEGER NOT NULL REFERENCES backfill (number),
    job      INTEGER NOT NULL REFERENCES job (id),
    PRIMARY KEY (backfill, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX backfill_of_job ON backfill_job (job);

CREATE TABLE occurrence (
    pipeline     TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    logical_date TEXT    NOT NULL,
    end          TEXT    NOT NULL,
    reason       TEXT,
    job          INTEGER,
    run          TEXT,
    noted_at     INTEGER NOT NULL,
    PRIMARY KEY (pipeline, at)
) STRICT, WITHOUT ROWID;

CREATE INDEX occurrence_by_time ON occurrence (at);

CREATE TABLE schedule_cursor (
    pipeline TEXT    PRIMARY KEY NOT NULL,
    at       INTEGER NOT NULL,
    moved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pause (
    pipeline TEXT    PRIMARY KEY NOT NULL,
    by       TEXT    NOT NULL,
    reason   TEXT,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE slot (
    pool       TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    until      INTEGER NOT NULL,
    leased_for INTEGER NOT NULL,
    PRIMARY KEY (pool, holder)
) STRICT, WITHOUT ROWID;

-- What is looked at of a million runs and units: the last ones of a pipeline, and those that somebody should look at.
CREATE INDEX run_by_pipeline ON run (pipeline, seq);
CREATE INDEX unit_odd ON unit (table_name, unit) WHERE state <> 'loaded' OR reason IS NOT NULL;
