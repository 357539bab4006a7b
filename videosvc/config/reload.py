"""Configuration that is edited while a service runs: what is right counts at once, what is broken not at all."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from videosvc.config.devices import load_devices
from videosvc.config.models import ORIGIN, load_models
from videosvc.config.presets import load_preset_file
from videosvc.config.quality import load_quality_file
from videosvc.errors import ConfigError

log = logging.getLogger(__name__)

PATTERNS = ("models.toml", "devices.toml", "presets/*.toml", "quality/*.json")
NOT_REMOVED = ("models.toml", "devices.toml")  # editors move a file away before they write it anew


class LiveConfig:
    """A copy of a configuration folder, each file as it was when it was last right. Threads may share it."""

    def __init__(self, source: Path, folder: Path) -> None:
        """`folder` is empty and becomes the copy. Raises ConfigError if a file of `source` is broken now."""
        self.folder = folder
        self._source = source.absolute()
        self._seen: dict[str, tuple[int, int]] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()
        (folder / ORIGIN).write_text(str(self._source))
        if self.refresh():
            raise ConfigError(next(iter(self._problems.values())))

    def refresh(self) -> Mapping[str, str]:
        """Takes over what was edited since; costs some fifty microseconds if nothing was.

        Returns what is wrong with each file that is broken, by its name; the copy then keeps the one before.
        """
        with self._lock:
            present = {str(path.relative_to(self._source)): path for path in self._files()}
            for name in self._seen.keys() - present.keys():
                del self._seen[name]
                if name in NOT_REMOVED:
                    self._tell(name, f"{self._source / name}: is gone")
                else:
                    (self.folder / name).unlink(missing_ok=True)
                    self._problems.pop(name, None)
            for name, path in present.items():
                try:
                    state = path.stat()
                except OSError:
                    continue  # gone between the two looks; the next one sees it
                if self._seen.get(name) != (state.st_mtime_ns, state.st_size):
                    self._seen[name] = (state.st_mtime_ns, state.st_size)
                    self._take(name, path)
            return MappingProxyType(dict(self._problems))

    def _files(self) -> Iterator[Path]:
        for pattern in PATTERNS:
            yield from self._source.glob(pattern)

    def _take(self, name: str, path: Path) -> None:
        """Puts the file into the copy if it is right. Checked is the very text that is then served."""
        kept = self.folder / name
        kept.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as trial:
            try:
                candidate = Path(trial, path.name)
                candidate.write_bytes(path.read_bytes())
                _check(candidate)
            except (ConfigError, OSError) as error:
                self._tell(name, str(error).replace(trial, str(path.parent)))
                return
            os.replace(candidate, kept)
        if self._problems.pop(name, None):
            log.info("%s is right again", path)

    def _tell(self, name: str, problem: str) -> None:
        self._problems[name] = problem
        log.error("%s; what was there before goes on serving", problem)


def _check(path: Path) -> None:
    """Raises ConfigError."""
    loaders: dict[str, Callable[[Path], object]] = {"models.toml": load_models, "devices.toml": load_devices}
    if path.name in loaders:
        loaders[path.name](path.parent)
    elif path.suffix == ".toml":
        load_preset_file(path)
    else:
        load_quality_file(path)


@contextmanager
def live_config(source: Path) -> Iterator[LiveConfig]:
    """Raises ConfigError if a file is broken already."""
    with tempfile.TemporaryDirectory(prefix="videosvc-config-") as folder:
        yield LiveConfig(source, Path(folder))
