"""Kubernetes manifests: valid by Kubernetes' own schemas, and what they run exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import samtrt
from samtrt.cli import app

FOLDER = Path(__file__).parent.parent / "deploy" / "kubernetes"
VERSION = "1.34"
OBJECTS = [
    (path.stem, one)
    for path in sorted(FOLDER.glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
KINDS = [pytest.param(one, id=f"{name}-{one['kind']}") for name, one in OBJECTS]


def found(kind: str) -> dict[str, Any]:
    (one,) = [one for _, one in OBJECTS if one["kind"] == kind]
    return dict(one)


def pods(tree: Any) -> list[dict[str, Any]]:
    """Return every pod's `spec` in an object."""
    if isinstance(tree, list):
        return [pod for one in tree for pod in pods(one)]
    if not isinstance(tree, dict):
        return []
    own = [tree] if "containers" in tree else []
    return own + [pod for one in tree.values() for pod in pods(one)]


def check_command(words: list[str]) -> None:
    """Check that the command line has a command and its options."""
    assert words[0] == "samtrt"
    command = typer.main.get_command(app).commands[words[1]]
    known = {name for option in command.params for name in option.opts}
    used = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert used <= known


@pytest.mark.parametrize("one", KINDS)
def test_objects_are_valid(one: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    if one["apiVersion"].partition("/")[0] in ("ray.io", "monitoring.coreos.com"):
        for pod in pods(one):  # the rest is by those who define it
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
            validate.validate(whole, VERSION, strict=True)
    else:
        validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("one", KINDS)
def test_volumes_and_images_are_those_of_the_project(one: dict[str, Any]) -> None:
    for pod in pods(one):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["image"] == f"REGISTRY/samtrt:{samtrt.__version__}"
            assert "memory" in container["resources"]["limits"]


def test_the_server_runs_what_the_command_line_has() -> None:
    (pod,) = pods(found("Deployment"))
    (container,) = pod["containers"]
    check_command([*container["command"], *container["args"]])
    selector = found("Deployment")["spec"]["selector"]["matchLabels"]
    budgets = [
        one["spec"]["selector"]["matchLabels"] for _, one in OBJECTS if "Budget" in one["kind"]
    ]
    assert selector in budgets
    assert found("Service")["spec"]["selector"] == selector


def test_the_job_runs_what_the_command_line_has() -> None:
    check_command(shlex.split(found("RayJob")["spec"]["entrypoint"]))


def test_ray_serve_takes_its_configuration() -> None:
    pytest.importorskip("ray")
    from ray.serve.schema import ServeDeploySchema

    from samtrt.cluster.serving import deployment

    told = ServeDeploySchema.model_validate(
        yaml.safe_load(found("RayService")["spec"]["serveConfigV2"])
    )
    (one,) = told.applications
    assert one.import_path == f"{deployment.__name__}:{deployment.application.__name__}"
    arguments = deployment.Arguments.model_validate(one.args)
    assert set(one.args) <= set(deployment.Arguments.model_fields)
    assert arguments.gpus == 1


def test_versions_of_ray_are_one() -> None:
    constraint = re.search(
        r"^ray==([\d.]+)", (FOLDER.parent.parent / "constraints.txt").read_text(), re.M
    )
    assert constraint is not None
    clusters = (
        found("RayJob")["spec"]["rayClusterSpec"],
        found("RayService")["spec"]["rayClusterConfig"],
    )
    assert {cluster["rayVersion"] for cluster in clusters} == {constraint[1]}
    assert f"rayproject/ray:{constraint[1]}-" in (FOLDER.parent / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["Dockerfile", "triton/Dockerfile"])
def test_dockerfiles_are_sound(name: str) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("no hadolint")
    path = FOLDER.parent / name
    done = subprocess.run([program, "--no-color", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    copied = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", path.read_text(encoding="utf-8"), re.M)
    for one in " ".join(copied).split():
        assert (FOLDER.parent.parent / one).exists(), one
