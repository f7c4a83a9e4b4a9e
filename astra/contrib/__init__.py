"""Analysis components, one per folder: `base.py` holds the `TaskInstance`, `models.py` its result table.

A component runs once a `[[rules]]` stanza of the settings names it, or when somebody executes it by hand.
"""
