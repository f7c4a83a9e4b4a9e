"""The database: its connection, its column kinds, every table, and the migrations that make them."""
