"""The bundled model's card from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = """# toyworld

A small text-to-video model that ships with videosvc, so that a first clip needs no download and no GPU. It was trained
from nothing by the stages of `make bundled-model` (`training/toyworld/`), on procedurally drawn clips; no outside data
went in. The recipe runs them once; here they ran in stretches. When the flow had been trained further, distillation
went on from the new flow plus what it had changed in the one before; the decoder was finished on an earlier student;
and of four versions from the last stage, before a critic, that was kept which did best on 400 clips.

| part | what |
| --- | --- |
| transformer | `AnyFlowFARTransformer3DModel`, {transformer} M parameters, 8 layers; causal, one second a chunk |
| autoencoder | `CausalConvAutoencoder`, {vae} M parameters, 2-D; a latent is 12 numbers for 8x8 pixels of 4 frames |
| text encoder | `UMT5EncoderModel`, 2 layers, width 128, a word-level vocabulary |
| samplers | `flow_map` at 1, 2, 4, 8 steps; guidance is folded into the weights (scale {guidance}) |

It knows {colours} colours ({colour_names}), {kinds} kinds of things ({kind_names}), three sizes, {motions} motions
({motion_names}) and {backgrounds} backgrounds ({background_names}); one thing or two side by side; a fixed or a
panning camera. Frames are 64x64 to 128x128 at 8 a second, for 1 to 8 seconds.

## How often it shows what the caption says

Held-out captions and seeds: the combination of kind, colour, motion and background was never trained on, but by the
autoencoder. A probe reads
the attributes back from the frames by comparing them with what the renderer would have drawn
(`training/toyworld/probe.py`); its own error on rendered clips is in the table. The first second is made from noise,
each other follows the one before it. `python -m training.toyworld.evaluate` measures the table anew.

{table}

## Limits

It shows coloured shapes and a few little things, nothing else; of words it never saw it knows nothing, and
`videosvc generate` names them. Long clips look back one second only: of 8 s what shows stays, how it moves drifts (and
the probe itself reads 8 s of motion right in four of five only). Fine texture and the outlines of small things are
soft. Two things in one clip and the panning camera are not in the table.
"""


def card(model: Path, rows: list[dict[str, Any]]) -> str:
    """Of the model in that folder."""
    from training.toyworld import vocabulary as words
    from training.toyworld.distil import GUIDANCE

    lines = ["| | size | seconds | clips | background | colour | shape | motion | all four |", "|" + "---|" * 9]
    for row in rows:
        shares = [f"{100 * row[name]:.1f} %" for name in ("background", "colour", "shape", "motion", "all_four")]
        size = f"{row['size']}x{row['size']}" if row["size"] else ""
        lines.append(
            f"| {row['what']} | {size} | {row['seconds'] or ''} | {row['clips'] or ''} | {' | '.join(shares)} |"
        )
    return TEXT.format(
        guidance=GUIDANCE,
        vae=_millions(model, "vae"),
        transformer=_millions(model, "transformer"),
        table="\n".join(lines),
        colours=len(words.COLOURS),
        colour_names=", ".join(words.COLOURS),
        kinds=len(words.KINDS),
        kind_names=", ".join(words.KINDS),
        motions=len(words.MOTIONS),
        motion_names=", ".join(words.MOTIONS),
        backgrounds=len(words.BACKGROUNDS),
        background_names=", ".join(words.BACKGROUNDS),
    )


def _millions(model: Path, part: str) -> str:
    """Of weights, two bytes each."""
    return f"{sum(file.stat().st_size for file in (model / part).glob('*.safetensors')) / 2e6:.1f}"
