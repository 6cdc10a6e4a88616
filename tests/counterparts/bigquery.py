"""Starts the emulator `local-bigquery` so that it stays fast with many projects in it; what it answers is what it answers alone.

The emulator looks for a table in DuckDB's lists of all tables, several times in every statement, and each of these lists is put
together from the catalogs of all projects: with ten projects an empty SELECT takes a second. Here the same questions go to the
catalog of the one project that is asked for, and each statement has one thread. Every other statement is the emulator's own.

usage: as `local-bigquery`; with LOOK_TWICE=1 the emulator's own way is gone as well, and it ends where the answers differ.
"""

import functools
import os
import re
import sys

import duckdb
from local_bigquery.engine import database

# What is asked about a dataset, a table and a column of a project, in the words of its catalog.
SCHEMA = "(SELECT schema_id FROM {lake}.ducklake_schema WHERE schema_name = $1 AND end_snapshot IS NULL)"
OBJECTS = f"""
SELECT t.table_name, 'TABLE', coalesce(s.record_count, 0)
FROM {{lake}}.ducklake_table t LEFT JOIN {{lake}}.ducklake_table_stats s USING (table_id)
WHERE t.end_snapshot IS NULL AND t.schema_id = {SCHEMA} AND t.table_name = coalesce($2, t.table_name)
UNION ALL
SELECT view_name, 'VIEW', 0 FROM {{lake}}.ducklake_view
WHERE end_snapshot IS NULL AND schema_id = {SCHEMA} AND view_name = coalesce($2, view_name) ORDER BY 1
"""
COLUMNS = f"""
SELECT c.column_name FROM {{lake}}.ducklake_column c JOIN {{lake}}.ducklake_table t USING (table_id)
WHERE c.end_snapshot IS NULL AND c.parent_column IS NULL AND t.end_snapshot IS NULL
AND t.schema_id = {SCHEMA} AND t.table_name = $2
"""
SCHEMAS = "SELECT 1 FROM {lake}.ducklake_schema WHERE end_snapshot IS NULL AND schema_name = $1"

# How the emulator's own questions begin, what they are for one project, and for its results, which lie in a plain database.
QUESTIONS = {
    "SELECT table_name, 'TABLE', estimated_size FROM duckdb_tables()": (
        OBJECTS,
        "SELECT {name}, 'TABLE', count(*) FROM {table}",
    ),
    "SELECT column_name FROM duckdb_columns()": (
        f"{COLUMNS} AND NOT c.nulls_allowed",
        'SELECT "name" FROM pragma_table_info({escaped}) WHERE "notnull"',
    ),
    "SELECT 1 FROM duckdb_columns()": (
        f"SELECT 1 FROM ({COLUMNS}) WHERE column_name = $3",
        'SELECT 1 FROM pragma_table_info({escaped}) WHERE "name" = $1',
    ),
    "SELECT 1 FROM duckdb_schemas()": (SCHEMAS, None),
}
QUESTION = re.compile("|".join(re.escape(question) for question in QUESTIONS))
# Temporary tables belong to a session, and each statement of these tests has a new one.
TEMPORARY = "SELECT table_name FROM duckdb_tables() WHERE temporary"

fetch, connection, first_connection = database.fetch, database.connection, database._connect.__wrapped__


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def scoped(sql, params=None):
    """`database.fetch`, with questions about one project asked of that project alone."""
    found = QUESTION.match(sql)
    if not found:
        return fetch(sql, params)
    answer = ask(*QUESTIONS[found.group()], *params)
    if answer is None:
        return fetch(sql, params)
    if os.environ.get("LOOK_TWICE") and sorted(answer) != sorted(other := fetch(sql, params)):
        print(f"{sql} {params}: {answer} instead of {other}", file=sys.stderr, flush=True)
        os._exit(3)
    return answer


def ask(of_project, of_results, project, dataset, *names):
    if project == "emulator":
        if dataset != "_results" or not of_results or names[0] is None:
            return None
        table = database.quote(project, dataset, names[0])
        try:
            return fetch(
                of_results.format(name=literal(names[0]), table=table, escaped=literal(table)), list(names[1:])
            )
        except duckdb.CatalogException:
            return []
    if project not in database._attached:
        return []
    lake = database.quote(f"__ducklake_metadata_{project}")
    return fetch(of_project.format(lake=lake), [dataset, *names])


class Cursor:
    """A cursor that does not look for temporary tables."""

    def __init__(self, own):
        self._own = own

    def __getattr__(self, name):
        return getattr(self._own, name)

    def sql(self, query, **given):
        return self._own.sql("SELECT '' WHERE false" if query == TEMPORARY else query, **given)


class Connection(Cursor):
    def cursor(self):
        return Cursor(self._own.cursor())


@functools.cache
def connect():
    """The emulator's database, with one thread for each statement: several run at a time anyway."""
    opened = first_connection()
    opened.execute("SET threads = 1")
    return opened


if __name__ == "__main__":
    # Before the modules that take these functions by name are imported.
    database.fetch, database._connect = scoped, connect
    database.connection = lambda: Connection(connection())
    from local_bigquery.cli import main

    main()
