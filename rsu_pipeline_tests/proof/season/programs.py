"""Random programs: which steps a class has, and how a seed and a number make one program of them.

A program is known by its seed and number alone, so that a failing one is run again by itself, within seconds.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

Draw = Callable[[Random], Any]
F = TypeVar("F", bound=Callable[..., None])
_MARK = "season_step"
ENABLED_SHARE = 0.5
"""The share of steps that a program may use: few kinds that meet often find more than many that meet seldom."""


@dataclass(frozen=True)
class Step:
    """A step of a machine: its arguments as drawn, and whether it is possible now. `is_hub` marks steps of the hub."""

    name: str
    arguments: dict[str, Draw]
    is_possible: Callable[[Any], bool]
    is_hub: bool


def step(
    *, is_possible: Callable[[Any], bool] = lambda machine: True, is_hub: bool = False, **arguments: Draw
) -> Callable[[F], F]:
    """Make a method a step of programs."""

    def mark(method: F) -> F:
        setattr(method, _MARK, Step(method.__name__, arguments, is_possible, is_hub))
        return method

    return mark


def steps_of(machine: type, left_out: frozenset[str] = frozenset()) -> list[Step]:
    """Return a class's steps in order of name."""
    found = [getattr(getattr(machine, name), _MARK, None) for name in dir(machine)]
    return [item for item in found if item is not None and item.name not in left_out]


def choice(*values: Any) -> Draw:
    """Draw one of these values."""
    return lambda random: random.choice(values)


def pick(random: Random) -> int:
    """Draw a number by which a step picks one of what is there."""
    return random.randrange(10_000)


def number(low: int, high: int) -> Draw:
    """Draw a whole number."""
    return lambda random: random.randint(low, high)


class Program:
    """The steps of one program, one at a time."""

    def __init__(
        self,
        machine: type,
        seed: int,
        number: int,
        left_out: frozenset[str] = frozenset(),
        enabled: Collection[str] | None = None,
    ) -> None:
        """Draw a program. `enabled` are the kinds of steps that others than the hub take, and None draws them."""
        self.random = Random(f"{seed}:{number}")
        self.lines: list[str] = []
        """What was done so far, for people."""
        steps = steps_of(machine, left_out)
        self._hub = [item for item in steps if item.is_hub]
        others = [item for item in steps if not item.is_hub]
        if enabled is None:
            self._other = [item for item in others if self.random.random() < ENABLED_SHARE]
        else:
            self._other = [item for item in others if item.name in enabled]

    def run(self, machine: object, length: int, hub_share: float) -> None:
        """Take this number of steps."""
        for _ in range(length):
            kind = self._hub if self.random.random() < hub_share else self._other
            possible = [item for item in kind if item.is_possible(machine)]
            if possible:
                chosen = self.random.choice(possible)
                arguments = {name: draw(self.random) for name, draw in chosen.arguments.items()}
                self.lines.append(
                    f"{chosen.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
                )
                getattr(machine, chosen.name)(**arguments)
