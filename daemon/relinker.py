"""When are the sources of the unconfirmed looked for again? A chunk at a time, between the files that arrive.

Comes from the calendar, and from a catalogue that was loaded, or came back, since; goes to `astra.relinking`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from astra import relinking
from astra.catalogue.consulting import Linking
from astra.clock import Clock
from daemon.logs import event

log = logging.getLogger(__name__)
_LOOK_EVERY = 10.0  # seconds between two looks at whether a catalogue has come
_SHARE = 10.0  # while the survey's is away, a look at everything comes after so many times what the last one took


class Relinker:
    """One look at all that is unconfirmed at a time; begun when it is asked for, or when there is reason."""

    def __init__(self, linking: Linking, clock: Clock) -> None:
        self._linking, self._clock = linking, clock
        self._progress: relinking.Progress | None = None
        self._asked: deque[Callable[[], bool]] = deque(maxlen=1)  # one look is enough, however often it is asked for
        self._began = self._next_look = clock.monotonic()
        self._away: str | None = None

    @property
    def busy(self) -> bool:
        """Whether a look is under way, or asked for."""
        return self._progress is not None or bool(self._asked)

    def request(self, is_ours: Callable[[], bool] = lambda: True) -> None:
        """Have all that is unconfirmed looked at, at the next turn that has time for it. From any thread.

        Then `is_ours` is asked whether it is still this service's to do.
        """
        self._asked.append(is_ours)

    def turn(self, now: float) -> bool:
        """Look at one chunk, if there is reason to; return whether there is more to do at once."""
        if self._progress is None:
            if not self._is_due(now):
                return False
            self._began, self._progress = now, relinking.begin(self._linking)
        progress = relinking.step(self._progress, self._linking, self._clock)
        self._progress = None if progress.ended else progress
        if progress.ended:
            self._next_look = now + max(_LOOK_EVERY, _SHARE * (now - self._began))
            self._tell(progress)
        return not progress.ended

    def _is_due(self, now: float) -> bool:
        if self._asked:
            asked = self._asked[0]
            is_ours = asked()  # left in its place where the database is away
            with suppress(ValueError):  # it was asked for anew meanwhile
                self._asked.remove(asked)
            if is_ours:
                return True
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK_EVERY
        return relinking.is_due(self._linking)

    def _tell(self, progress: relinking.Progress) -> None:
        if progress.changed:
            event(log, "relinked", looked=progress.looked, changed=progress.changed)
        away = progress.survey_away
        if away is not None and self._away is None:
            event(log, "catalogue_away", logging.WARNING, reason=away)
        elif self._away is not None and progress.survey_asked and away is None:
            event(log, "catalogue_back")
        if away is not None or progress.survey_asked:
            self._away = away
