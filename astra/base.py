"""The class a scientist writes: a `TaskInstance` with parameters, three stages, and the record of what it did.

Comes from a notebook, a rule or the database; `execute()` goes to `execution`, `enqueue()` to `queue`. Constructing an
instance checks everything that was given and writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from numbers import Number
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

from astra import config, declaring, execution, keeping, queue, recording, work
from astra.bundling import bundler, rebuild, rebuild_bundle
from astra.clock import SYSTEM, Clock
from astra.components import remember
from astra.database import migrate
from astra.database.astradb import Bundle, DataProduct, ResultModel, Task
from astra.database.connection import available
from astra.database.fields import canonical_json, canonical_objects
from astra.database.staging import check_row
from astra.errors import ComponentError, DatabaseUnavailable
from astra.inputs import entries
from astra.interrupts import held_back
from astra.outputs import Outputs
from astra.parameters import DictParameter, Parameter, TupleParameter, by_value, parameters_of, signature_of
from astra.progress import Progress, somebody_waits
from astra.rehearsal import Rehearsal
from astra.session import Desk, Session
from astra.whole import Whole

__all__ = ["DictParameter", "Parameter", "TaskInstance", "TupleParameter", "bundler"]

KEY_LENGTH = 500  # of a bundle key in words; a longer one is told by its digest
ALWAYS_ACCEPTED = ("debug", "verbose")
NO_DESK = Desk()
_RECORDED = "_astra_recorded"
# The author's `execute` behind each one that records.
_authors: weakref.WeakKeyDictionary[Callable[..., Any], Callable[..., Any]] = weakref.WeakKeyDictionary()


class Plan(NamedTuple):
    """One task as it will be recorded, but for its inputs."""

    name: str
    component_version: str
    parameters: str
    bundle_key: str


class TaskInstance:
    """An analysis of data products, recorded with its parameters, code, times and outcome.

    Write a subclass: parameters in the class body, the work in ``execute``, and where they help ``pre_execute`` and
    ``post_execute``. Loop over ``self.iterable()`` so that many tasks can run as one bundle.

    Parameters
    ----------
    input_data_products
        A path, `DataProduct` or its key: one data product for one task. A list has one entry for each task; an entry
        that is itself a list gives its task several.
    **parameters
        The values of the class's parameters. For one that is not bundled, a list gives each task its own.

    Attributes
    ----------
    version, result_models
        The author's own version, part of what makes two tasks the same work; the tables that results are recorded in.
    retry_on
        Classes of exceptions that may pass: the service tries a task again that raised one.

    Raises
    ------
    TypeError, ValueError
        If a required parameter is missing, one is unknown, a value is not allowed, or lengths do not agree.
    FileNotFoundError
        If an input file does not exist.
    """

    version: ClassVar[str] = "0"
    result_models: ClassVar[Sequence[type[ResultModel]]] = ()
    retry_on: ClassVar[tuple[type[BaseException], ...]] = ()
    parameters: ClassVar[dict[str, Parameter]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for each in vars(cls).values():
            if isinstance(each, Parameter):
                each.settle(cls.__name__)
        cls.parameters = parameters_of(cls)
        declaring.check(cls, TaskInstance)
        cls.__signature__ = signature_of(cls.parameters)  # type: ignore[attr-defined]
        remember(cls.component_name(), cls)
        if cls.execute is not TaskInstance.execute and cls.execute not in _authors:  # or it is a base's, recorded
            cls.execute = _recorded(cls.execute)  # type: ignore[method-assign]

    def __init__(self, given: Any = None, /, *, input_data_products: Any = None, **parameters: Any) -> None:
        self.context: dict[str, Any] = {}
        self._session: Session | None = None
        self._tasks: Sequence[int] = ()
        self._inputs = entries(type(self).__name__, self._one_of(given, input_data_products))
        self._shared: dict[str, Any] = {}
        self._spread: Mapping[str, Sequence[Any]] = {}
        self._take(parameters)
        lengths = {f"{name} has {len(values)}": len(values) for name, values in self._spread.items()}
        if self._inputs is not None:
            lengths[f"input_data_products has {len(self._inputs)}"] = len(self._inputs)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__}: one value per task is needed, but {', '.join(lengths)}")
        self.bundle_size: int = next(iter(lengths.values()), 1)
        if self.bundle_size == 0:
            raise ValueError(f"{type(self).__name__}: an empty list was given, so there is no task to do")

    def _one_of(self, given: Any, named: Any) -> Any:
        """Return the inputs, which may be given without their name; a bare number is no input, but a parameter's."""
        name = type(self).__name__
        if isinstance(given, Number):
            raise TypeError(
                f"{name}({given!r}): parameters are given by name ({', '.join(self.parameters) or 'it has none'}), "
                "and a data product's key as input_data_products"
            )
        if given is not None and named is not None:
            raise TypeError(f"{name}: input_data_products was given twice")
        return named if given is None else given

    def _take(self, given: dict[str, Any]) -> None:
        component = type(self).__name__
        unknown = [name for name in given if name not in self.parameters]
        if unknown:
            known, near = ", ".join(self.parameters) or "none", get_close_matches(unknown[0], self.parameters, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            words = f"{component} has no parameter {', '.join(map(repr, unknown))}: {hint}"
            raise TypeError(f"{words}its parameters are {known}")
        missing = [name for name, each in self.parameters.items() if each.required and name not in given]
        if missing:
            words = "; ".join(f"{name} ({self.parameters[name].describe()})" for name in missing)
            raise TypeError(f"{component} needs {words}")
        self._spread = spread = {}
        for name, parameter in self.parameters.items():
            if name not in given:
                self._shared[name] = parameter.default
            elif (values := parameter.spread(component, given[name])) is not None:
                spread[name] = values
            else:
                self._shared[name] = parameter.checked(component, given[name])

    # ------------------------------------------------------------------------------------------------ what it is

    @classmethod
    def component_name(cls) -> str:
        """Return the import path that names this component in the database."""
        return f"{cls.__module__}.{cls.__qualname__}"

    def value_of(self, parameter: Parameter) -> Any:
        """Return this instance's value of a parameter; one of several raises and names `iterable()`."""
        if parameter.name in self._shared:
            if parameter.bundled or self.bundle_size == 1:
                return self._shared[parameter.name]
        elif self.bundle_size == 1:
            return self._spread[parameter.name][0]
        raise AttributeError(
            f"{type(self).__name__}.{parameter.name} may differ among the {self.bundle_size} tasks of this bundle: "
            f"loop over self.iterable() and read task.parameters[{parameter.name!r}]"
        )

    def bundle_key(self) -> str:
        """Return what tasks that may run together have in common: the component, and its bundled values."""
        bundled = {each: self._shared[each] for each, parameter in self.parameters.items() if parameter.bundled}
        key = f"{self.component_name()} {canonical_json(by_value(bundled))}"
        if len(key) > KEY_LENGTH:
            key = f"{self.component_name()} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return key

    def plans(self) -> Iterator[Plan]:
        """Yield what each task of this instance will be recorded as."""
        name, version, key = self.component_name(), str(self.version), self.bundle_key()
        for text in canonical_objects(self._shared, self._spread, self.bundle_size):
            yield Plan(name, version, text, key)

    def plan(self) -> Plan:
        """Return what the first task of this instance will be recorded as."""
        return next(self.plans())

    def __repr__(self) -> str:
        values = [f"{name}={value!r}" for name, value in {**self._shared, **self._spread}.items()]
        return f"{type(self).__name__}({', '.join(values)})"

    # ------------------------------------------------------------------------------------------- what an author uses

    def execute(self) -> Any:
        """Do the work. Subclasses write this."""
        raise NotImplementedError(f"{type(self).__name__} has no execute(): write one, and loop over self.iterable()")

    def pre_execute(self) -> Any:
        """Prepare the work of all tasks; a dictionary it returns joins `self.context`. Subclasses may write this."""

    def post_execute(self) -> Any:
        """Finish the work of all tasks. Subclasses may write this."""

    def iterable(self) -> Iterator[tuple[Task, list[DataProduct]]]:
        """Yield each task with its data products, timing how long each takes.

        Yields
        ------
        tuple of (Task, list of DataProduct)
            The task's record, whose `parameters` include defaults, and its data products in order.
        """
        return self._running("iterable()").iterate()

    def done(self, task: Task) -> None:
        """Keep this task's work, with the results recorded for it, whatever happens to the rest of the bundle."""
        self._running("done()").done(task)

    def record_result(self, task: Task, row: ResultModel) -> None:
        """Record a result of this task; it is written in one transaction with the task's end.

        Parameters
        ----------
        task
            As `iterable()` gave it.
        row
            An unsaved row of one of this component's `result_models`; its task and source are filled in.
        """
        session = self._running("record_result()")
        if not isinstance(row, tuple(self.result_models)):
            names = ", ".join(model.__name__ for model in self.result_models) or "none"
            raise TypeError(
                f"{type(self).__name__} records rows of its result_models ({names}), not {type(row).__name__}"
            )
        if getattr(row, _RECORDED, False) or row.__data__.get("id") is not None:
            raise ValueError(f"this {type(row).__name__} is recorded already: make a new one for each result")
        member = session.member(task)
        row.task = task.id
        product = row.__data__.get("data_product")
        sources = set(member.sources.values()) if product is None else {member.sources.get(product)}
        row.source = sources.pop() if len(sources) == 1 else None  # inputs of several sources belong to none of them
        check_row(row)
        setattr(row, _RECORDED, True)
        session.results.setdefault(member.position, []).append(row)

    def output_path(self, task: Task, name: str) -> Path:
        """Return where this task is to write a file called `name`: a place that no other task or try has.

        Write it there, then call `record_output`. It lies aside until the task has completed, then below
        ``[output] root``; of a task that fails nothing is kept.
        """
        session = self._running("output_path()")
        return self._outputs(session).path(session.member(task).task, name)

    def record_output(self, task: Task, path: str | os.PathLike[str]) -> Path:
        """Record a file that this task has made as its output, and return where it will lie.

        It becomes a data product with its checksum, linked to the task in one transaction with the task's end.

        Parameters
        ----------
        task
            As `iterable()` gave it.
        path
            Where `output_path` said; or a file of your own, which stays where it is.
        """
        session = self._running("record_output()")
        member = session.member(task)
        return self._outputs(session).record(member.position, task.id, Path(path))

    @property
    def kept(self) -> dict[str, Any]:
        """What is costly to load, for the next bundle of the same key that this process runs: `self.kept["model"]`."""
        return keeping.of(type(self), self.bundle_key())

    def _outputs(self, session: Session) -> Outputs:
        if session.outputs is None:
            root = session.desk.output_root or config.load().output.root
            session.outputs = Outputs(root, self.component_name(), session.held.bundle, session.held.token[:8])
        return session.outputs

    def _running(self, what: str) -> Session:
        if self._session is None:
            raise RuntimeError(f"{what} works inside pre_execute, execute and post_execute: call execute() to run them")
        return self._session

    # ---------------------------------------------------------------------------------------- running and recording

    def enqueue(self, priority: int = 100) -> Sequence[Task]:
        """Record this instance's tasks as pending, for the daemon to run, and return them.

        Each is read from the database when it is asked for, and so is as it is then.

        Raises
        ------
        ComponentError
            If the class lives in a notebook or script: the daemon could not import it.
        ValueError
            If the priority is beyond what the records hold.
        """
        return recording.enqueue(self, priority)

    def stage(self, name: str) -> Callable[..., Any]:
        """Return the author's own method for a stage."""
        method: Callable[..., Any] = getattr(self, name)
        author = _authors.get(getattr(method, "__func__", method))
        return method if author is None else functools.partial(author, self)

    def run_held(
        self, held: work.Claimed, clock: Clock = SYSTEM, desk: Desk = NO_DESK, whole: Whole | None = None
    ) -> Any:
        """Run the bundle that this process holds: what an executor's process does. Exceptions are recorded first.

        Where it has been read whole, it is not read again.
        """
        return self._run(Session(held, clock, interactive=False, desk=desk, whole=whole), {})

    def _run_by_hand(self, keywords: dict[str, Any]) -> Any:
        migrate.create_result_tables(self.result_models)
        with held_back():
            held, keys = queue.open_by_hand(recording.by_hand(self), SYSTEM.now())
            session = Session(held, SYSTEM, interactive=True, keys=keys)
            if self.bundle_size > 1 and somebody_waits():
                session.progress = Progress(type(self).__name__, self.bundle_size, SYSTEM)
            try:
                return self._run(session, keywords)
            except BaseException:
                with suppress(DatabaseUnavailable), available():  # does nothing to a bundle whose end is recorded
                    queue.fail_gone(held.bundle, held.token, "its end could not be recorded", SYSTEM.now())
                raise

    def _run(self, session: Session, keywords: dict[str, Any]) -> Any:
        self._session, self.context = session, {}
        session.retry_on = self.retry_on
        if self._tasks:  # a parameter that these tasks were recorded without has its default
            session.required = frozenset(name for name, each in self.parameters.items() if each.required)
            session.defaults = {name: each.default for name, each in self.parameters.items() if not each.required}
        try:
            return execution.execute(self, session, keywords)
        finally:
            self._session = None
            if session.progress is not None:
                session.progress.close()

    def rehearse(self, **keywords: Any) -> tuple[Any, dict[int, list[ResultModel]]]:
        """Run the recorded tasks of this instance again, writing nothing.

        Returns
        -------
        tuple
            What ``execute`` returned, and the result rows of each task, by its key, unsaved.
        """
        if not self._tasks:
            raise ComponentError("only tasks that are recorded can be rehearsed: rebuild them from their records")
        execution.refuse_unknown(self, keywords, ALWAYS_ACCEPTED)
        with TemporaryDirectory(prefix="astra-rehearsal-") as folder:
            session = Rehearsal.of(self._tasks, SYSTEM, Desk(output_root=Path(folder)))
            return self._run(session, keywords), session.collected

    # ------------------------------------------------------------------------------------------------- rebuilding

    @staticmethod
    def from_task(task: Task, strict: bool = False) -> TaskInstance:
        """Return the instance that a task records.

        Parameters
        ----------
        task
            The record.
        strict
            Refuse a component whose version is no longer the recorded one, instead of warning.
        """
        return rebuild(task.name, [task], strict)

    @staticmethod
    def from_bundle(bundle: Bundle, strict: bool = False) -> TaskInstance:
        """Return the instance of all tasks of a recorded bundle; their own values are read when they are needed."""
        return rebuild_bundle(bundle, strict)


def _recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the author's `execute` such that calling it records and runs all three stages, once."""

    @functools.wraps(method)
    def execute(self: TaskInstance, *args: Any, **keywords: Any) -> Any:
        if self._session is not None:  # the author's own super().execute()
            return method(self, *args, **keywords)
        if args:
            raise TypeError(f"{type(self).__name__}.execute() takes keywords only")
        execution.refuse_unknown(self, keywords, ALWAYS_ACCEPTED)
        return self._run_by_hand(keywords)

    _authors[execute] = method
    return execute
