"""Measurements to a JSON file and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from videosvc.bench.measure import Measure


def write_json(path: Path, about: dict[str, Any], measures: Sequence[Measure]) -> None:
    """`about`: what it was measured on and with, such as machine and seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "measures": [measure.as_dict() for measure in measures]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def print_table(title: str, measures: Sequence[Measure]) -> None:
    table = Table("measure", "unit", title=title)
    for heading in ("p20", "p50", "p80", "at most"):
        table.add_column(heading, justify="right")
    table.add_column("holds")
    for measure in measures:
        figures = [f"{value:.4g}" for value in measure.percentiles]
        promise = "" if measure.at_most is None else f"{measure.at_most:g}"
        holds = {None: "", True: "yes", False: "NO"}[measure.holds]
        table.add_row(measure.name, measure.unit, *figures, promise, holds)
    Console().print(table)
