"""Catalogues of sources: tables in files, the survey's own database, and the rows that both become here."""
