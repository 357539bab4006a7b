"""Frames to an MP4 while they come, through one ffmpeg process and its pipe."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from imageio_ffmpeg import get_ffmpeg_exe
from torch import Tensor

from videosvc.engine.signals import signals_held
from videosvc.errors import EncoderStopped, GenerationError, UserError

CRF = "18"  # near lossless to the eye; the flat colours of small frames show x264's default of 23

STOPPED = (255, -signal.SIGTERM, -signal.SIGKILL)  # what ffmpeg ends with when somebody stops it; 255 at a SIGTERM


class Mp4Writer:
    """H.264, yuv420p, BT.709, playable while it downloads (`moov` before `mdat`).

    Writes under a temporary name beside the target; only `finish` gives the file its name. Leaving the `with`
    block without it removes everything.
    """

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        """`width` and `height` in pixels, both even."""
        self._path = path
        self._width, self._height, self._fps = width, height, fps
        self._temporary = path.with_name(f".{secrets.token_hex(8)}.part")  # short: a name has 255 bytes
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Mp4Writer:
        """Starts ffmpeg. Raises UserError if no file can be made there."""
        if self._path.is_dir():
            raise UserError(f"-o: {str(self._path)!r} is a folder; name a file", param="output")
        try:
            with signals_held():
                self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def write(self, frames: Tensor) -> None:
        """`(T, H, W, 3)` uint8 RGB on the CPU."""
        if tuple(frames.shape[1:]) != (self._height, self._width, 3):
            raise ValueError(f"frames: {tuple(frames.shape)} is not (T, {self._height}, {self._width}, 3)")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frames.contiguous().numpy().data)
            self._process.stdin.flush()
        except OSError as error:
            self._process.wait()
            raise self._failure() from error

    def finish(self) -> None:
        """Ends the stream and gives the file its name."""
        self._close_pipe()
        if self._process.wait() != 0:
            raise self._failure()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)

    def _begin(self) -> None:
        try:
            self._temporary.open("xb").close()
        except OSError as error:
            raise UserError(f"-o: {str(self._path)!r} cannot be written: {error.strerror}", param="output") from error
        self._stack.callback(self._temporary.unlink, missing_ok=True)
        log = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it; a file, as a full pipe would block ffmpeg
        self._log = self._stack.enter_context(log)
        self._process = self._start()
        self._stack.callback(self._stop)

    def _end(self) -> None:
        """Undoes what was begun, the last first."""
        with signals_held():
            self._stack.close()

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close_pipe()

    def _start(self) -> subprocess.Popen[bytes]:
        source = f"-f rawvideo -pix_fmt rgb24 -s {self._width}x{self._height} -r {self._fps} -i -"
        # Untagged, players take small videos for BT.601 and large ones for BT.709, and the colours shift.
        colour = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
        convert = "-vf scale=out_color_matrix=bt709:out_range=tv -pix_fmt yuv420p"
        encode = f"-c:v libx264 -crf {CRF} -movflags +faststart -f mp4"
        options = f"-hide_banner -loglevel error -y {source} {convert} {colour} {encode}"
        try:
            return subprocess.Popen(
                [get_ffmpeg_exe(), *options.split(), f"file:{self._temporary}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for us: we may want to land the clip, or to clean up
            )
        except (OSError, RuntimeError) as error:  # RuntimeError: there is none
            line = " ".join(str(error).split())
            raise GenerationError(f"ffmpeg does not run ({line}); `videosvc doctor` says what to do") from error

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # what was still in the buffer, for a process that has gone
            self._process.stdin.close()

    def _failure(self) -> GenerationError:
        code = self._process.returncode
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {code}"
        if code in STOPPED:
            return EncoderStopped(f"ffmpeg was stopped: {why}")
        return GenerationError(f"ffmpeg failed: {why}")
