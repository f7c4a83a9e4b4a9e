"""Catalogue ids keep every bit on their whole way: header, database, page, JSON, CSV, catalogue, and back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import peewee
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from astra import relinking, taking_in
from astra.catalogue import loading, tables
from astra.cli import star
from astra.cli.printing import plain
from astra.database.astradb import DataProduct, Source, SourceIdentifier
from astra.database.connection import execute
from astra.taking_in import Terms
from tests.support import fits

NUMBER = st.integers(1, (1 << 63) - 1)
CATALOGID = st.sampled_from([0, 3, 7]).flatmap(lambda run: st.integers(max(1, run << 53), (run << 53) + (1 << 53) - 1))
KINDS = {0: "catalogid21", 3: "catalogid25", 7: "catalogid31"}
TABLES = ("source_data_product", "source_identifier", "source", "catalogue")


def emptied() -> None:
    """Forget all files, sources and catalogues."""
    for table in TABLES:
        execute(f"DELETE FROM {table}")
    execute("UPDATE data_product SET current_ingestion_id = NULL")
    for table in ("ingestion", "data_product"):
        execute(f"DELETE FROM {table}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@example(sdss_id=(1 << 63) - 1, catalogid=(7 << 53) + (1 << 53) - 1, gaia=(1 << 53) + 1)
@given(sdss_id=NUMBER, catalogid=CATALOGID, gaia=NUMBER)
def test_ids_survive_every_trip_bit_for_bit(
    database: peewee.Database, tmp_path: Path, sdss_id: int, catalogid: int, gaia: int
) -> None:
    emptied()
    ids = {"sdss_id": str(sdss_id), KINDS[catalogid >> 53]: str(catalogid), "gaia_dr3": str(gaia)}
    cards = {"SDSSID": sdss_id, "CATID": catalogid, "GSRCID": gaia, "GRELEASE": "dr3"}
    path = fits.write(tmp_path / "apVisit-1.3-apo25m-5094-55874-088.fits", fits.apvisit(12, **cards))

    [taken] = taking_in.take_in([path], Terms(patience=0))  # header to database
    source = Source.get_by_id(taken.source)
    assert (source.sdss_id, source.catalogid) == (sdss_id, catalogid)
    named = {each.kind: each.value for each in SourceIdentifier.select()}
    assert {kind: named[kind] for kind in ids} == ids
    kept = DataProduct.get_by_id(taken.data_product).metadata
    assert (kept["sdss_id"], kept["catalogid"], kept["gaia_dr3"]) == (str(sdss_id), str(catalogid), str(gaia))

    # database to JSON, read as a browser reads it, in which every number is a double
    page = json.loads(json.dumps(plain(star.page(source))), parse_int=float)
    assert (page["sdss_id"], page["catalogid"]) == (str(sdss_id), str(catalogid))
    told = {each["kind"]: each["value"] for each in page["identifiers"]}
    assert {kind: told[kind] for kind in ids} == ids

    columns = {"gaia_dr3": "gaia_dr3_source_id"}  # JSON to CSV, and as a catalogue back to the database
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [columns.get(kind, kind) for kind in ids])
    rows.writeheader()
    rows.writerow({columns.get(kind, kind): told[kind] for kind in ids})
    table = tmp_path / "catalogue.csv"
    table.write_text(text.getvalue())
    loaded = loading.load(tables.read(table))
    assert (loaded.rows, loaded.made, loaded.changed) == (1, 0, 1), "it is the source that the header made"
    relinking.relink()
    assert {Source.get_by(**{kind: value}).id for kind, value in ids.items()} == {source.id}
    assert Source.get_by_id(source.id).sdss_id == sdss_id
