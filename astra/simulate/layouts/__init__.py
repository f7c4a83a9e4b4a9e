"""One release's file layouts a file: which cards, which arrays, which tables, under which paths."""
