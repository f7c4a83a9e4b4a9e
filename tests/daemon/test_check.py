"""`astrad check`: every finding says what to change, and looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import peewee
import pytest

from astra.database.astradb import Gathering
from astra.errors import ConfigurationError
from daemon import check as module
from daemon.check import check
from tests.support.clock import START
from tests.support.site import QUALITY, QUALITY_RULES, Site


def findings(site: Site) -> dict[str, tuple[bool, str]]:
    found: dict[str, tuple[bool, str]] = {}
    for each in check(site.settings()):
        good, message = found.get(each.subject, (True, ""))
        found[each.subject] = (good and each.good, message + each.message)
    return found


@pytest.fixture
def site(tmp_path: Path, database_url: str, database: peewee.Database) -> Site:
    return Site(tmp_path, database_url, QUALITY_RULES)


def test_all_is_well_where_all_is_well(site: Site) -> None:
    found = findings(site)
    assert all(good for good, _ in found.values()), found
    assert "is reached and up to date" in found["database"][1]
    assert found["rules"] == (True, "2 rules, for apStar, apVisit")
    assert "is a local file system" in found["watch redux"][1]


def test_marks_that_no_rule_takes_any_more_are_told(site: Site) -> None:
    now = START
    Gathering.insert(rule="old name", source=1, since=now, due=now, latest=now).execute()
    good, message = findings(site)["database"]
    assert good
    assert message.endswith("; sources that wait to be gathered by 'old name', which is no rule of these settings: 1")


def test_an_empty_database_will_get_its_tables_at_the_start(tmp_path: Path, empty_database_url: str) -> None:
    found = findings(Site(tmp_path, empty_database_url))
    good, message = found["database"]
    assert good
    assert "made at the first start" in message


def test_nothing_is_made(tmp_path: Path) -> None:
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'deep' / 'astra.sqlite'}")
    site.settings()
    before = sorted(tmp_path.rglob("*"))
    assert findings(site)["database"] == (True, f"{tmp_path / 'deep' / 'astra.sqlite'} will be made at the first start")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_is_bad(site: Site) -> None:
    settings = site.settings()
    site.tree.rmdir()
    bad = {each.subject: each.message for each in check(settings) if not each.good}
    assert bad == {
        "watch redux": f"{site.tree} cannot be read: No such file or directory; make it, or correct its path"
    }


def test_a_database_that_cannot_be_reached_is_bad(tmp_path: Path) -> None:
    good, message = findings(Site(tmp_path, "postgresql://nobody@/nothing?host=/nowhere"))["database"]
    assert not good
    assert message.startswith("the database cannot be used now: ")
    assert message.endswith("; start it, or name another in [database] url")


def test_a_rule_that_cannot_be_used_is_bad_and_named(site: Site) -> None:
    site.rules = [{"name": "typo", "filetype": "apStars", "task": "nowhere.Nothing"}]
    good, message = findings(site)["rules"]
    assert not good
    assert "rule 'typo'" in message
    assert "did you mean apStar?" in message


def test_a_calendar_entry_that_cannot_be_made_is_bad_and_named(site: Site) -> None:
    site.schedule = [{"name": "nightly", "cron": "0 12 * * *", "task": "nowhere.Nothing"}]
    good, message = findings(site)["rules"]
    assert not good
    assert "[[schedule]] 'nightly'" in message


def test_limits_of_a_component_that_cannot_be_imported_are_bad_and_named(site: Site) -> None:
    site.components = [{"task": QUALITY, "timeout": 60}, {"task": "wild.Doo", "timeout": 60}]
    good, message = findings(site)["components"]
    assert not good
    assert f"{QUALITY} can be imported" in message
    assert "[[components]] task = 'wild.Doo': there is no component wild.Doo" in message


def test_a_folder_for_logs_that_cannot_be_written_is_bad(site: Site, tmp_path: Path) -> None:
    assert findings(site)["[log] folder"] == (True, f"{tmp_path / 'state' / 'bundles'} can be written")
    (tmp_path / "file").touch()
    site.sections["log"] = {"folder": str(tmp_path / "file" / "logs")}
    good, message = findings(site)["[log] folder"]
    assert not good
    assert "/file/logs cannot be written by this user" in message


def test_a_folder_for_logs_in_a_watched_folder_is_refused(site: Site) -> None:
    site.sections["log"] = {"folder": str(site.tree / "logs")}
    with pytest.raises(ConfigurationError, match=r"\[log\] folder = .*/sas/logs: lies in the watched folder .*/sas,"):
        site.settings()


def test_a_state_folder_in_a_watched_folder_is_refused_for_the_logs_in_it(site: Site, tmp_path: Path) -> None:
    site.watch["path"] = str(tmp_path / "state")
    words = r"\[service\] state = .*/state, where \[log\] folder is by default: lies in the watched folder .*/state,"
    with pytest.raises(ConfigurationError, match=words):
        site.settings()
    site.sections["log"] = {"folder": str(tmp_path / "logs")}
    assert site.settings().bundle_logs == tmp_path / "logs"


def test_more_folders_than_the_kernel_watches_are_bad_with_the_command_that_helps(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "max_user_watches"
    limit.write_text("3\n")
    monkeypatch.setattr(module, "_LIMIT", limit)
    for name in "abc":
        (site.tree / name).mkdir(parents=True)
    good, message = findings(site)["watch redux"]
    assert not good
    assert "4 folders, of which the kernel watches 3: sysctl fs.inotify.max_user_watches=8" in message


def test_without_a_watched_folder_it_says_what_that_means(tmp_path: Path, database_url: str) -> None:
    from astra import config

    path = tmp_path / "config.toml"
    path.write_text(f'[database]\nurl = "{database_url}"\n[service]\nstate = "{tmp_path}"\n')
    found = {each.subject: each for each in check(config.load(path, {"HOME": str(tmp_path)}))}
    assert found["watch"].good
    assert "only runs tasks that others enqueue" in found["watch"].message
