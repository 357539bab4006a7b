"""What the long-running commands log: their own doings, and of libraries only what is wrong."""

from __future__ import annotations

import logging

CHATTY = ("alembic", "celery", "httpx", "kombu")


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
