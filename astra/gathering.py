"""Which sources are to be gathered, and when: one task for all data products that a source has now.

Comes from `ingest`, which marks the source of what it takes in, and from the links between data products and sources;
goes to `queue`. A mark is one row for a rule and a source, and waits in place of tasks: each arrival puts it off.
Whoever relinks or merges need not know of rules: every change of a link is a new row, and these are read in turn, up to
where each rule has come. Marks of rules that this service does not know are left for who does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from astra import asking, queue
from astra.database.connection import by_index, changed, database, execute, is_sqlite, run
from astra.database.fields import instant_text, read_instant
from astra.database.staging import among, stage
from astra.known import signature_text
from astra.rules import Facts, Rule, applies, task_of
from astra.states import IS_LIVE
from astra.work import Input, NewTask

CHUNK = 500  # sources gathered in one transaction
LINKS = 5_000  # links read in one turn
_LOOK_AGAIN = timedelta(minutes=1)  # at a source with a task that somebody else held when it was to be superseded
_PATIENCE = 10  # waits after which a source is gathered though its data products go on changing


def that_gather(rules: Iterable[Rule]) -> list[Rule]:
    """Return those of the rules that gather."""
    return [each for each in rules if each.gather is not None]


# ----------------------------------------------------------------------------------------------------------- marking


def mark(rule: Rule, sources: Collection[int], now: datetime, replay: int | None = None) -> None:
    """Note that data products of these sources have changed, in the caller's transaction if there is one.

    A source that is marked already is put off again, but not beyond ten times the rule's `wait`. A mark that new work
    made stays new work's; but what was gathered already is gathered again, if a replay has asked.
    """
    wait = timedelta(seconds=rule.wait)
    _write(rule, sources, (now, now + wait, now + _PATIENCE * wait), (replay, replay))


def mark_due(rule: Rule, sources: Collection[int], now: datetime, replay: int) -> None:
    """Have these sources gathered at once, for a replay."""
    _write(rule, sources, (now, now, now), (replay, None))


def mark_files(rules: Iterable[Rule], ingestions: Sequence[int], now: datetime) -> None:
    """Note that the files of these rows of the ledger have gone, or are there again, in the caller's transaction."""
    for rule in that_gather(rules) if ingestions else ():
        which, parameter = among("g.id", ingestions, "BIGINT")
        with by_index():
            rows = run(
                "SELECT DISTINCT l.source_id FROM ingestion g JOIN data_product p ON p.current_ingestion_id = g.id "
                "AND p.id = g.data_product_id JOIN source_data_product l ON l.data_product_id = p.id "
                f"WHERE {which} AND p.filetype = ? AND l.superseded_by_id IS NULL AND l.source_id IS NOT NULL",
                (parameter, rule.filetype),
            )
        mark(rule, {source for (source,) in rows}, now)


def _write(
    rule: Rule, sources: Collection[int], times: tuple[datetime, ...], replays: tuple[int | None, int | None]
) -> None:
    """Write marks with their times, the replay whose they are, and the one that wants done work repeated."""
    if not sources:
        return
    columns = {"source_id": "BIGINT", "since": "INSTANT", "due": "INSTANT", "latest": "INSTANT"}
    columns |= {"replay_id": "BIGINT", "again_id": "BIGINT"}
    texts = [instant_text(each) for each in times]
    with database.atomic():
        stage("marked", columns, [(source, *texts, *replays) for source in sorted(sources)])
        execute(
            f"INSERT INTO gathering (rule, {', '.join(columns)}) "
            f"SELECT CAST(? AS TEXT), {', '.join(columns)} FROM marked WHERE true ORDER BY source_id "
            "ON CONFLICT (rule, source_id) DO UPDATE SET "
            "due = CASE WHEN excluded.due < gathering.latest THEN excluded.due ELSE gathering.latest END, "
            "replay_id = CASE WHEN gathering.replay_id IS NOT NULL THEN excluded.replay_id END, "
            "again_id = coalesce(excluded.again_id, gathering.again_id)",
            (rule.name,),
        )


