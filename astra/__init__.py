"""Astra: from a new spectrum on disk to a recorded result. See `astra.base` for the class a scientist writes."""
