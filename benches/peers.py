"""The peers of the benchmark: a plain Python script as people write it, and dlt loading by Parquet."""

import json, sys


def python(url, dataset, limit, rows):
    """requests, a JSON Lines file, DuckDB."""
    import duckdb, requests

    session, offset = requests.Session(), 0
    with open("rows.jsonl", "w") as file:
        while True:
            answer = session.get(f"{url}/{dataset}", params={"offset": offset, "limit": limit}).json()
            for row in answer["result"]:
                file.write(json.dumps(row) + "\n")
            offset += limit
            if offset >= answer["total"]:
                break
    connection = duckdb.connect("warehouse.duckdb")
    connection.execute("create table rows as select * from read_json('rows.jsonl', format = 'newline_delimited')")
    assert connection.execute("select count(*) from rows").fetchone()[0] == rows


def dlt_parquet(url, dataset, limit, rows):
    """dlt's requests client and its DuckDB destination, with Parquet as the file format between."""
    import dlt
    from dlt.sources.helpers import requests

    @dlt.resource(name=dataset, write_disposition="replace", max_table_nesting=0)
    def pages():
        offset = 0
        while True:
            answer = requests.get(f"{url}/{dataset}", params={"offset": offset, "limit": limit}).json()
            yield answer["result"]
            offset += limit
            if offset >= answer["total"]:
                break

    pipeline = dlt.pipeline("bench", destination=dlt.destinations.duckdb("warehouse.duckdb"), dataset_name="raw")
    pipeline.run(pages(), loader_file_format="parquet")
    with pipeline.sql_client() as client:
        assert client.execute_sql(f"select count(*) from {dataset}")[0][0] == rows


{"python": python, "dlt-parquet": dlt_parquet}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
