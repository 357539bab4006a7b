"""Rows of `jobs` as Job."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Column, Row

from videosvc_queue.job import Job
from videosvc_queue.tables import jobs

JOB_COLUMNS: tuple[Column[Any], ...] = tuple(jobs.c[field.name] for field in dataclasses.fields(Job))


def to_job(row: Row[Any]) -> Job:
    """`row` has JOB_COLUMNS, and maybe others."""
    return Job(**{column.name: row._mapping[column] for column in JOB_COLUMNS})
