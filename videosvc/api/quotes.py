"""Quotes: what a create with the same body would run and cost at most."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from videosvc.api.errors import invalid
from videosvc.api.schemas import ERRORS, Quote, request_body
from videosvc.api.services import Here
from videosvc.api.submission import checked, plan
from videosvc.api.videos import Sent, Tenant

router = APIRouter(prefix="/v1", tags=["quotes"], responses=ERRORS)


@router.post("/quotes", response_model=None, responses={200: {"model": Quote}}, openapi_extra=request_body())
def create_quote(tenant: Tenant, sent: Sent, services: Here) -> Response:
    """Plan and price a clip; nothing runs. Create with `quote_id` runs it at this price."""
    rate = services.rates.take(tenant)
    request, picture = checked(sent, services.settings)
    if request.quote_id is not None:
        raise invalid("quote_id", "is for creating a video")
    quote, _ = plan(services, tenant, request, picture)
    body = {"request": request.model_dump(mode="json"), "quote": quote.fields()}
    services.store.save_quote(quote.id, tenant.tenant, body, quote.expires_at)
    return JSONResponse(quote.as_dict(), headers=rate.headers())
