"""Dockerfile and compose.yaml name nothing that the project does not have."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fastapi.routing import APIRoute

from videosvc.api import health
from videosvc.cli.main import app
from videosvc.config.settings import ENV_PREFIX, Settings
from videosvc_queue.worker_process import DRAIN_GRACE_S

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, its text) of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split(" AS ")[1]
            found[name] = []
        elif name:
            found[name].append((word, rest))
    return found


def check_command(words: list[str]) -> None:
    """`videosvc COMMAND [SUBCOMMAND] --options` is one that the command line has."""
    assert words[0] == "videosvc"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known


def test_what_is_copied_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f".dockerignore keeps {source} out"


def test_the_wheel_stage_has_all_that_the_build_reads() -> None:
    copied = {source for word, rest in stages()["wheel"] if word == "COPY" for source in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    roots = {Path(package).parts[0] for package in wheel["packages"]} | set(wheel["force-include"])
    files = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert roots | files == copied


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_is_wheel_and_user_alone(target: str) -> None:
    stage = stages()[target]
    assert stage[-1] == ("USER", "videosvc")
    install = next(rest for word, rest in stage if word == "RUN")
    extras = re.search(r"\.whl\)\[([a-z0-9,]+)\]", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras and set(extras[1].split(",")) <= set(project["optional-dependencies"])
    assert ("cuda" in extras[1]) == (target == "cuda")
    base = dict(stages()["base"])
    assert base["WORKDIR"] == "/var/lib/videosvc" and "PYTHONSAFEPATH=1" in (ROOT / "Dockerfile").read_text()
    assert not any(word == "COPY" and "constraints" not in rest for word, rest in stage)


def test_the_images_command_and_health_check_exist() -> None:
    base = dict(stages()["base"])
    check_command(json.loads(base["CMD"]))
    check = base["HEALTHCHECK"]
    path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert path and path[1] == base["EXPOSE"] == str(Settings.model_fields["port"].default)
    routes = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    assert path[2] in routes


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_what_is_here(name: str) -> None:
    service = OURS[name]
    assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").is_file()
    assert service["build"]["target"] in stages()
    check_command(service["command"])
    assert set(service["depends_on"]) <= set(SERVICES)
    for volume in service["volumes"]:
        volume_name, folder = volume.split(":")
        assert volume_name in COMPOSE["volumes"]
        assert folder == dict(stages()["base"])["VOLUME"]


@pytest.mark.parametrize("name", OURS)
def test_a_services_variables_are_settings(name: str) -> None:
    environment = OURS[name]["environment"]
    secrets = {"POSTGRES_PASSWORD": "secret", "REDIS_PASSWORD": "secret"}
    values = {}
    for variable, value in environment.items():
        key = variable.removeprefix(ENV_PREFIX).lower()
        assert variable.startswith(ENV_PREFIX) and key in Settings.model_fields, variable
        values[key] = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: secrets[match[1]], value)
        assert re.search(r"@(\w+)", values[key])[1] in SERVICES  # type: ignore[index]
    Settings(**values)


def test_variables_in_comments_are_settings() -> None:
    for path in (ROOT / "Dockerfile", ROOT / "deploy" / "compose.yaml"):
        for variable in re.findall(r"VIDEOSVC_\w+", path.read_text()):
            assert variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields, variable


def test_commands_in_comments_exist() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    for line in re.findall(r"#.* (videosvc keys .*)", text):
        check_command(shlex.split(line))
    for line in re.findall(r"#.*docker compose -f (\S+)", text):
        assert (ROOT / line).is_file()


def test_a_worker_outlives_its_drain() -> None:
    drained_s = Settings.model_fields["drain_s"].default + DRAIN_GRACE_S
    periods = {service["stop_grace_period"] for name, service in OURS.items() if name.startswith("worker")}
    (period,) = periods
    assert float(period.removesuffix("s")) >= drained_s + 10, "for what comes after the last checkpoint"
    assert f"docker stop -t {period.removesuffix('s')}" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_a_worker_for_each_gpu(gpus: int) -> None:
    """`gpus-N` starts N of them, each shown a GPU of its own; without a profile it is one."""
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    assert gpus == 1 or f"gpus-{gpus}" in text.partition("name:")[0], "how to start so many is said above"
    shown = []
    for name, service in OURS.items():
        if name.startswith("worker-gpu") and f"gpus-{gpus}" in service.get("profiles", [f"gpus-{gpus}"]):
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert name == f"worker-gpu{device['device_ids'][0]}" and device["capabilities"] == ["gpu"]
            assert service["command"][-1] == "cuda:0", "a container numbers what it is shown from 0"
            shown += device["device_ids"]
    assert sorted(shown) == [str(number) for number in range(gpus)]


def test_nothing_ties_threads_to_cores() -> None:
    """Such a variable counts as the user's wish, in videosvc.worker.cpu_share too."""
    assert not [rest for word, rest in instructions() if word in ("ENV", "ARG") and "OMP_" in rest]
    assert not [name for service in SERVICES.values() for name in service.get("environment", {}) if "OMP_" in name]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_can_compile(target: str) -> None:
    """What Triton and Inductor look for on the path, and the headers of what they build."""
    lineage = {rest.split(" AS ")[1]: rest.split()[0] for word, rest in instructions() if word == "FROM"}
    assert lineage[target] == "base"
    installed = next(rest for word, rest in stages()["base"] if "apt-get install" in rest).split("&&")[1].split()
    assert {"gcc", "g++", "libc6-dev"} <= set(installed)
