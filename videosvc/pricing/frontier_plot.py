"""The frontier as a picture. Needs matplotlib: the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from videosvc.pricing.finding import Finding, Findings
from videosvc.pricing.options import frontier

WIDTH, HEIGHT, DPI = 10.0, 6.25, 100  # inches: 1000 x 625 pixels
LINE = "#333333"
PALE = "#b8b8b8"
CHOSEN = "#c8102e"
LABELS = "labels: size · steps · weights/cache"
LABEL_HEIGHT, LETTER_WIDTH = 15.0, 6.5  # pixels that a label's line and letter need


def plot_png(found: Findings, chosen: Finding | None, name: str, title: str, score: str) -> bytes:
    """Cost against quality. `chosen` is marked and called `name`."""
    figure = Figure((WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{Decimal(f'{x:.1g}'):f}")  # 0.00005, where 5e-05 says little
    axes.xaxis.set_minor_formatter(NullFormatter())
    _draw_swept(axes, found.swept)
    best = frontier(found.swept)
    _draw_frontier(axes, best)
    _draw_reference(axes, found.references[-1])
    if chosen is not None:
        axes.plot(*_place(chosen), "o", ms=17, mfc="none", mec=CHOSEN, mew=2.5, label=f"preset {name}", zorder=5)
    axes.set_title(title, loc="left", fontsize=12)
    axes.set_xlabel("USD a second of the clip")
    axes.set_ylabel(f"quality ({score})")
    axes.margins(x=0.12, y=0.12)
    axes.grid(True, which="both", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=9, title=LABELS, title_fontsize=9)
    figure.draw_without_rendering()  # settles the limits, on which it depends which labels have room
    _label(axes, best, chosen)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _place(finding: Finding) -> tuple[float, float]:
    return float(finding.price_usd), finding.quality


def _draw_swept(axes: Axes, swept: Sequence[Finding]) -> None:
    """Every setting, a colour for each size."""
    sizes = sorted({finding.setting.size for finding in swept}, key=lambda size: (size.pixels, size))
    for number, size in enumerate(sizes):
        xs, ys = zip(*[_place(finding) for finding in swept if finding.setting.size == size], strict=True)
        colour = colormaps["viridis"](0.15 + 0.7 * number / max(1, len(sizes) - 1))
        axes.plot(xs, ys, "o", ms=6, color=colour, alpha=0.75, mew=0, label=str(size), zorder=2)


def _draw_frontier(axes: Axes, best: Sequence[Finding]) -> None:
    xs, ys = zip(*map(_place, best), strict=True)
    axes.plot(xs, ys, "-o", color=LINE, ms=4, linewidth=1.6, label="frontier", zorder=3)
    errors = [finding.error or 0.0 for finding in best]
    axes.errorbar(xs, ys, errors, fmt="none", ecolor=PALE, elinewidth=0.8, capsize=2, zorder=1)


def _draw_reference(axes: Axes, reference: Finding) -> None:
    x, y = _place(reference)
    axes.axhline(y, color=LINE, linewidth=0.8, linestyle=":", zorder=1)
    axes.plot(x, y, "D", ms=8, mfc="white", mec=LINE, label=f"reference: {reference.setting}", zorder=4)


def _label(axes: Axes, best: Sequence[Finding], chosen: Finding | None) -> None:
    """Above and left of each point, where the frontier leaves nothing else to be; the chosen one's goes first.

    Right of it at the left edge; none where another one is.
    """
    edge = float(axes.bbox.x0)
    taken: list[tuple[float, float, float]] = []  # left, right and height
    for finding in sorted(best, key=lambda finding: finding is not chosen):
        x, y = (float(pixels) for pixels in axes.transData.transform(_place(finding)))
        text = _label_of(finding)
        width = LETTER_WIDTH * len(text)
        leftward = x - width - 15 > edge
        left, right = (x - width, x) if leftward else (x, x + width)
        if any(left < end and start < right and abs(y - height) < LABEL_HEIGHT for start, end, height in taken):
            continue
        taken.append((left, right, y))
        axes.annotate(
            text,
            _place(finding),
            (-9 if leftward else 9, 6),
            textcoords="offset points",
            ha="right" if leftward else "left",
            fontsize=9,
            color=CHOSEN if finding is chosen else LINE,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=6,
        )


def _label_of(finding: Finding) -> str:
    """As `LABELS` says; levers only where one is pulled."""
    setting = finding.setting
    size = str(setting.size.width) if setting.size.width == setting.size.height else str(setting.size)
    levers = (setting.weights, setting.frame_cache)
    pulled = [] if levers == ("native", "native") else ["/".join(levers)]
    return " · ".join([size, setting.steps_told, *pulled])
