"""SHA-256 sums of a model folder's files, shipped beside them: what file headers cannot tell is told by these.

Checked whenever the model is loaded to be used, by `videosvc models check` and by `videosvc doctor`.

python -m videosvc.families.checksums FOLDER    writes them anew, as training does at its end
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from videosvc.errors import ModelError

SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\0]+)")


def write_sums(folder: Path) -> None:
    """Of everything that is loaded: what stands beside it, such as a model card, may be edited."""
    files = [folder / "model_index.json", *sorted(path for path in folder.glob("*/*") if path.is_file())]
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))


def check_sums(model: str, folder: Path) -> None:
    """Raises ModelError naming the file that is missing or not as it was shipped. A folder without sums is let pass."""
    if not (folder / SUMS).is_file():
        return
    for number, line in enumerate((folder / SUMS).read_text(errors="replace").splitlines(), 1):
        if (read := LINE.fullmatch(line)) is None:
            raise ModelError(f"model {model!r}: {SUMS}: line {number} is not one of `sha256sum`", param="model")
        expected, name = read.groups()
        try:
            found = _sum(folder / name)
        except OSError as error:
            raise ModelError(f"model {model!r}: {name} cannot be read ({error.strerror})", param="model") from error
        if found != expected:
            raise ModelError(f"model {model!r}: {name} is damaged: its SHA-256 is not that of {SUMS}", param="model")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    write_sums(Path(sys.argv[1]))
