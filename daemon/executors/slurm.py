"""Runs bundles in jobs of a Slurm cluster: loads become elements of job arrays, in each of which `job` runs one.

Comes from the scheduler; goes to `slurm_client`, which alone talks to Slurm. The job's name is noted with its bundles
before Slurm is told, so a service that was killed in between asks for the name and submits nothing twice. The jobs
record themselves in the database and outlive the service; the next one adopts them. Slurm is believed where it says how
a job ended; where it cannot be asked, nothing is concluded from that.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from astra import backlog, holds, provenance, queue
from astra.clock import Clock
from astra.config import Own, Settings
from astra.states import BundleState
from astra.work import Load, OpenBundle
from daemon.executors import Ending, Span
from daemon.executors.handed import left_arrays
from daemon.executors.slurm_adopting import adopt_from_gone
from daemon.executors.slurm_client import Array, Seen, SlurmClient, Submitted
from daemon.executors.slurm_elements import Element, Elements
from daemon.executors.slurm_pauses import Pauses
from daemon.executors.slurm_words import Listed, Stage
from daemon.logs import event

log = logging.getLogger(__name__)
_AT_ONCE = 20  # loads that are taken in one turn
_LOAD_TASKS = 20_000  # of a load's bundles together, if they are several: they are claimed in one transaction
_RECORDS_EVERY = 2.0
_UNKNOWN_SECONDS = 60.0  # that Slurm must not have known of a job before it is believed to be nowhere
_LINGERS_SECONDS = 60.0  # that a job may go on when its bundles are no longer open
_STOP_SECONDS = 20.0
_CLEARED_AT_ONCE = 5
_LONGEST_WORDS = 200
_DEAF_SECONDS = 600.0  # after which a client that does not answer is believed to hang


class SlurmExecutor:
    """Job arrays of a Slurm cluster."""

    name = "slurm"
    outlives = True

    def __init__(
        self, settings: Settings, clock: Clock, wake: Callable[[], None], client: SlurmClient | None = None
    ) -> None:
        self._settings, self._clock, self._wake = settings, clock, wake
        self._client = client or SlurmClient(settings, wake)
        self._owner = provenance.owner()
        self._loads: list[Load] = []
        self._over: dict[str, None] = {}  # arrays that we look after nothing of any more; their files may be there
        self._elements = Elements(lambda name: self._over.setdefault(name))
        self._pauses = Pauses()
        self._endings: list[Ending] = []
        self._unnoted: dict[str, str] = {}
        self._asked_at: float | None = None  # and not answered yet
        self._look_at = self._records_at = 0.0
        self._away: str | None = None

    def start(self) -> None:
        """Make ready to talk to Slurm; what a service that was killed has left in files is cleared away in time."""
        self._over |= dict.fromkeys(left_arrays(self._settings))
        self._client.start()

    def free(self) -> int:
        """Return how many loads can be handed over now: none while Slurm is away."""
        if self._away is not None:
            return 0
        room = self._settings.executor.slurm.jobs - len(self._elements) - len(self._loads)
        return max(0, min(room, _AT_ONCE))

    def passed_over(self, now: float) -> set[str]:
        """Return the components whose jobs Slurm refuses, or that end before they begin, for a while."""
        submitted = {each.component: each.handed_at for each in self._elements}  # the last of each
        submitted |= {each.bundles[0].component: now for each in self._loads}
        return self._pauses.over(now, submitted)

    def slots(self) -> int:
        """Return one: what waits under a key is not shared out among jobs, which are to be few."""
        return 1

    def span(self, own: Own) -> Span:
        """Return how much of a component one job is to take: as long as its bundles should."""
        return Span(own.target, _LOAD_TASKS)

    def submit(self, load: Load, now: float) -> None:
        """Take a load, to be submitted with the others of this turn."""
        self._loads.append(load)
        self._wake()

    def turn(self, now: float) -> list[Ending]:
        """Hear of Slurm, submit what was taken, see which bundles ended; nothing here waits for Slurm."""
        for answer in self._client.heard():
            if isinstance(answer, Submitted):
                self._take_submitted(answer, now)
            else:
                self._take_seen(answer, now)
        if self._unnoted:
            queue.note_external(self._unnoted)
            self._unnoted = {}
        self._hand_in(now)
        if now >= self._records_at:
            self._see_records(list(self._elements), now)
            self._clear_away()
            self._records_at = now + _RECORDS_EVERY
        self._look(now)
        endings, self._endings = self._endings, []
        return endings

    def _look(self, now: float) -> None:
        names = frozenset(each.name for each in self._elements if each.may_be_there)
        if self._asked_at is not None:
            if now - self._asked_at > _DEAF_SECONDS:
                self._be_away(f"its commands have not ended for {_DEAF_SECONDS:g} s", now)
        # where nothing is left to be looked for, a Slurm that is away is still waited for
        elif (names or self._away is not None) and now >= self._look_at:
            self._client.look(names)
            self._asked_at = now

    def adopt(self, found: Sequence[OpenBundle], now: float) -> list[int]:
        """Look after what services that are gone handed to Slurm; return the bundles."""
        new = [each for each in found if each.executor == self.name and self._elements.of(each.bundle) is None]
        adopted = adopt_from_gone(new, self._owner, self._settings.scheduler.lease, self._clock.now())
        for each in adopted:
            element = self._elements.add(str(each.external_name), each.component, [each.bundle], now)
            element.job, element.may_be_there = each.external_id, True
        return [each.bundle for each in adopted]

    def is_mine(self, found: OpenBundle) -> bool:
        """Return whether it is for us to tell what becomes of an open bundle.

        Not of one whose lease ran out though Slurm says that its job goes on, or no longer knows of it.
        """
        element = self._elements.of(found.bundle)
        if element is None:
            return any(each.bundle == found.bundle for load in self._loads for each in load.bundles)
        if found.state is BundleState.SUBMITTED:
            return True
        is_unknown = element.unknown_for(self._clock.monotonic()) > _UNKNOWN_SECONDS
        return not is_unknown and not (found.lapsed and element.listed is not None)

    def unrecorded(self) -> int:
        """Return none: no bundle ends with the service."""
        return 0

    def drain(self) -> None:
        """Do nothing: the jobs go on without this service."""

    def drain_bundle(self, bundle: int) -> None:
        """Give back a bundle whose job waits; one that runs is told by the records, and obeys by itself."""
        element = self._elements.of(bundle)
        if element is None or not element.waits:
            return
        found = backlog.open_bundle(bundle)  # what Slurm said may be some seconds old
        if found is not None and found.state is BundleState.SUBMITTED:
            self._close(element, Ending(bundle, "given back: somebody wanted it to begin no further task"))

    def drop(self, bundles: Collection[int]) -> None:
        """Cancel the jobs that hold these bundles, which were taken from them."""
        dropped = {element.name: element for each in bundles if (element := self._elements.of(each)) is not None}
        for bundle in bundles:
            self._elements.close(bundle)
        for element in dropped.values():
            element.dropped = True
            self._cancel(element)

    def _cancel(self, element: Element) -> None:
        if element.job is not None and element.unknown_since is None:  # a crashed controller gives numbers again
            self._client.cancel(element.array, element.job)

    def state(self) -> dict[str, Any]:
        """Return how many jobs wait and run, why some wait, and what is wrong with Slurm."""
        listed = [each.listed for each in self._elements]
        known = [each for each in listed if each is not None]
        held: dict[str, list[str]] = {}
        for each in known:
            if each.stage is Stage.WAITING and each.reason:
                held.setdefault(each.reason, []).append(each.job)
        return {
            "jobs": len(listed),
            "waiting": sum(each.stage is Stage.WAITING for each in known),
            "running": sum(each.stage is Stage.GOING for each in known),
            "unseen": len(listed) - len(known),
            "held": held,
            "away": self._away,
            "refused": self._pauses.reasons(),
        }

    def stop(self) -> list[int]:
        """Return what Slurm was not told of; the jobs that it knows of go on."""
        left = set(self._client.stop(_STOP_SECONDS))
        bundles = [bundle for each in self._elements if each.array in left for bundle in each.bundles]
        bundles += [each.bundle for load in self._loads for each in load.bundles]
        self._loads.clear()
        return bundles

    # ---------------------------------------------------------------------------------------------- handing over

    def _hand_in(self, now: float) -> None:
        """Submit what was taken: an array for each component, whose jobs are alike."""
        groups: dict[str, list[Load]] = {}
        for load in self._loads:
            groups.setdefault(load.bundles[0].component, []).append(load)
        for loads in groups.values():
            self._submit(loads, now)
            self._loads = [each for each in self._loads if each not in loads]

    def _submit(self, loads: list[Load], now: float) -> None:
        first = loads[0].bundles[0]
        name = f"astra-b{first.bundle}-{hashlib.sha256(first.token.encode()).hexdigest()[:8]}"
        for index, load in enumerate(loads):
            mine = queue.note_name(load.bundles, f"{name}_{index}", self._owner)
            self._elements.add(f"{name}_{index}", first.component, [each.bundle for each in mine], now)
        self._client.submit(Array(name, tuple(loads)))

    def _take_submitted(self, answer: Submitted, now: float) -> None:
        elements = self._elements.array(answer.name)
        component = elements[0].component if elements else ""
        if answer.refusal is not None:
            self._tell_pause(component, answer.refusal, self._pauses.refuse(component, answer.refusal, now))
            self._give_back(elements, answer.refusal)
        elif not answer.told:
            self._give_back(elements, answer.away or "")
            self._be_away(answer.away or "", now)
        else:
            for element in elements:
                element.may_be_there = True
                if answer.job is not None:
                    element.job = self._unnoted[element.name] = f"{answer.job}_{element.index}"
            if answer.job is None:  # it may have the array: the name tells, when it can be asked again
                return self._be_away(answer.away or "", now)
            self._pauses.accept(component)
            event(log, "slurm_submitted", job=answer.job, name=answer.name, elements=len(elements))

    def _give_back(self, elements: Sequence[Element], reason: str) -> None:
        for element in elements:
            self._close(element, *(Ending(each, f"not submitted: {reason}") for each in element.bundles))

    def _tell_pause(self, component: str, reason: str, pause: float | None) -> None:
        if pause is not None:
            event(log, "slurm_refused", logging.ERROR, component=component, reason=reason, again_in=pause)

    # ------------------------------------------------------------------------------------------- what Slurm says

    def _take_seen(self, seen: Seen, now: float) -> None:
        self._asked_at, self._look_at = None, now + self._settings.executor.slurm.poll
        if seen.away is not None:
            return self._be_away(seen.away, now)
        if self._away is not None:
            event(log, "slurm_back")
            self._away = None
        over, unknown = [], []
        reasons: dict[str, list[str]] = {}
        for element in [each for each in self._elements if each.may_be_there]:
            listed = seen.listed.get(element.name)
            if listed is None:
                unknown.append(element)
                continue
            if listed.reason and (element.listed is None or element.listed.reason != listed.reason):
                reasons.setdefault(listed.reason, []).append(listed.job)
            self._note_listed(element, listed, seen.controller)
            if listed.stage is Stage.OVER:
                over.append(element)
        for reason, jobs in reasons.items():
            more = {"jobs": len(jobs)} if len(jobs) > 1 else {}
            event(log, "slurm_waits", logging.WARNING, job=jobs[0], **more, reason=reason)
        self._see_records([*over, *unknown], now)
        for element in over:
            self._end_over(element, now)
        for element in unknown:
            self._end_unknown(element, seen.controller, now)

    def _be_away(self, reason: str, now: float) -> None:
        if self._away is None:
            event(log, "slurm_away", logging.ERROR, reason=reason)
        self._away, self._look_at = reason, now + self._settings.executor.slurm.poll

    def _note_listed(self, element: Element, listed: Listed, controller: str) -> None:
        if element.job != listed.job:
            element.job = self._unnoted[element.name] = listed.job
        element.listed, element.seen_by, element.unknown_since = listed, controller, None

    def _end_over(self, element: Element, now: float) -> None:
        """Tell what became of the bundles of a job that is over and that are open nonetheless."""
        listed = element.listed
        assert listed is not None
        cancelled = listed.cancelled and not element.dropped
        if element.bundles and not listed.cancelled and not element.started:
            reason = f"{listed.words}, before it began{self._printed(element)}"
            self._tell_pause(element.component, reason, self._pauses.begin(element.component, reason, now))
        endings = []
        for each in element.bundles:
            kind = listed.kind if each in element.started and not element.dropped else None
            endings.append(Ending(each, listed.words, kind, cancelled=cancelled))
        self._close(element, *endings)

    def _printed(self, element: Element) -> str:
        """Return the last line of what a job printed of itself, and where the others are."""
        path = self._settings.slurm_folder / element.array / f"{element.index}.out"
        try:
            lines = path.read_text(errors="replace").split("\n")
        except OSError:
            return ", and left no word"
        last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return f": {last[:_LONGEST_WORDS]} (all of it in {path})" if last else ", and said nothing"

    def _end_unknown(self, element: Element, controller: str, now: float) -> None:
        """Deal with a job that Slurm does not know of: it has forgotten it, or never had it."""
        if element.unknown_since is None:
            element.unknown_since = now
        if element.started:
            return  # its lease tells, and others take it back
        # A controller that crashed may have lost what it had just taken: then it began anew. One element of an array
        # that is cancelled while it waits vanishes.
        has_vanished = element.waits and element.seen_by == controller
        patience = 2 * self._settings.executor.slurm.poll if has_vanished else _UNKNOWN_SECONDS
        if element.unknown_for(now) < patience:
            return
        if has_vanished and not element.dropped:
            words = f"its Slurm job {element.job} was cancelled while it waited"
            self._close(element, *(Ending(each, words, cancelled=True) for each in element.bundles))
        else:
            words = f"given back: Slurm knows of no job {element.job or element.name}"
            self._close(element, *(Ending(each, words) for each in element.bundles))

    # --------------------------------------------------------------------------------------- what the records say

    def _see_records(self, elements: Sequence[Element], now: float) -> None:
        """Take note of the bundles that recorded their own end; cancel a job that is left with nothing to do."""
        if not elements:
            return
        still_open = backlog.states_in(self.name)
        closed = backlog.closed([each for element in elements for each in element.bundles if each not in still_open])
        self._tell_closed(closed)
        for element in elements:
            running = {each for each in element.bundles if still_open.get(each) is BundleState.RUNNING}
            ended = {each for each in element.bundles if each in closed and closed[each][0] is BundleState.ENDED}
            element.started |= running
            if running or ended:
                self._pauses.end(element.component, element.handed_at)
            for bundle in [each for each in element.bundles if each in closed]:
                self._elements.close(bundle)
            if not element.bundles:
                self._see_off(element, now)
        self._heed_holds()

    def _heed_holds(self) -> None:
        """Give back what waits of a component or a replay that is held: nothing of it is to begin."""
        waiting = {
            bundle: each for each in self._elements if each.waits and not each.started for bundle in each.bundles
        }
        for bundle, hold in holds.holding(waiting).items():
            self._close(waiting[bundle], Ending(bundle, f"given back: {hold.kind} {hold.target} is held"))

    def _tell_closed(self, closed: Mapping[int, tuple[BundleState, str | None]]) -> None:
        """Log what was given back, or cancelled, without us; of what has ended the scheduler tells."""
        given_back = {bundle: why or "" for bundle, (state, why) in closed.items() if state is BundleState.RELEASED}
        cancelled = backlog.cancelled_in(given_back) if given_back else {}
        for bundle, reason in given_back.items():
            more = {"tasks": cancelled[bundle]} if bundle in cancelled else {}
            event(log, "cancelled" if more else "released", bundle=bundle, **more, reason=reason)
        self._endings += [Ending(bundle, None) for bundle in closed]

    def _see_off(self, element: Element, now: float) -> None:
        """Forget an element whose job is over; one that is not is cancelled where it waits, or lingers."""
        if element.closed_since is None:
            element.closed_since = now
        lingers = now - element.closed_since > _LINGERS_SECONDS
        if element.is_over or element.unknown_for(now) > _UNKNOWN_SECONDS:
            self._elements.forget(element)
        elif element.job is not None and (element.waits or lingers):
            self._cancel(element)
            self._elements.forget(element)

    def _close(self, element: Element, *endings: Ending) -> None:
        """Tell how bundles of an element ended; its job, if there is one yet, has nothing to do any more."""
        self._endings += endings
        for each in endings:
            self._elements.close(each.bundle)
        if not element.bundles:
            if not element.is_over:
                self._cancel(element)
            self._elements.forget(element)

    def _clear_away(self) -> None:
        """Have the files of arrays removed that are over; what another service looks after keeps them."""
        for name in list(self._over)[:_CLEARED_AT_ONCE]:
            del self._over[name]
            if backlog.has_open_of(name):
                self._over[name] = None  # behind the others
            else:
                self._client.remove(name)


EXECUTOR = SlurmExecutor
