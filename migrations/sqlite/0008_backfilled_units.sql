-- Whether only backfills have touched a unit so far: such a unit is no beginning of a gap, and a run of a day leaves it to backfills.

ALTER TABLE unit ADD COLUMN backfilled INTEGER NOT NULL DEFAULT 0;
