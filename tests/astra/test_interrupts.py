"""Ctrl-C at any instant: what is recorded is right, and the next thing runs."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter

import peewee
import pytest

from astra.base import Parameter, TaskInstance
from astra.database.astradb import Bundle, Task
from astra.interrupts import held_back, let_through


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_until_what_is_being_written_is_written() -> None:
    done: list[str] = []

    def write() -> None:
        with held_back():
            interrupt()
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_waited_reaches_the_component_first_of_all() -> None:
    done: list[str] = []

    def work(first: str) -> None:
        with let_through():
            done.append(first)
            interrupt()
            done.append("never")

    def write() -> None:
        with let_through(), held_back():
            interrupt()
            done.append("written")

    with held_back():
        interrupt()
        for each in (lambda: work("not even this"), lambda: work("this"), write):
            with pytest.raises(KeyboardInterrupt):
                each()
    assert done == ["this", "written"]


def test_who_has_taken_the_signal_over_keeps_it() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with held_back():
            interrupt()
            assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)


class Idle(TaskInstance):
    n = Parameter()

    def execute(self) -> None:
        for task, _ in self.iterable():
            self.done(task)


class Storm(threading.Thread):
    """Interrupts this process again and again, a few milliseconds apart, until it is `over`."""

    over = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)

    def run(self) -> None:
        never = threading.Event()
        while not self.over:
            never.wait(self.chance.uniform(0.0005, 0.02))
            interrupt()


@pytest.mark.parametrize("seed", [1, 2])
def test_ctrl_c_at_any_instant_cancels_what_is_not_done_and_nothing_else(database: peewee.Database, seed: int) -> None:
    instances = [Idle(n=list(range(30))) for _ in range(40)]
    cut, storm = 0, Storm(seed)
    try:
        storm.start()
        for each in instances:
            try:
                each.execute()
            except KeyboardInterrupt:
                cut += 1
    except KeyboardInterrupt:  # between two of them
        cut += 1
    storm.over = True  # no call comes before this one, so no interrupt does; one may come after it
    try:  # not `suppress`: to call it would let that one out
        storm.join()
        os.sched_yield()
        storm.is_alive()  # here at the latest it comes
    except KeyboardInterrupt:
        pass
    storm.join()
    states = Counter(str(each.state) for each in Task.select())
    assert cut > 0
    assert states.keys() <= {"completed", "cancelled"}, states
    assert {str(each.state) for each in Bundle.select()} <= {"ended"}
    assert Idle(n=1).execute() is None, "the database is as usable as before"
