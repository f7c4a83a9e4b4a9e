"""A star's page, what `astra show source` shows: its names, visits, stars and results, and what speaks against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from astra import asking, gathering, results
from astra.cli.printing import fitting, print_fields, print_table, print_wide, text, width
from astra.database.astradb import Catalogue, DataProduct, Source
from astra.database.connection import run
from astra.database.fields import read_instant
from astra.positions import Position, written

MEMBERS = 1000  # so many data products, and rows of one component, are told
_CATALOGUE_IDS = ("sdss_id", "catalogid")  # 64-bit numbers of others, told as text
_HOW = ("method", "candidates", "separation", "catalogue_version")  # a data product was linked
_AND = (*_HOW, "reason", "conflict", "path")
_VISIT = ("mjd", "telescope", "plate", "field", "fiber", "snr", "release", "product", *_AND)
_STAR = ("release", "telescope", "field", "healpix", "nvisits", "snr", "mjd", "product", *_AND)
_OTHER = ("filetype", "release", "product", *_AND)
_LONG = ("reason", "conflict")  # told below the tables
# What is printed first where not all fits a line.
_WHAT = ("product", "mjd", "filetype", "file", "snr", "release", "nvisits")
_IMPORTANCE = (*_WHAT, "telescope", "field", "plate", "fiber", "healpix", *_HOW)


def page(row: Source) -> dict[str, Any]:
    """Return all that is known of a source that was not merged."""
    key = int(row.id)
    catalogue = Catalogue.get_or_none(Catalogue.id == row.__data__["catalogue"])
    shown = {**row.__data__, "catalogue": catalogue.version if catalogue else None}
    shown |= {name: str(shown[name]) for name in _CATALOGUE_IDS if shown[name] is not None}
    products, links = asking.data_products(row, MEMBERS), _links(key)
    count = "SELECT count(*) FROM source_data_product WHERE source_id = ? AND superseded_by_id IS NULL"
    return {
        **shown,
        "data_products": run(count, (key,))[0][0],
        "merged": asking.family(key)[1:],
        "identifiers": asking.names(key),
        "visits": _told(asking.of_type(products, "apVisit", asking.by_date), _VISIT, links),
        "stars": _told(asking.of_type(products, "apStar", asking.by_release), _STAR, links),
        "products": _told([each for each in products if each.filetype not in ("apVisit", "apStar")], _OTHER, links),
        "results": [_result(each) for each in results.by_component(row)],
        "gathering": gathering.waiting(asking.family(key)),
        "conflicts": [link for link in links.values() if link["conflict"]],
    }


def _links(key: int) -> dict[int, dict[str, Any]]:
    """Return why each data product belongs to a source, by data product."""
    names = ("product", "path", "method", "catalogue_version", "candidates", "separation", "reason", "conflict")
    rows = run(
        "SELECT p.id, p.path, l.method, l.catalogue_version, l.candidates, l.separation, l.reason, l.conflict "
        "FROM source_data_product l JOIN data_product p ON p.id = l.data_product_id "
        f"WHERE l.source_id = ? AND l.superseded_by_id IS NULL ORDER BY p.id LIMIT {MEMBERS}",
        (key,),
    )
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _told(
    products: Sequence[DataProduct], columns: Sequence[str], links: Mapping[int, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return of each data product what the columns say, from its facts, its identity, its record and its link."""
    told = []
    for each in products:
        own = {"product": each.id, "filetype": each.filetype, "release": each.release, "path": each.path}
        known = {**each.kwargs, **each.metadata, **links.get(each.id, {}), **own}
        told.append({name: known.get(name) for name in columns})
    return told


def _result(found: results.OfComponent) -> dict[str, Any]:
    rows = [{"table": type(row)._meta.table_name, **row.__data__} for row in found.rows[-MEMBERS:]]
    return {"component": found.component, "reason": found.reason, "count": len(found.rows), "rows": rows}


# ------------------------------------------------------------------------------------------------------------ in print


def say(found: Mapping[str, Any]) -> None:
    """Print a star's page."""
    click.echo(f"source {found['id']}" + (f", {found['designation']}" if found["designation"] else ""))
    print_fields({f"  {name}": value for name, value in _summary(found).items()})
    _list("identifiers", _names(found["identifiers"]))
    lists = {"visits": found["visits"], "stars": found["stars"]}
    lists |= {"other data products": found["products"]} if found["products"] else {}
    cut = [_list(title, rows) for title, rows in lists.items()]
    if any(cut):
        click.echo(f"\nwhole paths: astra products --source id={found['id']}; all columns: --json")
    told = sum(len(found[name]) for name in ("visits", "stars", "products"))
    if told < found["data_products"]:
        click.echo(f"\nthese are {told} of its {found['data_products']} data products")
    if not found["results"]:
        click.echo("\nresults: none")
    for each in found["results"]:
        _say_results(each)
    for each in found["gathering"]:
        asked = f", asked for by replay {each['replay']}" if each["replay"] else ""
        until = f"; a further change puts it off, until {text(each['latest'])} at most"
        click.echo(
            f"\nwaits to be gathered by the rule {each['rule']}{asked}: it changed at {text(each['since'])} and is due "
            f"at {text(each['due'])}{until if each['latest'] > each['due'] else ''}"
        )
    for each in found["conflicts"]:
        click.echo(f"\nconflict: data product {each['product']}, {each['path']}\n  {each['conflict']}")


