"""Small pictures of characters, which the Dagster UI shows in a line of metadata without a click."""

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 30
"""Characters of a line at most."""


def draw_sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Return a bar for each of the last `width` values, the highest for the largest. Empty without values."""
    shown = [max(0.0, value) for value in values[-width:]]
    most = max(shown, default=0.0)
    if not most:
        return BARS[0] * len(shown)
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] for value in shown)
