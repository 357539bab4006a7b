"""`videosvc doctor`: what is installed and whether it works; each line is ok, or says what to do."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from videosvc import __version__
from videosvc.cli.attention import attention_of
from videosvc.cli.checkpoint import inspect_entry
from videosvc.config.devices import load_devices
from videosvc.config.models import load_model, load_models
from videosvc.config.presets import load_presets
from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import config_dir, load_settings
from videosvc.engine.loading import device_name, pick_device
from videosvc.errors import GenerationError, ModelError, UserError
from videosvc.families.device_label import device_label
from videosvc.pricing.calibration import NOT_CALIBRATED
from videosvc.pricing.cost_model import CostModel

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "fastapi", "celery", "redis")
FREE_GB = 1.0  # a clip takes far less; below this, logs, caches and temporary files of others begin to fail


def doctor() -> None:
    """Check this installation. Exit code 0 if all is well, else 4."""
    results = [_report(name, check) for name, check in CHECKS.items()]
    raise typer.Exit(0 if all(results) else GenerationError.exit_code)


def _report(name: str, check: Callable[[], str]) -> bool:
    """Prints the line of one check, which returns what it found or raises UserError saying what to do."""
    try:
        typer.echo(f"ok    {name}: {check()}")
    except UserError as error:
        typer.echo(f"fix   {name}: {error.message}")
        return False
    return True


def _versions() -> str:
    found = [f"videosvc {__version__}", f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError as error:
            raise UserError(f"{package} is not installed: run `pip install videosvc` again") from error
    return ", ".join(found)


def _configuration() -> str:
    folder = config_dir()
    load_settings(folder)
    load_devices(folder)
    return f"{folder}: {len(load_models(folder))} models, {len(load_presets(folder))} presets"


def _device() -> str:
    import torch

    folder = config_dir()
    device = pick_device(load_settings(folder).device)
    label = device_label(device)
    load_devices(folder).rate_of(label)
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} threads"
    return f"{device}, {label}"


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
        command = [program, "-hide_banner", "-encoders"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise UserError(f"does not run ({error}): install ffmpeg, or `pip install imageio-ffmpeg` again") from error
    if "libx264" not in done.stdout:
        raise UserError(f"{program} has no libx264 encoder: unset IMAGEIO_FFMPEG_EXE, or install one that has it")
    return f"{program} with libx264"


def _bundled_models() -> str:
    entries = load_models(config_dir()).values()
    try:
        found = [inspect_entry(entry) for entry in entries if entry.is_bundled]
    except ModelError as error:
        again = "install videosvc again, or in a checkout `git checkout -- videosvc/bundled`"
        raise UserError(f"{error.message}: {again}") from error
    return ", ".join(f"{one.name} is whole, hash {one.model_hash[:12]}" for one in found) or "none in models.toml"


def _calibration() -> str:
    folder = config_dir()
    settings = load_settings(folder)
    entry = load_model(folder, settings.model)
    if entry.folder_here() is None:
        return f"model {entry.name!r} is not here yet"
    plan, device = resolve_plan(Request("a red ball"), folder, settings).plan, device_name(settings.device)
    calibrated = CostModel(settings.data_dir, device).fit(entry, plan).calibrated
    return f"{device} is {'calibrated' if calibrated else NOT_CALIBRATED}"


def _attention() -> str:
    settings = load_settings(config_dir())
    found = {entry.name: attention_of(entry, settings) for entry in load_models(config_dir()).values()}
    line = "; ".join(f"{name} {attention}" for name, attention in found.items())
    return f"{line}: `videosvc calibrate` measures" if "unmeasured" in line else line


def _redis() -> str:
    from redis import RedisError

    from videosvc_queue.events import EventBus
    from videosvc_queue.redis_server import RedisServerError, find_server

    url = load_settings(config_dir()).redis_url
    if url is None:
        try:
            return f"`videosvc serve` starts its own, {find_server()}"
        except RedisServerError as error:
            raise UserError(str(error)) from error
    try:
        with closing(EventBus(url)) as bus:
            bus.ping()
    except (RedisError, ValueError) as error:  # the URL may hold a password: it is not shown
        raise UserError(f"does not answer ({error}): start it, or set VIDEOSVC_REDIS_URL right") from error
    return "that of VIDEOSVC_REDIS_URL answers"


def _database() -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from videosvc.cli.database_problem import reason
    from videosvc_queue.store import Store

    url = make_url(load_settings(config_dir()).database_url)
    if url.drivername == "sqlite" and not Path(url.database or "").exists():
        return f"`videosvc serve` makes {url.database}"
    shown = url.render_as_string(hide_password=True)
    try:
        with Store(url.render_as_string(hide_password=False)) as store:
            store.ping()
    except (SQLAlchemyError, ImportError) as error:
        said = reason(error) if isinstance(error, SQLAlchemyError) else error
        problem = f"{shown} does not answer ({said})"
        message = f"{problem}: start it, run `videosvc serve` once, or set VIDEOSVC_DATABASE_URL right"
        raise UserError(message) from error
    return f"{shown} answers"


def _disk() -> str:
    data_dir = load_settings(config_dir()).data_dir
    data_place = next(place for place in (data_dir, *data_dir.parents) if place.exists())
    places = {
        str(place): shutil.disk_usage(place).free / 1e9 for place in (Path.cwd(), tempfile.gettempdir(), data_place)
    }
    for place, free in places.items():
        if free < FREE_GB:
            raise UserError(f"{place} has {free:.1f} GB free: make room for at least {FREE_GB:g} GB")
    return ", ".join(f"{free:.0f} GB free in {place}" for place, free in places.items())


CHECKS: dict[str, Callable[[], str]] = {
    "versions": _versions,
    "configuration": _configuration,
    "device": _device,
    "ffmpeg": _ffmpeg,
    "bundled model": _bundled_models,
    "calibration": _calibration,
    "attention": _attention,
    "redis": _redis,
    "database": _database,
    "disk": _disk,
}
