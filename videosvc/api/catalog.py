"""What can be asked for: models and presets."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from videosvc.api.schemas import ERRORS, ModelList, PresetList
from videosvc.api.services import Here
from videosvc.api.videos import Tenant
from videosvc.config.models import load_models
from videosvc.config.presets import load_presets

router = APIRouter(prefix="/v1", tags=["catalog"], responses=ERRORS)


@router.get("/models", response_model=None, responses={200: {"model": ModelList}})
def list_models(tenant: Tenant, services: Here) -> Response:
    """The models, with what each can be asked for."""
    services.config.refresh()
    folder = services.config.folder
    entries = load_models(folder).values()
    changed = int((folder / "models.toml").stat().st_mtime)
    models = [
        {
            "id": entry.name,
            "object": "model",
            "created": changed,
            "owned_by": "videosvc",
            "is_default": entry.name == services.settings.model,
            "family": entry.family,
            "sizes": list(entry.sizes),
            "grid": entry.grid,
            "min_side": entry.min_side,
            "max_side": entry.max_side,
            "fps": entry.fps,
            "max_fps": entry.max_fps,
            "seconds": entry.defaults.seconds,
            "max_seconds": entry.max_seconds,
        }
        for entry in entries
    ]
    return JSONResponse({"object": "list", "data": models})


@router.get("/presets", response_model=None, responses={200: {"model": PresetList}})
def list_presets(tenant: Tenant, services: Here) -> Response:
    """The presets: what each asks for, its levers and its limits."""
    services.config.refresh()
    presets = [
        {
            "id": preset.name,
            "object": "preset",
            "description": preset.preset.description,
            "is_default": preset.name == services.settings.preset,
            **preset.model_dump(mode="json", exclude={"preset"}),
        }
        for preset in load_presets(services.config.folder).values()
    ]
    return JSONResponse({"object": "list", "data": presets})
