"""Where the rows of a workspace lie that are no files: the lake's catalog, the ledger and Prefect's database.

Two kinds: SQLite files in the workspace (one machine), or schemas of one Postgres database (the server profile). Nobody
else asks which it is. Nothing here imports DuckDB, so that a process without it can be told the newest snapshot.
"""
