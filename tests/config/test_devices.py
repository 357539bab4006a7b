from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.devices import load_devices
from videosvc.config.settings import CHECKOUT_CONFIGS
from videosvc.errors import ConfigError


def test_the_first_pattern_that_fits_counts() -> None:
    rates = load_devices(CHECKOUT_CONFIGS)
    assert rates.rate_of("NVIDIA H200").pattern == "*h200*"
    assert rates.rate_of("cpu").pattern == "cpu*"
    assert rates.rate_of("abacus").pattern == "*", "no device is without a price as shipped"


def test_no_file_is_no_rates(tmp_path: Path) -> None:
    assert load_devices(tmp_path).devices == ()
    with pytest.raises(ConfigError, match=r"devices.toml: no pattern fits device 'cpu'; add one"):
        load_devices(tmp_path).rate_of("cpu")


@pytest.mark.parametrize(
    ("price", "says"),
    [("-1", "greater than or equal to 0"), ("1e300", "less than or equal to 1000000"), ("nan", "a finite number")],
)
def test_a_price_that_is_none_is_refused(price: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(f'[[devices]]\npattern = "*"\nusd_per_hour = {price}\nwatts = 1\n')
    with pytest.raises(ConfigError, match=rf"devices.0.usd_per_hour = .*: must be {says}"):
        load_devices(tmp_path)
