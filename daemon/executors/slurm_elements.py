"""The elements of job arrays that are looked after: which bundles each holds, and what is known of its job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from daemon.executors.slurm_words import Listed, Stage


@dataclass
class Element:
    """One element of an array: the bundles of one load that are open, and what Slurm last said of it.

    `may_be_there` says that Slurm was told of it, whether or not it answered; `dropped` that we had its job cancelled
    while it held other bundles too. `seen_by` tells the controller that listed it last from one that began anew.
    """

    name: str
    component: str
    bundles: dict[int, None]
    handed_at: float
    may_be_there: bool = False
    job: str | None = None
    listed: Listed | None = None
    seen_by: str | None = None
    unknown_since: float | None = None
    closed_since: float | None = None
    dropped: bool = False
    started: set[int] = field(default_factory=set)

    @property
    def array(self) -> str:
        """The name of its array."""
        return self.name.rpartition("_")[0]

    @property
    def index(self) -> int:
        """Its place there."""
        return int(self.name.rpartition("_")[2])

    @property
    def waits(self) -> bool:
        """Whether Slurm said that its job waits."""
        return self.listed is not None and self.listed.stage is Stage.WAITING

    @property
    def is_over(self) -> bool:
        """Whether Slurm said that its job is over."""
        return self.listed is not None and self.listed.stage is Stage.OVER

    def unknown_for(self, now: float) -> float:
        """Return for how many seconds Slurm has been asked for it in vain."""
        return 0.0 if self.unknown_since is None else now - self.unknown_since


class Elements:
    """All of them, by their names and by their bundles.

    Parameters
    ----------
    array_over
        Called with the name of an array when none of its elements is looked after any more.
    """

    def __init__(self, array_over: Callable[[str], None]) -> None:
        self._array_over = array_over
        self._by_name: dict[str, Element] = {}
        self._arrays: dict[str, dict[str, Element]] = {}
        self._by_bundle: dict[int, Element] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Element]:
        return iter(list(self._by_name.values()))  # they may be forgotten on the way

    def add(self, name: str, component: str, bundles: Collection[int], now: float) -> Element:
        """Return the element of that name, with these bundles in it."""
        element = self._by_name.setdefault(name, Element(name, component, {}, now))
        self._arrays.setdefault(element.array, {})[name] = element
        element.bundles |= dict.fromkeys(bundles)
        self._by_bundle |= dict.fromkeys(bundles, element)
        return element

    def of(self, bundle: int) -> Element | None:
        """Return the element that holds an open bundle."""
        return self._by_bundle.get(bundle)

    def array(self, name: str) -> list[Element]:
        """Return the elements of an array, in their order."""
        return sorted(self._arrays.get(name, {}).values(), key=lambda each: each.index)

    def close(self, bundle: int) -> None:
        """Forget a bundle that is no longer open, or no longer in its job's hands."""
        if (element := self._by_bundle.pop(bundle, None)) is not None:
            element.bundles.pop(bundle, None)

    def forget(self, element: Element) -> None:
        """Forget an element, and what it holds."""
        for bundle in list(element.bundles):
            self.close(bundle)
        if self._by_name.pop(element.name, None) is None:
            return
        del self._arrays[element.array][element.name]
        if not self._arrays[element.array]:
            del self._arrays[element.array]
            self._array_over(element.array)
