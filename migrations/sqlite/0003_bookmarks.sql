-- Where sources want to go on, as they told when the rows before were loaded.

CREATE TABLE bookmark (
    table_name TEXT NOT NULL,
    stream     TEXT NOT NULL,
    value      TEXT NOT NULL,
    kept_at    TEXT NOT NULL,
    PRIMARY KEY (table_name, stream)
) STRICT, WITHOUT ROWID;
