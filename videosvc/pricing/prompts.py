"""What `videosvc tune` makes clips of."""

from __future__ import annotations

from pathlib import Path

from videosvc.errors import UserError

# For models that nobody gave prompts for: things that move, cameras that move, faces, water, text, the dark.
GENERAL = (
    "a red fox runs through fresh snow, side view",
    "waves break on black rocks at sunset, slow motion",
    "a potter shapes a clay bowl on a spinning wheel, close-up of the hands",
    "an old woman laughs in a sunny garden, portrait",
    "a yellow tram crosses a busy square in the rain",
    "a paper boat floats down a narrow stream between mossy stones",
    "the camera flies over a desert canyon at dawn",
    "steam rises from a cup of coffee beside an open book",
    "a street musician plays the violin at night under neon signs",
    "two children fly a kite shaped like a fish on a beach",
    "a neon sign that says OPEN flickers above a door",
    "a robot arm waters a row of small plants in a greenhouse",
)


def read_prompts(path: Path) -> tuple[str, ...]:
    """A prompt a line; empty lines do not count. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"prompts: {str(path)!r} is not UTF-8 text", param="prompts") from error
    except OSError as error:
        raise UserError(f"prompts: {str(path)!r} cannot be read: {error.strerror}", param="prompts") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise UserError(f"prompts: {str(path)!r} holds no prompt: one a line", param="prompts")
    return prompts
