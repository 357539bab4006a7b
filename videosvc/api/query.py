"""Query parameters that a route does not have are refused: one that is misspelt would count for nothing, silently."""

from __future__ import annotations

import reprlib
from collections import Counter

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from videosvc.api.errors import ApiError


async def known_query(request: Request) -> None:
    """Dependency of every route of the API. Raises ApiError 400 naming a parameter that is unknown, or there twice."""
    if not request.scope["query_string"]:  # `request.url` would be put together first
        return
    fields = get_flat_params(request.scope["route"].dependant)
    known = sorted(field.alias for field in fields if isinstance(field.field_info, Query))
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            problem = f"unknown query parameter; known are {', '.join(known) or 'none'}"
        elif count > 1:
            problem = "is there twice"
        else:
            continue
        raise ApiError(400, "invalid_request", f"{reprlib.repr(name)}: {problem}", name)
