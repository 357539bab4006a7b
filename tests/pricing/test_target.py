from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videosvc.config.presets import Cap, Preset, load_preset, load_preset_file
from videosvc.config.size import Size
from videosvc.errors import UserError
from videosvc.pricing.finding import Finding, standard_error
from videosvc.pricing.options import frontier
from videosvc.pricing.preset_file import check_preset_name, preset_toml, tuned_preset
from videosvc.pricing.setting import Setting
from videosvc.pricing.target import Target


def finding(quality: float, compute_s: float, steps: int = 4) -> Finding:
    setting = Setting(Size(96, 64), 8, steps, "flow_map", "int8", "int4")
    return Finding(setting, quality, 0.01, (compute_s, compute_s, compute_s), Decimal(repr(compute_s)) / 1000)


FINDINGS = st.lists(st.builds(finding, st.floats(0, 1), st.floats(0.01, 10)), min_size=1, max_size=30)
REFERENCE = finding(1.0, 50.0, 50)


@given(FINDINGS)
def test_the_frontier_is_never_dominated_and_leaves_nothing_out(swept: list[Finding]) -> None:
    best = frontier(swept)
    for one in swept:
        better = [
            other
            for other in swept
            if (other.price_usd < one.price_usd and other.quality >= one.quality)
            or (other.price_usd == one.price_usd and other.quality > one.quality)
        ]
        dearer = [other for other in swept if other.price_usd == one.price_usd and other.quality == one.quality]
        assert (one in best) == (not better) or len(dearer) > 1


@given(FINDINGS, st.floats(0.01, 1))
def test_the_cheapest_that_is_good_enough(swept: list[Finding], share: float) -> None:
    good = [one for one in swept if one.quality >= share]
    if not good:
        with pytest.raises(UserError, match=f"nothing reaches .*; the best is {max(o.quality for o in swept):.3f} at"):
            Target.parse(share, None).choose(swept, REFERENCE)
        return
    chosen = Target.parse(share, None).choose(swept, REFERENCE)
    assert chosen.quality >= share
    assert chosen.price_usd == min(one.price_usd for one in good)


@given(FINDINGS, st.floats(1e-5, 1e-2))
def test_the_best_that_is_cheap_enough(swept: list[Finding], usd: float) -> None:
    cheap = [one for one in swept if one.price_usd <= Decimal(repr(usd))]
    if not cheap:
        with pytest.raises(UserError, match="nothing is so cheap; the cheapest is "):
            Target.parse(None, usd).choose(swept, REFERENCE)
        return
    chosen = Target.parse(None, usd).choose(swept, REFERENCE)
    assert chosen in cheap and chosen.quality == max(one.quality for one in cheap)


@given(FINDINGS, st.floats(0.01, 1))
def test_a_share_of_the_best_is_always_reached(swept: list[Finding], share: float) -> None:
    best = max(one.quality for one in swept)
    chosen = Target.parse(share, None, "best").choose(swept, REFERENCE)
    assert chosen.quality >= share * best
    assert chosen.price_usd == min(one.price_usd for one in swept if one.quality >= share * best)
    with pytest.raises(UserError, match="of: 'worst' is not one of reference, best"):
        Target.parse(share, None, "worst")


@pytest.mark.parametrize(
    ("at_least", "under", "param"),
    [(0.9, 0.1, "under"), (0.0, None, "at_least"), (1.01, None, "at_least"), (float("nan"), None, "at_least"),
     (None, 0.0, "under"), (None, float("inf"), "under"), (None, float("nan"), "under")],
)  # fmt: skip
def test_targets_that_make_no_sense(at_least: float | None, under: float | None, param: str) -> None:
    with pytest.raises(UserError) as caught:
        Target.parse(at_least, under)
    assert caught.value.param == param


@given(counts=st.booleans(), values=st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=30))
def test_the_standard_error_shrinks_with_more_of_the_same(counts: bool, values: list[float]) -> None:
    some, more = standard_error(values, counts), standard_error(values * 4, counts)
    assert some is not None and more is not None and more <= some
    assert (some > 0) or not counts


def test_one_clip_says_nothing_of_its_error_unless_it_counts() -> None:
    assert standard_error([0.7], counts=False) is None
    assert standard_error([1.0], counts=True) == pytest.approx(0.2357, abs=1e-4)  # Beta(2, 1)


@pytest.fixture
def base(configs: Path) -> Preset:
    return load_preset(configs, "balanced")


def test_a_preset_file_is_read_as_it_was_written(base: Preset, tmp_path: Path) -> None:
    made = tuned_preset("a-b_1", 'says "cheap" \\ größer 🎈', base, finding(0.9, 0.2), seconds=2.0)
    file = tmp_path / "a-b_1.toml"
    file.write_text(preset_toml(made), encoding="utf-8")
    assert load_preset_file(file) == made
    assert (made.quality.size, made.quality.steps) == ("96x64", 4)
    assert (made.levers.weights, made.levers.frame_cache, made.levers.decode) == ("int8", "int4", "stream")
    assert (made.cap, made.price) == (base.cap, base.price)
    assert "[quality]                # what is asked for\n" in file.read_text()
    uncapped = made.model_copy(update={"cap": Cap()})
    file.write_text(preset_toml(uncapped), encoding="utf-8")
    assert load_preset_file(file) == uncapped and "[cap]" not in file.read_text()


def test_limits_leave_room_for_what_was_measured(base: Preset, tmp_path: Path) -> None:
    made = tuned_preset("dear", "", base, finding(0.9, 40.0), seconds=2.0)
    assert made.cap.max_compute_seconds_per_second == 80.0
    assert made.cap.max_cost_usd == pytest.approx(2 * 0.04 * 2.0)
    without = base.model_copy(update={"cap": base.cap.model_copy(update={"max_cost_usd": None})})
    assert tuned_preset("dear", "", without, finding(0.9, 40.0), seconds=2.0).cap.max_cost_usd is None


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 65, "a.b"])
def test_names_that_no_preset_can_have(name: str) -> None:
    with pytest.raises(UserError, match="name: "):
        check_preset_name(name)
