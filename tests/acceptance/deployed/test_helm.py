"""The chart of `deploy/helm/`, rendered by Helm's own library and held to Kubernetes' schemas."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import Settings, load
from tests.acceptance.deployed.conftest import ROOT
from tests.commands import taken

CHART = ROOT / "deploy" / "helm" / "headrace"
PROGRAM = Path(__file__).with_name("rendered.py")
WORKER = {
    "name": "qwen",
    "kind": "llamacpp",
    "url": "http://127.0.0.1:8080",
    "replicas": 2,
    "labels": {"gpu": "l4"},
    "nodeSelector": {"nvidia.com/gpu.present": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "engine": {
        "image": "ghcr.io/ggml-org/llama.cpp:server-cuda",
        "args": ["-m", "/models/qwen.gguf", "--port", "8080"],
        "health": {"path": "/health", "port": 8080},
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    },
    "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
}
ALONE: dict[str, Any] = {"nats": {"enabled": False}}
FULL: dict[str, Any] = {
    **ALONE,
    "broker": {"url": "tls://nats.example.com:4222", "caSecret": "nats-ca"},
    "image": {"pullSecrets": [{"name": "registry"}]},
    "ingress": {
        "trustedProxies": ["10.0.0.0/8"],
        "publicUrl": "https://ai.example.com",
        "autoscaling": {"enabled": True},
        "expose": {"enabled": True, "tlsSecret": "ai-tls"},
    },
    "workers": [WORKER, {"name": "far", "kind": "vllm", "url": "http://vllm.ai.svc:8000"}],
    "fallback": {"replicas": 2, "keysSecret": "provider-keys"},
}
Render = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def render(tools: Path) -> Render:
    def run(values: dict[str, Any]) -> dict[str, Any]:
        done = subprocess.run(
            [tools / "python", PROGRAM, CHART],
            input=json.dumps(values),
            capture_output=True,
            text=True,
            check=False,
            env={},
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def objects(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of a sound rendering, by kind and name."""
    assert found["faults"] == []
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found["objects"]}


def pods(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: each["spec"]["template"]["spec"]
        for name, each in objects(found).items()
        if name.startswith(("Deployment ", "Job "))
    }


def test_as_it_comes(render: Render) -> None:
    found = render(ALONE)
    assert [
        each for each in found["lint"] if "chart directory is missing these dep" not in each
    ] == []
    assert set(objects(found)) == {
        "Deployment prod-ingress",
        "Service prod-ingress",
        "PodDisruptionBudget prod-ingress",
        "Job prod-setup",
    }
    [url] = [
        each["value"]
        for each in pods(found)["Deployment prod-ingress"]["containers"][0]["env"]
        if each["name"] == "HEADRACE_NATS__URL"
    ]
    assert url == "nats://prod-nats:4222"


def test_with_everything(render: Render) -> None:
    found = render(FULL)
    assert set(objects(found)) == {
        "Deployment prod-ingress",
        "Service prod-ingress",
        "PodDisruptionBudget prod-ingress",
        "HorizontalPodAutoscaler prod-ingress",
        "Ingress prod-ingress",
        "Deployment prod-worker-qwen",
        "Deployment prod-worker-far",
        "Deployment prod-fallback",
        "Job prod-setup",
    }
    notes = objects(found)["Ingress prod-ingress"]["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    patience = int(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert patience > Settings().routes.batch_total
    engine = pods(found)["Deployment prod-worker-qwen"]["initContainers"][0]
    assert engine["restartPolicy"] == "Always"
    assert engine["resources"] == {"limits": {"nvidia.com/gpu": 1}}


def test_what_is_misspelt_is_refused(render: Render) -> None:
    misspelt: list[dict[str, Any]] = [
        {"ingres": {}},
        {"ingress": {"replica": 2}},
        {"workers": [{"name": "x"}]},
    ]
    for wrong in misspelt:
        assert render({**ALONE, **wrong})["faults"] != [], wrong


def test_our_containers_may_little(render: Render) -> None:
    for name, pod in pods(render(FULL)).items():
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            bounds = container["securityContext"]
            assert bounds["readOnlyRootFilesystem"], name
            assert bounds["capabilities"] == {"drop": ["ALL"]}, name
            assert not bounds["allowPrivilegeEscalation"], name
            secret = [each for each in container["env"] if each["name"].endswith("__PASSWORD")]
            assert all("valueFrom" in each for each in secret)


def test_headrace_takes_the_commands_and_settings(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in pods(render(FULL)).values():
        for container in pod["containers"]:
            taken(container["args"])
            with monkeypatch.context() as environment:
                for each in container["env"]:
                    environment.setenv(each["name"], each.get("value", "secret"))
                load()  # raises for what is no setting, or not within its bounds


def test_there_is_time_to_drain(render: Render) -> None:
    found = pods(render(FULL))
    settings = Settings()
    ends = {name: pod.get("terminationGracePeriodSeconds", 0) for name, pod in found.items()}
    assert ends["Deployment prod-ingress"] >= settings.ingress.drain + 10
    assert ends["Deployment prod-worker-qwen"] >= settings.worker.drain + 10
    assert ends["Deployment prod-fallback"] >= settings.worker.drain + 10
