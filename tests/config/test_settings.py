from __future__ import annotations

from pathlib import Path

import pytest

from videosvc.config.settings import CHECKOUT_CONFIGS, config_dir, load_settings
from videosvc.errors import ConfigError


def test_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(tmp_path).preset == "balanced"
    (tmp_path / "service.toml").write_text('preset = "draft"\nmodel = "m"\n')
    assert load_settings(tmp_path).preset == "draft"
    monkeypatch.setenv("VIDEOSVC_PRESET", "quality")
    assert load_settings(tmp_path).preset == "quality"
    assert load_settings(tmp_path).model == "m"


def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").write_text('preset = "draft"\n')
    for name in ("PRESET", "DATA_DIR", "REDIS_URL"):
        monkeypatch.setenv(f"VIDEOSVC_{name}", "")
    settings = load_settings(tmp_path)
    assert (settings.preset, settings.redis_url) == ("draft", None)
    assert settings.data_dir == Path("~/.local/share/videosvc").expanduser()


def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("VIDEOSVC_DATA_DIR")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    with pytest.raises(ConfigError, match=r"there is no home folder; set VIDEOSVC_DATA_DIR$"):
        load_settings(tmp_path)


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_DEVICE", "abacus")
    with pytest.raises(ConfigError, match=r"^VIDEOSVC_DEVICE: .*'abacus'"):
        load_settings(tmp_path)


def test_a_wrong_key_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text('presett = "draft"\n')
    with pytest.raises(ConfigError, match=r"service.toml: presett: unknown key; allowed here: .*device, .*preset"):
        load_settings(tmp_path)


def test_who_waits_pays_no_more(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text("tier_prices = { interactive = 1.0, batch = 1.5 }\n")
    with pytest.raises(ConfigError, match=r"tier_prices.batch = 1.5: must be at most that of interactive, 1"):
        load_settings(tmp_path)


def test_what_a_service_keeps_is_in_its_data_folder_unless_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("VIDEOSVC_DATA_DIR")
    at_home = load_settings(tmp_path)
    assert at_home.data_dir == Path("/home/ada/.local/share/videosvc")
    assert at_home.database_url == "sqlite:////home/ada/.local/share/videosvc/videosvc.db"
    assert at_home.artifact_url == "file:///home/ada/.local/share/videosvc/artifacts"
    assert at_home.redis_url is None
    monkeypatch.setenv("VIDEOSVC_DATA_DIR", "/srv/clips")
    monkeypatch.setenv("VIDEOSVC_DATABASE_URL", "postgresql+psycopg://ada@db/clips")
    moved = load_settings(tmp_path)
    assert moved.artifact_url == "file:///srv/clips/artifacts"
    assert moved.database_url == "postgresql+psycopg://ada@db/clips"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://db/clips"),
        ("DATABASE_URL", "postgresql+psycopg://:::"),
        ("DATABASE_URL", "postgresql+psycopg://ada:hidden@db:abc/clips"),
        ("REDIS_URL", "cache:6379"),
        ("REDIS_URL", "redis://:hidden@127.0.0.1:abc/0"),
        ("REDIS_URL", "redis+socket:///run/redis.sock"),
        ("DEVICE", "tpu"),
        ("ARTIFACT_URL", "clips"),
        ("PORT", "65536"),
        ("WORKERS", "-1"),
        ("LEASE_S", "0"),
        ("CORS_ORIGINS", "clips.example"),
    ],
)
def test_a_wrong_value_of_the_service_is_named(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VIDEOSVC_{variable}", value)
    with pytest.raises(ConfigError, match=rf"^VIDEOSVC_{variable}") as caught:
        load_settings(tmp_path)
    assert "must be " in caught.value.message
    assert "hidden" not in caught.value.message and "pattern" not in caught.value.message


def test_origins_have_commas_between_them_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOSVC_CORS_ORIGINS", "https://a.example, http://b.example:81")
    assert load_settings(tmp_path).cors_origins == ("https://a.example", "http://b.example:81")
    (tmp_path / "service.toml").write_text('cors_origins = ["https://c.example"]')
    monkeypatch.delenv("VIDEOSVC_CORS_ORIGINS")
    assert load_settings(tmp_path).cors_origins == ("https://c.example",)


def test_the_folder_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tmp_path))
    assert config_dir() == tmp_path
    monkeypatch.setenv("VIDEOSVC_CONFIG_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder"):
        config_dir()


def test_configs_beside_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    assert config_dir() == CHECKOUT_CONFIGS, "a folder of somebody else's is passed over"
    (tmp_path / "configs" / "models.toml").touch()
    assert config_dir() == Path("configs")
