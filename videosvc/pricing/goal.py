"""What a clip must reach, beside what it may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from videosvc.errors import UserError

MAX_DEADLINE_S = 1e7  # four months


@dataclass(frozen=True, slots=True)
class Goal:
    """None is nothing of the kind. With a quality asked for, the cheapest plan that reaches it will do."""

    min_quality: float | None = None  # expected, as `videosvc tune` measured it; from 0 to 1
    deadline_s: float | None = None  # from now to the end, waiting included

    @staticmethod
    def parse(min_quality: float | str | None = None, deadline_seconds: float | str | None = None) -> Goal:
        """Checks what a caller gave. Raises UserError naming min_quality or deadline_seconds."""
        return Goal(
            _within("min_quality", min_quality, 1.0), _within("deadline_seconds", deadline_seconds, MAX_DEADLINE_S)
        )


def _within(field: str, given: float | str | None, most: float) -> float | None:
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise UserError(f"{field}: {str(given)[:40]} must be more than 0 and at most {most:g}", param=field)
    return value
