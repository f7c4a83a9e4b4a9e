"""What must hold before the service starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from astra.errors import AstraError, ConfigurationError
from daemon import startup
from daemon.startup import compile_rules, lock_root, refuse_network_sqlite
from tests.support.site import QUALITY_RULES, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, f"sqlite:///{tmp_path / 'astra.sqlite'}", QUALITY_RULES)


def test_a_root_is_locked_by_one_and_free_again_when_that_one_is_done(site: Site) -> None:
    settings = site.settings()
    [watch] = settings.watch
    for _ in range(2):
        with (
            lock_root(settings, watch),
            pytest.raises(AstraError, match=f"watched already, by astrad process {os.getpid()}: stop that one first$"),
            lock_root(settings, watch),
        ):
            pass


def test_another_root_and_another_database_are_not_locked(site: Site) -> None:
    settings = site.settings()
    [watch] = settings.watch
    elsewhere = replace(settings, database=replace(settings.database, url="sqlite:////elsewhere.sqlite"))
    with lock_root(settings, watch), lock_root(settings, replace(watch, name="other")), lock_root(elsewhere, watch):
        pass


def test_a_home_that_machines_share_does_not_make_them_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = site.settings()
    settings = replace(settings, database=replace(settings.database, url="postgresql://a@b/c"))
    [watch] = settings.watch
    with lock_root(settings, watch):
        own = rf"watched already, .* or give this one a \[service\] state .* of its own: that one has {site.folder}"
        with pytest.raises(AstraError, match=own), lock_root(settings, watch):
            pass
        monkeypatch.setattr("astra.provenance.host", lambda: "another")
        with lock_root(settings, watch):
            pass


def test_a_state_folder_that_cannot_be_made_is_a_matter_of_the_settings(site: Site) -> None:
    (site.folder / "state").write_text("a file in its place")
    settings = site.settings()
    with (
        pytest.raises(ConfigurationError, match=r"\[service\] state = .* cannot be written"),
        lock_root(settings, settings.watch[0]),
    ):
        pass


def test_sqlite_on_a_network_is_refused_with_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = site.settings()
    refuse_network_sqlite(settings)
    monkeypatch.setattr(startup, "filesystem_kind", lambda path: "nfs4")
    with pytest.raises(ConfigurationError, match=r"lies on nfs4, .* put it on a local disk, or use PostgreSQL"):
        refuse_network_sqlite(settings)
    refuse_network_sqlite(replace(settings, database=replace(settings.database, url="postgresql://a@b/c")))


def test_every_rule_is_made_once_as_a_trial(site: Site) -> None:
    assert [each.filetype for each in compile_rules(site.settings())] == ["apVisit", "apStar"]
    site.rules = [{**QUALITY_RULES[0], "parameters": {"snr_tolerance": -1}}]
    with pytest.raises(ConfigurationError, match=r"rule 'quality-visit': .*snr_tolerance must be at least 0"):
        compile_rules(site.settings())
