"""No event ever comes: what is written is found by the sweep alone."""

from __future__ import annotations

import os
from collections import Counter

from tests.support import fits
from tests.support.processes import until
from tests.support.records import ingestions, states, traces
from tests.support.site import Site

WATCH = {"mode": "poll", "sweep_every": 0.5}


def test_what_no_event_tells_of_is_swept_up(live: Site) -> None:
    assert live.running is not None
    assert "mode=poll" in live.running.output()
    names = {fits.visit_name(plate=2001, fiber=fiber): fiber for fiber in range(1, 6)}
    for name, fiber in names.items():
        fits.write(live.tree / str(fiber) / name, fits.apvisit(PLATE="2001", FIBERID=fiber))
    until(lambda: all(states(name) == Counter(completed=1) for name in names))
    assert all(ingestions(name) == [("ingested", None)] for name in names)


def test_a_rewrite_that_keeps_size_and_modification_time_is_found_too(live: Site) -> None:
    path = fits.write(live.tree / fits.visit_name(plate=2002), fits.apvisit(PLATE="2002", SNR=10.0))
    stamps = path.stat()
    until(lambda: states(path.name) == Counter(completed=1))
    path.write_bytes(fits.apvisit(PLATE="2002", SNR=99.0))
    os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    assert path.stat().st_size == stamps.st_size
    until(lambda: states(path.name) == Counter(completed=2))
    assert len(ingestions(path)) == 2
    assert len(traces()) == len(set(traces()))
