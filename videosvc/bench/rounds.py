"""Everything once a round, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

MadeT = TypeVar("MadeT")


def rounds(
    makers: Mapping[str, Callable[[str, int], MadeT]],
    prompts: Sequence[str],
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Iterator[dict[str, MadeT]]:
    """Yields what each maker, by its name, makes of a prompt and a seed: a round a prompt, with a seed of its own.

    The order turns from round to round. `on_progress` is told the share that is done.
    """
    names = list(makers)
    for turn, prompt in enumerate(prompts):
        first = turn % len(names)
        made = {}
        for done, name in enumerate(names[first:] + names[:first], 1):
            made[name] = makers[name](prompt, seed + turn)
            on_progress((turn + done / len(names)) / len(prompts))
        yield {name: made[name] for name in names}
