from __future__ import annotations

import subprocess
import sys

import pytest

from videosvc_samplers import SAMPLERS, consistency, euler, flow_map, get_sampler, unipc


def test_gives_each_sampler_by_name() -> None:
    assert list(SAMPLERS) == ["flow_map", "euler", "unipc", "consistency"]
    assert [get_sampler(name) for name in SAMPLERS] == [flow_map, euler, unipc, consistency]


def test_lists_the_known_names() -> None:
    with pytest.raises(ValueError, match="sampler: 'ddim' is not one of flow_map, euler, unipc, consistency"):
        get_sampler("ddim")


def test_import_leaves_diffusers_and_the_other_rooms_alone() -> None:
    program = (
        "import sys, videosvc_samplers; "
        "print(sorted({'diffusers', 'videosvc', 'videosvc_kernels', 'videosvc_queue'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
