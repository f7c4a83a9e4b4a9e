"""Settings: found in order, checked whole, every problem named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra import config, settings_file
from astra.errors import ConfigurationError
from astra.settings_values import Condition, Place, Refused, cron

ROOT = Path(__file__).parents[2]


def load(folder: Path, text: str, **environ: str) -> config.Settings:
    file = folder / "config.toml"
    file.write_text(text)
    return config.load(file, {"HOME": "/home/ada", **environ})


def problems(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, **environ)
    return str(caught.value)


def test_without_any_file_every_setting_has_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = config.load(environ={"HOME": str(tmp_path / "ada")})
    assert settings.source is None
    assert settings.database.url == f"sqlite:///{tmp_path}/ada/.local/share/astra/astra.sqlite"
    assert settings.output.root == tmp_path / "ada/.local/share/astra/output"
    assert settings.service.state == tmp_path / "ada/.local/share/astra"
    assert settings.executor.workers == os.cpu_count()
    assert (settings.watch, settings.rules, settings.schedule) == ((), (), ())


def test_the_sample_is_valid_and_names_every_setting() -> None:
    text = (ROOT / "config.toml").read_text()
    settings = config.load(ROOT / "config.toml", {"HOME": "/home/ada"})
    assert settings.watch[0].path == ROOT / "spectra"
    assert [rule.filetype for rule in settings.rules] == ["apVisit", "apStar"]
    for setting in config.SETTINGS:
        assert setting.section in text, setting
        assert any(line.lstrip("# ").startswith(f"{setting.name} = ") for line in text.splitlines()), setting


def test_the_sample_shows_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text()
    sample, bare = load(tmp_path, text), load(tmp_path, "")
    for section in ("database", "settle", "scheduler", "executor", "output", "service", "log"):
        assert getattr(sample, section) == getattr(bare, section)


def test_every_setting_has_a_default_and_a_meaning() -> None:
    assert all(setting.default and setting.meaning for setting in config.SETTINGS)
    assert len({(each.section, each.name) for each in config.SETTINGS}) == len(config.SETTINGS)


def test_files_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": str(tmp_path)}
    own = tmp_path / ".config" / "astra" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[settle]\nquiet = 1")
    assert config.load(environ=environ).settle.quiet == 1
    Path("config.toml").write_text("[settle]\nquiet = 2")
    assert config.load(environ=environ).settle.quiet == 2
    Path("named.toml").write_text("[settle]\nquiet = 3")
    environ["ASTRA_CONFIG"] = "named.toml"
    assert config.load(environ=environ).settle.quiet == 3
    Path("asked.toml").write_text("[settle]\nquiet = 4")
    assert config.load(Path("asked.toml"), environ).settle.quiet == 4


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the settings file .*gone\.toml"):
        config.load(environ={"ASTRA_CONFIG": str(tmp_path / "gone.toml")})


def test_a_file_that_is_not_toml_is_an_error_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in problems(tmp_path, "[settle]\nquiet = = 3\n")


def test_all_problems_are_told_at_once_with_key_value_and_what_is_allowed(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """
        [scedule]
        [settle]
        quite = 5
        patience = "long"
        [executor]
        name = "slurmy"
        workers = true
        [[watch]]
        [log]
        level = "loud"
        """,
    )
    assert "[scedule]: there is no such section; did you mean schedule?" in told
    assert "[settle] quite = 5: there is no such setting; did you mean quiet?" in told
    assert '[settle] patience = "long": must be a number above 0' in told
    assert '[executor] name = "slurmy": must be "local"' in told
    assert "[executor] workers = true: must be a whole number of at least 1" in told
    assert "[[watch]] path: must be given" in told
    assert '[log] level = "loud": must be "debug" or "info" or "warning" or "error"' in told


def test_one_stanza_where_there_may_be_several_is_explained(tmp_path: Path) -> None:
    assert "write [[rules]]" in problems(tmp_path, '[rules]\nname = "a"')
    assert "[settle] = [{}]: must be one table, written [settle]" in problems(tmp_path, "[[settle]]")


def test_the_stanza_with_the_problem_is_numbered(tmp_path: Path) -> None:
    text = '[[watch]]\npath = "a"\n[[watch]]\npath = "b"\nmode = "sometimes"'
    assert '[[watch]] 2 mode = "sometimes"' in problems(tmp_path, text)


def test_a_stanza_with_a_name_is_called_by_it(tmp_path: Path) -> None:
    rule = 'filetype = "apStar"\ntask = "a.B"\ngather = "star"'
    text = f'[[rules]]\nname = "one"\n{rule}\n[[rules]]\nname = "two"\n{rule}\nprioritty = 3'
    told = problems(tmp_path, f'{text}\n[[components]]\ntask = "a.B"\n[components.slurm]\ntime = "long"')
    assert '[[rules]] "one": gather = "star": must be "source"' in told
    assert '[[rules]] "two": prioritty = 3: there is no such setting; did you mean priority?' in told
    assert '[components.slurm] of "a.B": time = "long": must be a whole number' in told


def test_paths_start_at_the_files_folder_and_a_tilde_is_home(tmp_path: Path) -> None:
    text = '[[watch]]\npath = "spectra/../visits"\n[output]\nroot = "~/out"\n[database]\nurl = "sqlite:///a.sqlite"'
    settings = load(tmp_path, text)
    assert settings.watch[0].path == tmp_path / "visits"
    assert settings.watch[0].name == str(tmp_path / "visits")
    assert settings.output.root == Path("/home/ada/out")
    assert settings.database.url == f"sqlite:///{tmp_path}/a.sqlite"
    assert settings.service.state == tmp_path


def test_the_environment_names_the_database_before_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, '[database]\nurl = "sqlite:///a.sqlite"', ASTRA_DATABASE_URL="postgres://ada@host/sky")
    assert settings.database.url == "postgresql://ada@host/sky"
    assert "$ASTRA_DATABASE_URL" in problems(tmp_path, "", ASTRA_DATABASE_URL="mysql://host/sky")


def test_the_state_folder_is_systemds_then_beside_the_database_then_the_users(tmp_path: Path) -> None:
    text = '[database]\nurl = "postgresql:///sky"'
    assert load(tmp_path, text, STATE_DIRECTORY="/var/lib/astra:/x").service.state == Path("/var/lib/astra")
    assert load(tmp_path, text).service.state == Path("/home/ada/.local/state/astra")
    assert load(tmp_path, text, XDG_STATE_HOME="/s").service.state == Path("/s/astra")


def test_conditions_become_facts_operations_and_values(tmp_path: Path) -> None:
    text = """
    [[rules]]
    name = "good"
    filetype = "apVisit"
    task = "package.module.Class"
    where = { snr = { ge = 10, lt = 200 }, telescope = "apo25m", field = ["a", "b"] }
    """
    assert load(tmp_path, text).rules[0].where == (
        Condition("snr", "ge", 10),
        Condition("snr", "lt", 200),
        Condition("telescope", "eq", "apo25m"),
        Condition("field", "in", ("a", "b")),
    )


@pytest.mark.parametrize(
    "where",
    ["{snr = {above = 3}}", "{snr = {}}", "{field = []}", "{snr = {ge = [3]}}", "{snr = nan}", "{snr = {ge = true}}"],
)
def test_a_condition_of_another_shape_is_refused(tmp_path: Path, where: str) -> None:
    text = f'[[rules]]\nname = "r"\nfiletype = "apStar"\ntask = "a.B"\nwhere = {where}'
    assert '[[rules]] "r": where' in problems(tmp_path, text)


@pytest.mark.parametrize("task", ["Class", "package.", "package.module:Class", "a b.C", 3])
def test_a_component_is_named_by_dots(tmp_path: Path, task: object) -> None:
    text = f'[[rules]]\nname = "r"\nfiletype = "apStar"\ntask = {json.dumps(task)}'
    assert "package.module.Class" in problems(tmp_path, text)


@pytest.mark.parametrize("text", ["* * * * *", "30 4 * * mon-fri", "*/15 0-6,12 1 jan,mar sun", "0 4-20/4 * * SUN"])
def test_a_calendar_entry_has_five_fields(text: str) -> None:
    assert cron(text, Place(Path("/"), {})) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-2 * * * *",
        "*/0 * * * *",
        "@daily",
        5,
    ],
)
def test_a_calendar_entry_that_never_comes_is_refused(text: object) -> None:
    with pytest.raises(Refused, match="five fields"):
        cron(text, Place(Path("/"), {}))


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """
        [settle]
        quiet = 700
        [scheduler]
        tick = 60
        [output]
        root = "data/out"
        [[watch]]
        path = "data"
        name = "one"
        [[watch]]
        path = "data/deep"
        name = "one"
        """,
    )
    assert "[settle] quiet = 700: must be less than patience" in told
    assert "[scheduler] tick = 60: must be less than lease" in told
    assert '[[watch]] name = "one": used 2 times' in told
    assert f"[[watch]] path = {tmp_path}/data/deep: lies in {tmp_path}/data" in told
    assert "[output] root" in told


RULES = """
[[rules]]
name = "first"
filetype = "apVisit"
task = "a.First"
[[rules]]
name = "of stars"
filetype = "apStar"
task = "a.First"
[[rules]]
name = "all"
filetype = "apVisit"
task = "a.All"
gather = "source"
[[rules]]
name = "next"
filetype = "apVisit"
task = "a.Next"
"""


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('after = "frist"', '"next": after = "frist": there is no such rule; did you mean first?'),
        ('after = "x"', '"next": after = "x": there is no such rule; there are all, first'),
        ('after = "next"', "so they wait for each other, next -> next, and none would ever run"),
        ('after = "of stars"', "is a rule for apStar, and this one is for apVisit"),
        ('after = "all"', "is a rule that gathers, so it has no task on one data product that could be waited for"),
        ('after = "first"\ngather = "source"', "cannot stand beside gather"),
        ('gather = "field"', "gather"),
        ('gather = "source"\nwait = -1', "wait = -1: must be a number of at least 0"),
        ("wait = 60", '[[rules]] "next": wait = 60: is for rules that gather; write gather = "source" as well'),
        (
            'after = "last"\n[[rules]]\nname = "last"\nfiletype = "apVisit"\ntask = "a.Last"\nafter = "next"',
            "next -> last -> next",
        ),
    ],
)
def test_a_rule_that_could_never_have_its_turn_is_refused(tmp_path: Path, written: str, words: str) -> None:
    assert words in problems(tmp_path, RULES + written)


def test_rules_that_come_after_others_are_taken(tmp_path: Path) -> None:
    chain = 'after = "first"\n[[rules]]\nname = "last"\nfiletype = "apVisit"\ntask = "a.Last"\nafter = "next"'
    (tmp_path / "config.toml").write_text(RULES + chain)
    rules = config.load(tmp_path / "config.toml", {"HOME": str(tmp_path)}).rules
    assert [(each.after, each.gather, each.wait) for each in rules[2:]] == [
        (None, "source", 3600.0),
        ("first", None, 3600.0),
        ("next", None, 3600.0),
    ]


def test_one_folder_watched_under_two_names_is_refused_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert "every file would come twice" in problems(tmp_path, '[[watch]]\npath = "data"\n[[watch]]\npath = "link"')


def test_neighbours_whose_names_begin_alike_are_no_nest(tmp_path: Path) -> None:
    text = '[[watch]]\npath = "data"\n[[watch]]\npath = "data2"\n[output]\nroot = "data3"'
    assert len(load(tmp_path, text).watch) == 2


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, '[database]\nurl = "postgresql://ada:s3cr@t@host/sky"')
    described = json.dumps(config.describe(settings))
    assert "postgresql://ada:***@host/sky" in described
    assert "s3cr" not in described
    assert "s3cr" not in problems(tmp_path, '[database]\nurl = "mysql://ada:s3cret@host/sky"')


def test_the_surveys_catalogue_is_a_postgresql_database_and_its_password_is_never_shown(tmp_path: Path) -> None:
    assert load(tmp_path, "").catalog.url is None
    assert config.describe(load(tmp_path, ""))["catalog"]["url"] is None
    settings = load(tmp_path, '[catalog]\nurl = "postgres://ada:s3cr@t@host/sky"')
    assert settings.catalog.url == "postgresql://ada:s3cr@t@host/sky"
    described = json.dumps(config.describe(settings))
    assert "postgresql://ada:***@host/sky" in described
    assert "s3cr" not in described
    for url in ("sqlite:///sky.sqlite", "mysql://ada:s3cret@host/sky", "postgresql://", "postgresql://ada:s3cret%@h/s"):
        told = problems(tmp_path, f'[catalog]\nurl = "{url}"')
        assert "must be postgresql://USER@HOST/NAME" in told
        assert "s3cr" not in told
    assert "must be postgresql://USER@HOST/NAME" in problems(tmp_path, "[catalog]\nurl = 3")


@pytest.mark.parametrize("radius", ["0", "-1", "60.1", "nan", "inf", "true", '"3"'])
def test_the_catalogue_is_searched_within_a_minute_of_arc_at_most(tmp_path: Path, radius: str) -> None:
    assert load(tmp_path, "[catalog]\nradius = 60").catalog.radius == 60.0
    assert "must be a number above 0, at most 60" in problems(tmp_path, f"[catalog]\nradius = {radius}")


def test_what_is_described_is_json_and_whole(tmp_path: Path) -> None:
    text = '[[watch]]\npath = "a"\n[[rules]]\nname = "r"\nfiletype = "apStar"\ntask = "a.B"\nwhere = {x = [1]}'
    described = json.loads(json.dumps(config.describe(load(tmp_path, text))))
    for setting in config.SETTINGS:
        name, _, inner = setting.section.strip("[]").partition(".")
        found = described[name] if isinstance(described[name], list) else [described[name]]
        assert all(setting.name in (each[inner] if inner else each) for each in found)


SLURM = '[database]\nurl = "postgresql://a@h/d"\n[executor]\nname = "slurm"\n'


def test_slurm_needs_postgresql(tmp_path: Path) -> None:
    told = problems(tmp_path, '[executor]\nname = "slurm"')
    assert 'name = "slurm": needs PostgreSQL in [database] url' in told
    assert load(tmp_path, SLURM).executor.name == "slurm"


def test_a_walltime_leaves_room_for_a_bundle_and_for_the_notice(tmp_path: Path) -> None:
    told = problems(tmp_path, f"{SLURM}[executor.slurm]\ntime = 10")
    words = (
        "is too short for bundles of target = 600 s and notice = 120 s, which Slurm may give 60 s early; 13 would do"
    )
    assert f"[executor.slurm] time = 10: {words}" in told
    told = problems(tmp_path, f"{SLURM}[executor.slurm]\ntime = 2")
    assert "time = 2: must be more than notice, which is 120 s" in told
    component = '[[components]]\ntask = "a.B"\ntarget = 3600\n[components.slurm]\ntime = 50'
    assert "[components.slurm] of a.B: time = 50: is too short" in problems(tmp_path, f"{SLURM}{component}")


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('[executor.slurm]\nfolder = "sas/jobs"', "[executor.slurm] folder = {}/sas/jobs"),
        (
            '[service]\nstate = "sas/state"\n[log]\nfolder = "logs"',
            "[service] state = {}/sas/state, where [executor.slurm]",
        ),
    ],
)
def test_what_jobs_print_is_no_event_of_a_watched_folder(tmp_path: Path, written: str, named: str) -> None:
    told = problems(tmp_path, f'{SLURM}{written}\n[[watch]]\npath = "sas"')
    assert named.format(tmp_path) in told
    assert f"lies in the watched folder {tmp_path}/sas; the scripts of jobs" in told
    load(tmp_path, '[service]\nstate = "sas/state"\n[log]\nfolder = "logs"\n[[watch]]\npath = "sas"')


def test_a_component_asks_slurm_for_what_is_its_own(tmp_path: Path) -> None:
    text = f"""{SLURM}[executor.slurm]\npartition = "p"\nprologue = "module load x\\nexport Y=1"
