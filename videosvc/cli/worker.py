"""`videosvc worker`: takes jobs of a service and makes their clips, on one device."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from videosvc.cli.logs import log_to_stderr
from videosvc.config.settings import ENV_PREFIX, config_dir, load_settings


def worker(
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda:N.", show_default="VIDEOSVC_DEVICE, else auto")
    ] = None,
) -> None:
    """Work on jobs of the service whose database and Redis VIDEOSVC_DATABASE_URL and VIDEOSVC_REDIS_URL name."""
    log_to_stderr()
    if device is not None:  # an option is as good as its variable
        os.environ[ENV_PREFIX + "DEVICE"] = device
    folder = config_dir()
    settings = load_settings(folder)
    from videosvc.worker.main import run_worker  # here, so that other commands load no Celery

    raise typer.Exit(run_worker(settings, folder))
