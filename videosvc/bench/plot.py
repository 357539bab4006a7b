"""The waterfall as a picture. Needs matplotlib: the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from videosvc.bench.line import Line
from videosvc.bench.rows import STOCK

WIDTH, DPI = 9.0, 100  # inches, dots an inch: 900 pixels
MARGINS, BAR = 1.4, 0.52  # inches of height: title and axis, and each bar
STOCK_COLOUR, OURS, SAVED, INK, PALE = "#8a8a8a", "#1f6f8b", "#d5e8ee", "#222222", "#777777"
ROOM = 20.0  # times the largest value, right of which labels end
LABELS = "labels: times cheaper than stock · seconds · gain of this lever alone"
PROBED = " · clips that the probe reads right"
REASON_LENGTH = 70  # characters of why a row is missing


def plot_png(lines: Sequence[Line], title: str) -> bytes:
    """A bar a row: its compute, and pale beside it what its lever took off the row above. A log scale."""
    figure = Figure((WIDTH, MARGINS + BAR * len(lines)), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    axes = figure.add_subplot()
    axes.set_xscale("log")
    values = [median(line.compute_s) for line in lines if line.compute_s]
    left = 0.4 * min(values)
    axes.set_xlim(left, max(values) * ROOM)
    above: float | None = None
    for place, line in enumerate(lines):
        if line.refused is not None:
            reason = line.refused if len(line.refused) <= REASON_LENGTH else f"{line.refused[: REASON_LENGTH - 3]}..."
            axes.annotate(
                reason, (left, place), (5, 0), textcoords="offset points", va="center", fontsize=8, color=PALE
            )
            continue
        value = median(line.compute_s)
        _draw(axes, line, place, left, value, above)
        above = value
    axes.set_yticks(range(len(lines)), [line.name for line in lines], fontsize=11)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{Decimal(f'{x:.1g}'):f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    labels = LABELS + (PROBED if any(line.right for line in lines) else "")
    axes.set_xlabel(f"seconds of compute for a second of video, log scale\n{labels}", fontsize=10)
    figure.suptitle(title, x=0.012, ha="left", fontsize=11)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw(axes: Axes, line: Line, place: int, left: float, value: float, above: float | None) -> None:
    axes.barh(place, value - left, left=left, height=0.62, color=STOCK_COLOUR if line.name == STOCK else OURS, zorder=2)
    if above is not None and above > value:
        axes.barh(place, above - value, left=value, height=0.62, color=SAVED, zorder=1)
    label = _label(line, value)
    axes.annotate(label, (value, place), (6, 0), textcoords="offset points", va="center", fontsize=10, color=INK)


def _label(line: Line, value: float) -> str:
    parts = [f"{value:.3g} s"]
    if line.cheaper:
        parts.insert(0, f"{median(line.cheaper):.3g}x")
    if line.gain:
        parts.append(f"alone {median(line.gain):.2f}x")
    if line.quality is not None:
        parts.append(f"probe {line.quality:.0%}")
    return "  ·  ".join(parts)
