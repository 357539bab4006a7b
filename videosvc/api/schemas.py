"""What the API takes and gives, for checking requests and for /openapi.json. Answers are not checked at run time."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from videosvc.config.request import Request
from videosvc.engine.picture import Picture
from videosvc.pricing.cap import Cap
from videosvc.pricing.goal import Goal

Tier = Literal["interactive", "batch"]
Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def _no_boolean(value: object) -> object:
    """Text may stand for a number, as the OpenAI SDK sends it; pydantic would take true for 1 as well."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Real = Annotated[float, BeforeValidator(_no_boolean)]
Whole = Annotated[int, BeforeValidator(_no_boolean)]


def _web_url(text: str) -> str:
    if re.fullmatch(WEB_URL, text) is None:
        raise ValueError("must be an http:// or https:// URL")
    return text


WEB_URL = r"https?://[^\s]+"
WebUrl = Annotated[
    str,
    StringConstraints(max_length=2000),
    AfterValidator(_web_url),
    Field(json_schema_extra={"pattern": f"^{WEB_URL}$"}),
]

EXAMPLE_PLAN: JsonDict = {
    "size": "64x64", "fps": 8, "frames": 16, "seconds": 2.0, "steps": 4, "sampler": "flow_map", "weights": "native",
    "frame_cache": "native", "decode": "stream", "step_cache": "none", "model": "toyworld", "traded": [],
}  # fmt: skip
EXAMPLE_QUOTE: JsonDict = {
    "id": "quote_QmFsbG9vbnMgb3ZlciBoaWxs", "object": "quote", "expires_at": 1790000600, "model": "toyworld",
    "preset": "balanced", "tier": "interactive", "seconds": 2.0, "price_usd": 0.000051,
    "price_per_second_usd": 0.0000255, "tier_prices_usd": {"interactive": 0.000051, "batch": 0.0000306},
    "compute_seconds": 1.1, "compute_seconds_bound": 1.22, "eta_seconds": 1.5,
    "device": "cpu", "device_usd_per_hour": 0.1, "expected_quality": 0.84, "quality_measured": True,
    "calibrated": True, "plan": EXAMPLE_PLAN, "alternatives": [], "traded": [],
}  # fmt: skip
EXAMPLE_VIDEO: JsonDict = {
    "id": "video_UmVkIGJhbGxvb25zIHJpc2Ug", "object": "video", "model": "toyworld", "status": "in_progress",
    "progress": 50, "created_at": 1790000000, "completed_at": None, "expires_at": None, "seconds": "2",
    "size": "64x64", "prompt": "a red balloon floats up over green hills", "error": None, "preset": "balanced",
    "tier": "interactive", "seed": 7, "queue_position": None, "eta_seconds": 0.7, "plan": EXAMPLE_PLAN,
    "quote": EXAMPLE_QUOTE, "receipt": None, "attempts": 1, "metadata": {}, "warnings": [],
}  # fmt: skip


class VideoRequest(BaseModel):
    """A clip to make, or to quote. What is not given is the preset's or the model's."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"prompt": "a red balloon floats up over green hills", "seconds": "2"}]},
    )

    prompt: str = Field(description="what the clip shows")
    model: str | None = Field(None, description="a model of GET /v1/models, or auto: whichever does it cheapest")
    preset: str | None = Field(None, description="a preset of GET /v1/presets")
    seconds: Real | None = Field(None, description="the clip's length; may be text, as the OpenAI SDK sends it")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels", examples=["64x64"])
    fps: Whole | None = Field(None, description="frames a second")
    seed: Whole | None = Field(None, description="the same seed gives the same clip; drawn if not given")
    negative_prompt: str | None = Field(None, description="what the clip must not show")
    max_cost_usd: Real | None = Field(None, description="the most that the job may be charged")
    max_compute_seconds: Real | None = Field(None, description="the most compute that the job may take")
    on_cap: Literal["degrade", "reject"] = Field("degrade", description="what to do if the caps are too low for it")
    min_quality: Real | None = Field(
        None, description="from 0 to 1, as measured: the cheapest plan that is expected to reach it will do"
    )
    deadline_seconds: Real | None = Field(None, description="to be done in so many seconds, or refused")
    tier: Tier = Field("interactive", description="batch is cheaper and may wait")
    webhook_url: WebUrl | None = Field(None, description="told of the end by a signed POST (Standard Webhooks)")
    metadata: dict[Key, Annotated[str, StringConstraints(max_length=512)]] = Field(
        {}, max_length=16, description="given back with the video"
    )
    quote_id: str | None = Field(None, max_length=64, description="run what POST /v1/quotes quoted, at its price")

    def request(self, picture: Picture | None = None) -> Request:
        """`picture`: what came as input_reference."""
        return Request(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            model=self.model,
            preset=self.preset,
            seconds=self.seconds,
            size=self.size,
            fps=self.fps,
            seed=self.seed,
            picture=picture,
        )

    def cap(self) -> Cap:
        """Raises UserError naming the cap that is wrong."""
        return Cap.parse(self.max_cost_usd, self.max_compute_seconds, self.on_cap)

    def goal(self) -> Goal:
        """Raises UserError naming min_quality or deadline_seconds."""
        return Goal.parse(self.min_quality, self.deadline_seconds)


class Answer(BaseModel):
    """Later versions may add fields."""

    model_config = ConfigDict(extra="allow")


class ErrorDetail(Answer):
    code: str
    message: str
    param: str | None = Field(description="the field at fault")
    type: str


class Error(Answer):
    error: ErrorDetail

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "code": "cap_too_low",
                    "message": "max_cost_usd: the cheapest plan costs 0.00002 USD",
                    "param": "max_cost_usd",
                    "type": "invalid_request_error",
                    "cheapest_usd": 0.00002,
                }
            }
        }
    )


class VideoFailure(Answer):
    code: str
    message: str


class Video(Answer):
    """A job and, once it is completed, its clip. Times are Unix seconds."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_VIDEO})

    id: str
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled"]
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None
    expires_at: int | None = Field(description="when its content is removed")
    seconds: str
    size: str = Field(description="as it is delivered")
    prompt: str
    error: VideoFailure | None
    preset: str
    tier: Tier
    seed: int
    queue_position: int | None = Field(description="jobs that run before it while it is queued; null in lists")
    eta_seconds: float | None = Field(description="until it is done, as predicted; null in lists while queued")
    plan: dict[str, Any] = Field(description="what will run, or ran, and what was given up for the cap")
    quote: dict[str, Any]
    receipt: dict[str, Any] | None = Field(description="once it has ended, in whichever way")
    attempts: int
    metadata: dict[str, str]
    warnings: list[str] = Field(description="such as words of the prompt that the model never saw")


