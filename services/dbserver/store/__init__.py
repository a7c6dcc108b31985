"""The database file: connections, the writer's queue, bounded reads, migrations, adoption, restore.

Knows SQLite and tables by name; knows no contract. Read `writer.py` and `database.py` first.
"""
