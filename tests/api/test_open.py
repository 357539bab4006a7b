"""What a service cannot be opened on is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from videosvc.cli.main import run
from videosvc.config.settings import ENV_PREFIX
from videosvc_queue.store import Store

COMMANDS = (["serve", "--host", "127.0.0.1", "--port", "0", "--no-workers"], ["worker", "--device", "cpu"])


@pytest.mark.parametrize("command", COMMANDS, ids=("serve", "worker"))
def test_tables_of_a_later_version(
    command: list[str],
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after a version was taken back: the worker that `serve` would start again and again says the same."""
    for name in ("HOST", "PORT"):  # serve sets them for its workers
        monkeypatch.setenv(ENV_PREFIX + name, "")
        monkeypatch.delenv(ENV_PREFIX + name)
    url = f"sqlite:///{tmp_path}/jobs.db"
    monkeypatch.setenv(ENV_PREFIX + "DATA_DIR", str(tmp_path))
    monkeypatch.setenv(ENV_PREFIX + "DATABASE_URL", url)
    monkeypatch.setenv(ENV_PREFIX + "REDIS_URL", redis_url)
    with Store(url) as store:
        store.migrate()
    engine = create_engine(url)
    with engine.begin() as sql:
        sql.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "VIDEOSVC_DATABASE_URL: the tables are of a later version (9999)" in said and "Traceback" not in said
