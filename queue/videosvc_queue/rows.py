"""Rows of `jobs` as Job."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Column, Row

from videosvc_queue.job import Job
from videosvc_queue.tables import jobs

JOB_COLUMNS: tuple[Column[Any], ...] = tuple(jobs.c[field.name] for field in dataclasses.fields(Job))


def to_job(row: Row[*tuple[Any, ...]]) -> Job:
    """`row` begins with JOB_COLUMNS, which are Job's fields in their order."""
    return Job(*row[: len(JOB_COLUMNS)])
