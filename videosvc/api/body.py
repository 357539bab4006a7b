"""Request bodies, JSON or multipart, as one dictionary of plain values; nothing of them is believed yet."""

from __future__ import annotations

import asyncio
import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from videosvc.api.errors import ApiError, invalid, unavailable

JSON = "application/json"
MULTIPART = "multipart/form-data"
MAX_FIELDS = 200  # of a form, files included
MAX_MARKS = 20_000  # commas and opening brackets of JSON: a request's texts, full of commas, have fewer
MAX_DEPTH = 16  # of brackets
SMALL_BYTES = 64 * 1024  # parsed at once, in some milliseconds at most; a larger body waits for a thread
MOST_BYTES = 256 * 2**20  # of all bodies at a time, beyond the small part of each
WITHIN_S = 60.0  # a body that comes more slowly than that would be held for ever
BAD_CHARACTER = re.compile("[\0\ud800-\udfff]")  # databases refuse them; JSON can write them, as "\\ud800"
NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
BRACKET = re.compile(r"\[([^\[\]]*)\]")


class Room:
    """Bytes of large bodies that are held at a time, in all. For the event loop's thread alone."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Takes so many bytes for one body, once it is more than a small one; all come back at the end.

        Raises ApiError 503 where there are no more.
        """
        taken = 0

        def take(held: int) -> None:
            nonlocal taken
            more = max(0, held - SMALL_BYTES) - taken
            if more > self._left:
                raise unavailable("too many large bodies are being read; try again")
            taken += more
            self._left -= more

        try:
            yield take
        finally:
            self._left += taken


@dataclass(frozen=True, slots=True)
class Body:
    """What a client sent."""

    fields: dict[str, Any]  # as JSON has them; those of a form are all text
    files: dict[str, bytes]


async def read_body(request: Request, max_bytes: int, few: asyncio.Semaphore, take: Callable[[int], None]) -> Body:
    """`few`: how many large ones may be parsed at a time. `take`: a share of `Room`.

    Raises ApiError: 413 as soon as it is clear that there is more than `max_bytes`, 415, 503, 400 naming the field.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind not in (JSON.encode(), MULTIPART.encode()):
        raise ApiError(415, "unsupported_media_type", f"the body must be {JSON} or {MULTIPART}", "Content-Type")
    try:
        async with asyncio.timeout(WITHIN_S):
            data = await _read(request, max_bytes, take)
    except TimeoutError as error:
        raise invalid("body", f"must arrive within {WITHIN_S:g} s") from error
    boundary = None if kind == JSON.encode() else options.get(b"boundary", b"")
    if len(data) <= SMALL_BYTES:
        return _parse(data, boundary)
    async with few:
        return await run_in_threadpool(_parse, data, boundary)


async def _read(request: Request, max_bytes: int, take: Callable[[int], None]) -> bytes:
    too_large = ApiError(413, "body_too_large", f"the body may have at most {max_bytes} bytes", "body")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:20]) > max_bytes:
        raise too_large
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > max_bytes:
            raise too_large
        take(len(data))
    return bytes(data)


def _parse(data: bytes, boundary: bytes | None) -> Body:
    """`boundary`: of a form; None is JSON."""
    body = _parse_json(data) if boundary is None else _parse_form(data, boundary)
    for path, text in _texts(body.fields):
        if bad := BAD_CHARACTER.search(text):
            problem = "must not contain a NUL character" if bad[0] == "\0" else "must be UTF-8 text"
            raise invalid(".".join(path) or "body", problem)
    return body


def _parse_json(data: bytes) -> Body:
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_MARKS:
        raise invalid("body", f"has more than {MAX_MARKS} commas and brackets, which no request needs")
    try:
        fields = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise invalid("body", "must be UTF-8 text") from error
    except RecursionError as error:
        raise invalid("body", "is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise invalid("body", f"must be JSON: {error}") from error
    except ValueError as error:  # Python's limit, with advice for whoever runs it
        raise invalid("body", "has a number of too many digits") from error
    if not isinstance(fields, dict):
        raise invalid("body", "must be a JSON object")
    return Body(fields, {})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise invalid("body" if BAD_CHARACTER.search(twice) else twice, "is there twice")
    return fields


def _parse_form(data: bytes, boundary: bytes) -> Body:
    """Through python-multipart rather than Starlette, which reads text that is not UTF-8 as Latin-1."""
    pairs: list[tuple[str, str]] = []
    ends: list[bool] = []
    files: dict[str, bytes] = {}

    def count() -> None:
        if len(pairs) + len(files) == MAX_FIELDS:
            raise invalid("body", f"has more than {MAX_FIELDS} fields")

    def on_field(field: Field) -> None:
        count()
        name = _utf8(field.field_name or b"", "body")
        pairs.append((name, _utf8(field.value or b"", name)))

    def on_file(file: File) -> None:
        count()
        name = _utf8(file.field_name or b"", "body")
        if name in files:
            raise invalid(name, "is there twice")
        file.file_object.seek(0)
        files[name] = file.file_object.read()
        file.close()

    if not boundary:
        raise invalid("Content-Type", "multipart/form-data needs a boundary")
    try:
        # The whole body is in memory already, and bounded: no temporary files.
        config = {"MAX_MEMORY_FILE_SIZE": len(data) + 1}
        parser = FormParser(MULTIPART, on_field, on_file, lambda: ends.append(True), boundary=boundary, config=config)
        parser.write(data)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise invalid("body", f"is no whole multipart form: {error}") from error
    if not ends:
        raise invalid("body", "is no whole multipart form: its end is missing")
    fields: dict[str, Any] = {}
    for name, value in pairs:
        _put(fields, name, value)
    return Body(fields, files)


def _utf8(data: bytes, param: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(param, "must be UTF-8 text") from error


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    """`a[b]` is b of the object a, `a[]` one more of the list a."""
    match = NAME.fullmatch(name)
    if match is None:
        raise invalid("body", f"{reprlib.repr(name)} is no field name; nested ones are written a[b], lists a[]")
    path = [match[1], *BRACKET.findall(match[2])]
    if len(path) > MAX_DEPTH:
        raise invalid(match[1], "is nested too deeply")
    place: Any = fields
    for key, following in zip(path, [*path[1:], None], strict=True):
        fresh: Any = value if following is None else ([] if following == "" else {})
        if isinstance(place, list):
            if key != "":
                raise invalid(match[1], "is both a list and an object")
            place.append(fresh)
            place = place[-1]
        elif key in place and (following is None or type(place[key]) is not type(fresh)):
            raise invalid(match[1], "is there twice")
        else:
            place = place.setdefault(key, fresh)


def _texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in `value`, keys too, with the path of the field it stands in. Raises ApiError if it is too deep."""
    if len(path) > MAX_DEPTH:
        raise invalid("body", "is nested too deeply")
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield path, key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, str(index)))