def follow_links(rules: Iterable[Rule], now: datetime) -> bool:
    """Mark the sources that have lost or won data products, as links tell that were written since the last call.

    A data product that is linked for the first time is marked by who takes it in. A rule that is new begins with what
    changes from now on.

    Returns
    -------
    bool
        Whether there was anything to read.
    """
    gathers = that_gather(rules)
    if not gathers:
        return False
    last = _last_link()
    known = _positions(gathers)
    followed = [_follow(each, known.get(each.name), last, now) for each in gathers]
    return any(followed)


def _positions(rules: Sequence[Rule]) -> dict[str, int]:
    which, parameter = among("rule", [each.name for each in rules])
    return dict(run(f"SELECT rule, link FROM gather_position WHERE {which}", (parameter,)))


def _last_link() -> int:
    return int(run("SELECT coalesce(max(id), 0) FROM source_data_product")[0][0])


def _follow(rule: Rule, position: int | None, last: int, now: datetime) -> bool:
    if position is None:
        with database.atomic():
            execute("INSERT INTO gather_position VALUES (?, ?) ON CONFLICT (rule) DO NOTHING", (rule.name, last))
        return True
    if position >= last:
        return False
    to = min(last, position + LINKS)
    with database.atomic():
        # guarded: of several services one reads these links; who writes links holds a lock, so none of them comes later
        moved = "UPDATE gather_position SET link = ? WHERE rule = ? AND link = ?"
        if changed(moved, (to, rule.name, position)):
            mark(rule, _shifted(rule, position, to), now)
    return True


def _shifted(rule: Rule, after: int, to: int) -> set[int]:
    """Return the sources that lost or won a data product of a rule's type by the links between two keys."""
    with by_index():
        rows = run(
            "SELECT l.source_id, o.source_id FROM source_data_product l JOIN source_data_product o "
            "ON o.data_product_id = l.data_product_id AND o.superseded_by_id = l.id "
            "JOIN data_product p ON p.id = l.data_product_id "
            "WHERE l.id > ? AND l.id <= ? AND p.filetype = ? AND coalesce(l.source_id, 0) <> coalesce(o.source_id, 0)",
            (after, to, rule.filetype),
        )
    return {source for row in rows for source in row if source is not None}


# --------------------------------------------------------------------------------------------------------- gathering


class Mark(NamedTuple):
    """A source to be gathered; `replay` where one asked, and `again` where it asked for what is done already too."""

    source: int
    replay: int | None = None
    again: bool = False


@dataclass(slots=True)
class Gathered:
    """What one turn did for one rule: sources looked at, tasks enqueued, and older ones that they took the place of."""

    rule: str
    sources: int = 0
    tasks: list[int] = field(default_factory=list)
    superseded: int = 0


def gather_due(rules: Iterable[Rule], now: datetime) -> list[Gathered]:
    """Enqueue the tasks of up to `CHUNK` sources of each rule whose time has come, a transaction for each rule.

    Where the same inputs were gathered already, or are about to be, nothing is enqueued. A pending task of the same
    rule on any of them is cancelled; one that runs stands, and so does its result.
    """
    found = []
    for rule in that_gather(rules):
        if run("SELECT 1 FROM gathering WHERE rule = ? AND due <= ? LIMIT 1", (rule.name, instant_text(now))):
            with database.atomic():
                found.append(_gather(rule, _take(rule, now), now))
    return [each for each in found if each.sources]


def _take(rule: Rule, now: datetime) -> list[Mark]:
    """Take the marks that are due, and nobody else's: in the transaction that enqueues what they ask for."""
    skipped = "" if is_sqlite() else " FOR UPDATE SKIP LOCKED"
    due = f"SELECT source_id FROM gathering WHERE rule = ? AND due <= ? ORDER BY due LIMIT {CHUNK}{skipped}"
    which = f"IN ({due})" if is_sqlite() else f"= ANY (ARRAY({due}))"
    rows = run(
        f"DELETE FROM gathering WHERE rule = ? AND source_id {which} RETURNING source_id, replay_id, again_id",
        (rule.name, rule.name, instant_text(now)),
    )
    return _canonical([Mark(source, replay, again is not None) for source, replay, again in rows])


