"""Fixtures for the survey's catalogue: on a server with q3c, as the survey's own is, and on one with plain indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playhouse.pool import PooledPostgresqlDatabase

from astra.catalogue.survey import SurveyCatalogue
from tests.support.postgres import Server
from tests.support.surveysky import INDEXES, RADIUS, SKY, make, opened


@pytest.fixture(scope="module", params=INDEXES)
def survey(request: pytest.FixtureRequest) -> Iterator[SurveyCatalogue]:
    """The catalogue of `SKY`, by each kind of index of positions."""
    server = request.getfixturevalue("q3c_server" if request.param == "q3c" else "pg_server")
    with opened(server, SKY, request.param) as catalogue:
        yield catalogue


@pytest.fixture
def own(pg_server: Server) -> Iterator[str]:
    """The URL of a catalogue of `SKY` that a test may take apart."""
    name = make(pg_server, SKY, "dec")
    yield pg_server.url(name)
    pg_server.drop(name)


@pytest.fixture
def reopen() -> Iterator[Callable[[str], SurveyCatalogue]]:
    """A function that opens the catalogue at a URL, to be closed after the test."""
    made: list[SurveyCatalogue] = []

    def make_one(url: str) -> SurveyCatalogue:
        made.append(SurveyCatalogue(url, RADIUS))
        return made[-1]

    yield make_one
    for each in made:
        each.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent from now on, on the real connections."""
    sent: list[str] = []
    execute = PooledPostgresqlDatabase.execute_sql

    def counting(self: PooledPostgresqlDatabase, sql: str, *arguments: Any, **named: Any) -> Any:
        sent.append(sql)
        return execute(self, sql, *arguments, **named)

    monkeypatch.setattr(PooledPostgresqlDatabase, "execute_sql", counting)
    return sent