def _summary(found: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: found[name] for name in (*_CATALOGUE_IDS, "designation")}
    if found["ra"] is not None:
        shown["position"] = f"{found['ra']:.6f} {found['dec']:+.6f}" + (
            f", epoch {found['epoch']:.2f}" if found["epoch"] is not None else ""
        )
        shown["healpix"] = found["healpix"]
    if found["pmra"] is not None and found["pmdec"] is not None:
        shown["proper motion"] = f"{found['pmra']:+.2f} {found['pmdec']:+.2f} mas/yr"
    shown["known from"] = f"catalogue {found['catalogue']}" if found["catalogue"] else "headers alone"
    shown["known from"] += ", provisional" if found["provisional"] else ""
    if found["merged"]:
        shown["merged"] = f"source {', '.join(map(str, found['merged']))}, since found to be the same"
    shown["created"] = read_instant(found["created"])
    return shown


def _names(identifiers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    ranked = any(each["rank"] is not None for each in identifiers)
    return [
        {
            "kind": each["kind"],
            "value": each["value"],
            "given by": each["catalogue_version"] or "headers",
            **({"rank": each["rank"]} if ranked else {}),
        }
        for each in identifiers
    ]


def _list(title: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Print rows under a title, without columns that are empty in all.

    Where a line would not fit the terminal, paths are cut to the files' names, and the least important columns left
    out; return whether that was done.
    """
    if not rows:
        click.echo(f"\n{title}: none")
        return False
    columns = [name for name in rows[0] if name not in _LONG and any(row[name] not in (None, "") for row in rows)]
    cells = [[_rounded(row[name] if row[name] != "" else None) for name in columns] for row in rows]
    most, cut = width(), False
    if most is not None and "path" in columns and len(fitting(columns, cells, columns, most)) < len(columns):
        cut, columns[-1], cells = True, "file", [[*row[:-1], row[-1].rpartition("/")[2]] for row in cells]
        kept = fitting(columns, cells, _IMPORTANCE, most)
        columns, cells = [columns[at] for at in kept], [[row[at] for at in kept] for row in cells]
    click.echo()
    print_table(columns, cells, f"{title} ({len(rows)}):")
    return cut


def _say_results(each: Mapping[str, Any]) -> None:
    title = f"results of {each['component']}"
    if each["reason"] is not None:
        click.echo(f"\n{title}: cannot be told, for {each['reason']}")
        return
    if not each["rows"]:
        click.echo(f"\n{title}: none")
        return
    told = f", the newest {len(each['rows'])}" if len(each["rows"]) < each["count"] else ""
    for table in dict.fromkeys(row["table"] for row in each["rows"]):
        rows = [row for row in each["rows"] if row["table"] == table]
        columns = ["task", *(name for name in rows[0] if name not in ("task", "table", "id", "source"))]
        cells = [[_rounded(row[name]) for name in columns] for row in rows]
        click.echo()
        print_wide(columns, cells, f"{title} ({each['count']}{told}):")


def _rounded(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


# ------------------------------------------------------------------------------------------------------ several of them


def listed(found: Sequence[Source], separations: Sequence[float]) -> list[dict[str, Any]]:
    """Return one line of each source, with its separation in arcseconds where there are any."""
    if not found:
        return []
    counts = dict(
        run(
            "SELECT source_id, count(*) FROM source_data_product WHERE superseded_by_id IS NULL "
            f"AND source_id IN ({', '.join('?' * len(found))}) GROUP BY source_id",
            [each.id for each in found],
        )
    )
    lines = [
        {
            "id": each.id,
            "designation": each.designation,
            "sdss_id": None if each.sdss_id is None else str(each.sdss_id),
            "catalogid": None if each.catalogid is None else str(each.catalogid),
            "ra": each.ra,
            "dec": each.dec,
            "provisional": each.provisional,
            "data_products": counts.get(each.id, 0),
        }
        for each in found
    ]
    return (
        [{"separation": away, **line} for away, line in zip(separations, lines, strict=True)] if separations else lines
    )


# The columns of a list, those first that are printed where not all fit a line.
_LISTED = ("id", "separation", "designation", "sdss_id", "data_products", "ra", "dec", "catalogid", "provisional")


def around(place: Position, within: float) -> str:
    """Return in words where was looked, and how far from there."""
    return f"within {within:.10g} arcseconds of {written(place)}"


def say_listed(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print what `listed` returned, and how to go on."""
    shown = [{**each, **{name: _angle(each[name]) for name in ("ra", "dec")}} for each in lines]
    if "separation" in shown[0]:
        shown = [{**each, "separation": f'{each["separation"]:.2f}"'} for each in shown]
    columns, cells = list(shown[0]), [list(each.values()) for each in shown]
    kept = range(len(columns)) if (most := width()) is None else fitting(columns, cells, _LISTED, most)
    print_table([columns[at] for at in kept], [[row[at] for at in kept] for row in cells])
    click.echo(f"\nall of one: astra show source id={lines[0]['id']}")


def _angle(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"
