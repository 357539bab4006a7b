"""`python -m training.toyworld.contact_sheet`: twelve prompts through the engine, six frames of each, one picture."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from videosvc.config.request import Request, resolve_plan
from videosvc.config.settings import config_dir, load_settings
from videosvc.config.size import Size
from videosvc.engine.generate import Engine
from videosvc.families.registry import load_family
from videosvc.pricing.clip_frames import read_frames

PROMPTS = (
    "a red balloon floats up over green hills",
    "an orange boat sails to the left on the sea",
    "a big red car drives to the left on the sand",
    "an orange fish swims to the right in the sea",
    "a big orange rocket flies up in the sky",
    "a pink heart grows at sunset",
    "a large purple star falls in the snow",
    "a large blue square spins on a meadow",
    "a big green ball falls under the stars",
    "a large red ring shrinks in the desert",
    "a large yellow triangle shrinks in the city at night",
    "a yellow circle goes round and round in the sky",
)
SHOWN = (0, 3, 6, 9, 12, 15)  # frames of sixteen


def main(output: Path, preset: str, size: str | None, seed: int) -> None:
    folder = config_dir()
    settings = load_settings(folder)
    engine = None
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, prompt in enumerate(PROMPTS):
            request = Request(prompt, preset=preset, size=size, seed=seed + number, seconds=2)
            resolved = resolve_plan(request, folder, settings)
            engine = engine or Engine(load_family(resolved.entry, torch.device("cpu"), torch.float32))
            clip = Path(scratch) / "clip.mp4"
            with closing(engine.run(resolved.plan, clip)) as events:
                for _ in events:
                    pass
            plan = resolved.plan
            frames = read_frames(clip, Size(plan.width, plan.height), plan.fps).pixels
            strip = Image.fromarray(np.concatenate([frames[i] for i in SHOWN], axis=1))
            row = Image.new("RGB", (strip.width, strip.height + 16), "white")
            row.paste(strip, (0, 16))
            ImageDraw.Draw(row).text((4, 2), prompt, fill="black")
            rows.append(row)
    half = len(rows) // 2
    width, height = rows[0].size
    sheet = Image.new("RGB", (2 * width + 8, half * height), "white")
    for number, row in enumerate(rows):
        sheet.paste(row, ((number // half) * (width + 8), (number % half) * height))
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/contact-sheet.png"))
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--size", default=None)
    parser.add_argument("--seed", type=int, default=101)
    arguments = parser.parse_args()
    main(arguments.output, arguments.preset, arguments.size, arguments.seed)
