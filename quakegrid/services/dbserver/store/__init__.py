"""The database file: connections, the writer's queue, bounded reads, migrations, adoption, restore.

Depends on SQLite and the tables, and on no gRPC contract. Read `writer.py` and `database.py` first.
"""