class VideoList(Answer):
    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedVideo(Answer):
    id: str
    object: Literal["video.deleted"]
    deleted: bool


class Quote(Answer):
    """Binding until `expires_at`: no more than `price_usd` is charged."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_QUOTE})

    id: str
    object: Literal["quote"]
    expires_at: int
    model: str
    preset: str
    tier: str
    seconds: float
    price_usd: float
    price_per_second_usd: float
    compute_seconds: float = Field(description="expected")
    compute_seconds_bound: float = Field(description="95 of 100 such jobs take no more: what the price is of")
    tier_prices_usd: dict[str, float] = Field(description="of the same plan, in each tier")
    eta_seconds: float = Field(description="until it would be done, were it created now, if it takes its bound")
    device: str
    device_usd_per_hour: float
    expected_quality: float = Field(description="from 0 to 1")
    quality_measured: bool = Field(description="false: the quality only puts plans in order")
    calibrated: bool = Field(description="false: the device was never measured, and the price is a careful guess")
    plan: dict[str, Any]
    alternatives: list[dict[str, Any]]
    traded: list[dict[str, Any]]


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    sizes: list[str]
    max_seconds: float


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class Preset(Answer):
    id: str
    object: Literal["preset"]
    description: str
    is_default: bool


class PresetList(Answer):
    object: Literal["list"]
    data: list[Preset]


class UsageOfDay(Answer):
    day: str = Field(description="UTC", examples=["2026-11-21"])
    model: str
    tier: Tier
    videos: int
    compute_seconds: float
    charged_usd: float


class Usage(Answer):
    object: Literal["usage"]
    data: list[UsageOfDay]
    total: dict[str, float]


class Limits(Answer):
    max_concurrent: int
    max_queued: int
    per_minute: int
    usd_per_day: float | None
    weight: float


class Me(Answer):
    object: Literal["tenant"]
    tenant: str
    spent_today_usd: float = Field(description="charged since midnight UTC, and held for open jobs")
    balance_usd: float | None = Field(description="paid in advance less charged; null if this tenant pays afterwards")
    available_usd: float | None = Field(description="the balance less what open jobs hold: what a new job may cost")
    limits: Limits
    webhook_secret: str = Field(description="Standard Webhooks: what this tenant's webhooks are signed with")


class Health(Answer):
    status: str


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Error}, "5XX": {"model": Error}}


def request_body() -> dict[str, Any]:
    """The OpenAPI entry of a body that is read by body.py."""
    schema = VideoRequest.model_json_schema()
    what = "a PNG, JPEG or WebP image to start from: the first frame, scaled and cut to the clip's size"
    kinds = {
        "application/json": {"type": "string", "format": "uri", "description": f"{what}; as a data: URL"},
        "multipart/form-data": {"type": "string", "format": "binary", "description": what},
    }
    content = {
        kind: {"schema": {**schema, "properties": {**schema["properties"], "input_reference": reference}}}
        for kind, reference in kinds.items()
    }
    return {"requestBody": {"required": True, "content": content}}
