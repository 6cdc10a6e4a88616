-- What a source's change probe told when a unit's rows were read; how many tasks of a run found their source late.

ALTER TABLE unit ADD COLUMN probe TEXT;
ALTER TABLE run ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
