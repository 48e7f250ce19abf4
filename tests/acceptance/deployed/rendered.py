"""Run by the Python of `scripts/tools`: ``rendered.py CHART``. Reads values as JSON, has Helm's own
library render and lint the chart with them, holds each object to the schemas of Kubernetes, and
prints ``{"objects": […], "lint": […], "faults": […]}``."""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python
import kubernetes_validate
import yaml

VERSIONS = ("1.29", "1.37")


def main(path: str) -> None:
    values = json.load(sys.stdin)
    said: dict[str, list[Any]] = {"objects": [], "lint": [], "faults": []}
    report = helm_python.lint(path, values, kube_version="v1.31.0")
    said["lint"] = [each["error"] for each in report["messages"] if each["severity"] > 1]
    try:
        chart = helm_python.Chart.load(path)
        files = chart.render(values, name="prod", namespace="ai", is_install=True)
    except helm_python.HelmError as fault:
        said["faults"].append(str(fault))
        files = {}
    for name, text in sorted(files.items()):
        if name.endswith(".yaml"):
            said["objects"] += [each for each in yaml.safe_load_all(text) if each]
    for each in said["objects"]:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as fault:
                said["faults"].append(f"{each['kind']} {each['metadata']['name']}: {fault.message}")
    print(json.dumps(said))


main(sys.argv[1])