options = ["--qos=low"]\n[[components]]\ntask = "a.B"\n[components.slurm]\npartition = "q"\nmemory = 5"""
    settings = load(tmp_path, text)
    own, others = settings.slurm_of("a.B"), settings.slurm_of("a.C")
    assert (own.partition, own.memory, own.prologue) == ("q", 5, "module load x\nexport Y=1")
    assert (others.partition, others.memory, others.options) == ("p", None, ("--qos=low",))


@pytest.mark.parametrize("value", ['["-p"]', '["--qos low\\n--x"]', '"--qos=low"', "[3]"])
def test_an_option_of_sbatch_is_one_option(tmp_path: Path, value: str) -> None:
    assert "must be a list of options of one line each" in problems(tmp_path, f"[executor.slurm]\noptions = {value}")


def test_a_section_within_a_section_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    told = problems(tmp_path, "[executor.slurm]\npartitoin = 3")
    assert "[executor.slurm] partitoin = 3: there is no such setting; did you mean partition?" in told


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


@given(value=_values, setting=st.sampled_from(config.SETTINGS))
def test_any_value_is_taken_or_refused_with_its_key(value: object, setting: config.Setting) -> None:
    section, _, inner = setting.section.strip("[]").partition(".")
    given = {inner: {setting.name: value}} if inner else {setting.name: value}
    is_repeated = setting.section.startswith("[[") or section == "components"
    reader = config._Reader(Place(Path("/"), {"HOME": "/home/ada"}))
    if reader.settings({section: [given] if is_repeated else given}, None) is None:
        assert all(problem.startswith("[") for problem in reader.problems)


@pytest.mark.parametrize("priority", [-32769, 32768, 40000, 1 << 70])
def test_a_priority_that_the_records_cannot_hold_is_refused_with_the_bounds(tmp_path: Path, priority: int) -> None:
    rule = f'name = "r"\nfiletype = "apStar"\ntask = "a.B"\npriority = {priority}'
    entry = f'name = "r"\ncron = "* * * * *"\ntask = "a.B"\npriority = {priority}'
    for text in (f"[[rules]]\n{rule}", f"[[schedule]]\n{entry}"):
        assert "priority = " in problems(tmp_path, text)
        assert "must be a whole number from -32768 to 32767" in problems(tmp_path, text)


def test_the_least_and_the_greatest_priority_are_taken(tmp_path: Path) -> None:
    for priority in (-32768, 32767):
        text = f'[[rules]]\nname = "r"\nfiletype = "apStar"\ntask = "a.B"\npriority = {priority}'
        assert load(tmp_path, text).rules[0].priority == priority


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, "1e300", "1000000001"])
def test_a_number_too_large_for_a_clock_is_refused(tmp_path: Path, number: str) -> None:
    told = problems(tmp_path, f"[settle]\npatience = {number}")
    assert "must be a number above 0, at most 1000000000" in told or "is not valid TOML" in told
    assert len(told) < 400


def test_a_file_nested_without_end_is_an_error(tmp_path: Path) -> None:
    assert "is not valid TOML" in problems(tmp_path, "x = " + "[" * 100_000)


def test_a_folder_of_a_user_who_is_not_there_is_refused(tmp_path: Path) -> None:
    told = problems(tmp_path, '[[watch]]\npath = "~nosuchuser/x"\n[output]\nroot = "~nosuchuser"')
    assert '[[watch]] path = "~nosuchuser/x": must be a path; there is no user nosuchuser' in told
    assert '[output] root = "~nosuchuser"' in told
    assert "no user nosuchuser" in problems(tmp_path, '[database]\nurl = "sqlite:///~nosuchuser/a.sqlite"')


def test_a_settings_file_of_a_user_who_is_not_there_is_an_error() -> None:
    for load_it in (
        lambda: config.load(environ={"ASTRA_CONFIG": "~nosuchuser/x"}),
        lambda: config.load(Path("~nosuchuser/x"), {}),
    ):
        with pytest.raises(ConfigurationError, match="~nosuchuser/x: there is no user nosuchuser"):
            load_it()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret%zz@host/sky",
        "postgresql://ada:s3cret%@host/sky",
        "postgresql://ada:s3cret%00@host/sky",
        "postgresql://ada:s3cret@[::1/sky",
        "postgresql://ada@host/sky?password=s3cret%",
    ],
)
def test_a_url_that_no_driver_can_read_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    for told in (problems(tmp_path, f'[database]\nurl = "{url}"'), problems(tmp_path, "", ASTRA_DATABASE_URL=url)):
        assert "must be sqlite:///PATH or postgresql://USER@HOST/NAME" in told
        assert "s3cret" not in told


def test_a_percent_sign_is_written_as_percent_25(tmp_path: Path) -> None:
    assert load(tmp_path, '[database]\nurl = "postgresql://ada:a%25b@host/sky"').database.url.endswith("a%25b@host/sky")
    assert "%25" in problems(tmp_path, '[database]\nurl = "postgresql://ada:a%b@host/sky"')


def test_blanks_around_a_name_make_no_other_name(tmp_path: Path) -> None:
    text = '[[watch]]\npath = "a"\nname = " one "\n[[watch]]\npath = "b"\nname = "one"'
    assert '[[watch]] name = "one": used 2 times' in problems(tmp_path, text)
    assert load(tmp_path, '[[watch]]\npath = "a"\nname = " one "').watch[0].name == "one"


def test_a_watched_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.fits").touch()
    told = problems(tmp_path, '[[watch]]\npath = "one.fits"')
    assert f"[[watch]] path = {tmp_path}/one.fits: is a file; name the folder that it lies in" in told


def test_a_folder_that_may_not_be_searched_holds_no_settings_for_us(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may search every folder")
    closed = tmp_path / ".config" / "astra"
    closed.mkdir(parents=True)
    closed.chmod(0)
    assert settings_file.find({"HOME": str(tmp_path)}) is None or Path("config.toml").is_file()
    closed.chmod(0o700)


def test_nothing_is_asked_of_a_folder_that_is_gone_but_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"HOME": str(tmp_path)}
    file = tmp_path / "config.toml"
    file.write_text('[[watch]]\npath = "sky"')
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.load(file, home).watch[0].path == tmp_path / "sky"
    assert config.load(environ=home).source is None
    with pytest.raises(ConfigurationError, match="the folder you are in is not there any more"):
        config.load(environ={**home, "ASTRA_DATABASE_URL": "sqlite:///a.sqlite"})
    with pytest.raises(ConfigurationError, match="the folder you are in is not there any more"):
        config.load(Path("config.toml"), home)


def test_a_weekday_is_written_by_its_name() -> None:
    with pytest.raises(Refused, match="a weekday by its name, mon to sun, not 0"):
        cron("0 4 * * 0", Place(Path("/"), {}))
    assert cron("0 4 * * sun", Place(Path("/"), {})) == "0 4 * * sun"