def _canonical(marks: Sequence[Mark]) -> list[Mark]:
    """Return marks of sources as they are now: of those that were merged, of what they became."""
    became = asking.now([each.source for each in marks])
    found: dict[int, Mark] = {}
    for each in marks:
        own = each._replace(source=became.get(each.source, each.source))
        other = found.setdefault(own.source, own)
        found[own.source] = other._replace(
            replay=own.replay if other.replay is not None else None, again=own.again or other.again
        )
    return list(found.values())


def _gather(rule: Rule, marks: Sequence[Mark], now: datetime) -> Gathered:
    done = Gathered(rule.name, len(marks))
    inputs = inputs_of(rule, [each.source for each in marks])
    tasks = [(each, task_of(rule, inputs[each.source], each.replay)) for each in marks if each.source in inputs]
    products = _products(rule, [each.source for each in marks])
    if products:
        cancelled, held = queue.supersede_gathered(rule.name, products, [str(task.identity) for _, task in tasks])
        done.superseded = len(cancelled)
        if held:
            _look_again(rule, held, [each.source for each in marks], now)
    if not tasks:
        return done
    live, completed = live_and_completed([task for _, task in tasks])
    new = [task for each, task in tasks if task.identity not in live and (each.again or task.identity not in completed)]
    done.tasks = queue.enqueue(new, now)
    return done


def _look_again(rule: Rule, tasks: Sequence[int], sources: Sequence[int], now: datetime) -> None:
    """Keep the marks of those of the sources that have or had inputs of these tasks, for a look a little later."""
    given, keys = among("i.task_id", tasks, "BIGINT")
    own, parameter = among("l.source_id", sources, "BIGINT")
    with by_index():
        rows = run(
            "SELECT DISTINCT l.source_id FROM task_input_data_product i "
            f"JOIN source_data_product l ON l.data_product_id = i.data_product_id WHERE {given} AND {own}",
            (keys, parameter),
        )
    _write(rule, [source for (source,) in rows], (now, now + _LOOK_AGAIN, now + _LOOK_AGAIN), (None, None))


def _products(rule: Rule, sources: Sequence[int]) -> list[int]:
    """Return the data products whose pending tasks a look at these sources supersedes, but for those on what is there.

    Those that are of these sources, also where their file is missing; and those that were, and are of none now: no
    other source's task supersedes theirs.
    """
    which, parameter = among("l.source_id", sources, "BIGINT")
    with by_index():
        rows = run(
            "SELECT DISTINCT l.data_product_id FROM source_data_product l JOIN source_data_product n "
            "ON n.data_product_id = l.data_product_id AND n.superseded_by_id IS NULL "
            "JOIN data_product p ON p.id = l.data_product_id "
            f"WHERE {which} AND p.filetype = ? AND (n.id = l.id OR n.source_id IS NULL)",
            (parameter, rule.filetype),
        )
    return [key for (key,) in rows]


def live_and_completed(tasks: Sequence[NewTask]) -> tuple[set[str], set[str]]:
    """Return which of these tasks' identities are pending or running, and which are completed."""
    which, parameter = among("identity", [task.identity for task in tasks])
    with by_index():
        rows = run(
            f"SELECT identity, CASE WHEN {IS_LIVE} THEN 1 ELSE 0 END FROM task WHERE {which} "
            f"AND state || '' IN ('pending', 'running', 'completed')",
            (parameter,),
        )
    return {each for each, live in rows if live}, {each for each, live in rows if not live}


