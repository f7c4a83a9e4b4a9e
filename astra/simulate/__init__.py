"""A synthetic night, written as the reduction pipeline writes it: visits HDU by HDU, later the stars.

Every header says that it is synthetic. `simulate(Night(...), root)` returns a `Simulation`: iterate over it to write,
one step at a time, then ask it for the `truth`.
"""

from astra.simulate.night import Night
from astra.simulate.writer import Deed, Simulation, Step, Truth, simulate

__all__ = ["Deed", "Night", "Simulation", "Step", "Truth", "simulate"]
