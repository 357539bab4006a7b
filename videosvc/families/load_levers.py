"""The levers that are pulled when a model is loaded, and not clip by clip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadLevers:
    """A loaded model runs plans of the same ones."""

    weights: str = "native"
    compile: bool = False


NO_LEVERS = LoadLevers()