def inputs_of(rule: Rule, sources: Sequence[int]) -> dict[int, tuple[Input, ...]]:
    """Return, by source, the data products that a rule gathers now, in the order of their identities.

    Those are the ones of its product type that fulfil its conditions, whose link stands and whose file is not missing.
    A source that has none is left out.
    """
    which, parameter = among("l.source_id", sources, "BIGINT")
    with by_index():
        rows = run(
            "SELECT l.source_id, p.id, p.identity, p.release, p.kwargs, p.metadata, g.id, g.size, g.mtime_ns, "
            "g.header_sha256 FROM source_data_product l JOIN data_product p ON p.id = l.data_product_id "
            f"JOIN ingestion g ON g.id = p.current_ingestion_id WHERE {which} AND l.superseded_by_id IS NULL "
            "AND p.filetype = ? AND g.outcome = 'ingested' AND g.missing_since IS NULL",
            (parameter, rule.filetype),
        )
    found: dict[int, list[Input]] = {}
    for source, *row in rows:
        given = Input(row[0], row[5], row[1], signature_text(*row[6:]))
        if not rule.where or applies(rule, Facts(rule.filetype, _values(row), given)):
            found.setdefault(source, []).append(given)
    return {source: tuple(sorted(given, key=attrgetter("identity"))) for source, given in found.items()}


def current_sets(rule: Rule, data_products: Collection[int]) -> set[frozenset[int]]:
    """Return the sets of data products that a rule gathers now, of the sources of these."""
    which, parameter = among("data_product_id", sorted(data_products), "BIGINT")
    with by_index():
        rows = run(
            f"SELECT DISTINCT source_id FROM source_data_product WHERE {which} AND superseded_by_id IS NULL "
            "AND source_id IS NOT NULL",
            (parameter,),
        )
    sets = inputs_of(rule, [source for (source,) in rows]).values()
    return {frozenset(each.data_product for each in given) for given in sets}


def _values(row: Sequence[Any]) -> dict[str, Any]:
    return {**json.loads(row[3]), **json.loads(row[4]), "release": row[2]}


# -------------------------------------------------------------------------------------------------- what still waits


def is_left(rules: Iterable[Rule]) -> bool:
    """Return whether these rules have anything to gather, now or later."""
    gathers = that_gather(rules)
    if not gathers:
        return False
    which, parameter = among("rule", [each.name for each in gathers])
    if run(f"SELECT 1 FROM gathering WHERE {which} LIMIT 1", (parameter,)):
        return True
    last, known = _last_link(), _positions(gathers)
    return any(known.get(each.name, -1) < last for each in gathers)


def unknown(names: Collection[str]) -> list[tuple[str, int]]:
    """Return the rules that have marks and are none of these, each with how many: renamed, removed, or elsewhere."""
    return [(rule, count) for rule, count, _ in counts() if rule not in names]


def drop(replay: int) -> int:
    """Take back the marks that a replay made, in the caller's transaction; return how many those were."""
    execute("UPDATE gathering SET again_id = NULL WHERE again_id = ?", (replay,))
    return changed("DELETE FROM gathering WHERE replay_id = ?", (replay,))


def marked_by(replay: int) -> set[int]:
    """Return the sources that wait to be gathered because a replay asked."""
    return {source for (source,) in run("SELECT source_id FROM gathering WHERE replay_id = ?", (replay,))}


def waiting(sources: Sequence[int]) -> list[Mapping[str, Any]]:
    """Return what marks there are of sources: the rule, since when, when it is due, and when at the latest."""
    which, parameter = among("source_id", sources, "BIGINT")
    rows = run(
        f"SELECT rule, since, due, latest, replay_id FROM gathering WHERE {which} ORDER BY due, rule", (parameter,)
    )
    names = ("rule", "since", "due", "latest", "replay")
    return [dict(zip(names, (row[0], *map(read_instant, row[1:4]), row[4]), strict=True)) for row in rows]


def counts() -> Iterator[tuple[str, int, datetime | None]]:
    """Yield, of each rule that has marks, how many those are and when the first of them is due."""
    for rule, count, due in run("SELECT rule, count(*), min(due) FROM gathering GROUP BY rule ORDER BY rule"):
        yield rule, count, read_instant(due)
