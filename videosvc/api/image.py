"""The picture that a request brings along: a file of a form, or a data: URL."""

from __future__ import annotations

import base64
import binascii
import re

from videosvc.api.body import Body
from videosvc.api.errors import invalid
from videosvc.engine.picture import PARAM, Picture

ALLOWED = "must be an image: a file in a multipart body, or a data: URL"
DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def take_picture(body: Body) -> tuple[Body, Picture | None]:
    """The body without its input_reference, and that. Raises ApiError or UserError (input_reference).

    The OpenAI SDK sends a file, or an object with an `image_url`, of which we take data: URLs alone: the service
    fetches nothing for anybody.
    """
    fields, files = dict(body.fields), dict(body.files)
    file, reference = files.pop(PARAM, None), fields.pop(PARAM, None)
    if file is not None and reference is not None:
        raise invalid(PARAM, "is there twice")
    if isinstance(reference, dict) and set(reference) == {"image_url"}:
        reference = reference["image_url"]
    if reference is not None:
        file = _content(reference)
    return Body(fields, files), None if file is None else Picture.read(file)


def _content(reference: object) -> bytes:
    head = DATA_URL.match(reference) if isinstance(reference, str) else None
    if head is None:
        raise invalid(PARAM, ALLOWED)
    try:
        return base64.b64decode(head.string[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(PARAM, "its data: URL must be base64") from error
