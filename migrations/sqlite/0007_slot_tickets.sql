-- Who waits for slots of pools, in the order in which they came. A ticket is renewed with every look, and ends by itself soon
-- after the last one.

CREATE TABLE slot_ticket (
    pool       TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    leased_for INTEGER NOT NULL,
    PRIMARY KEY (pool, holder)
) STRICT, WITHOUT ROWID;
