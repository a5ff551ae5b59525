"""What a replica is called, and which of them run the same code. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

OWNERS: Final = (
    "deployment",
    "statefulset",
    "daemonset",
    "workload",
    "container_label_com_docker_swarm_service_name",
    "container_label_com_docker_compose_service",
)
"""Labels that name what a replica is one of, the first that is there."""

# Kubernetes encodes the names that it makes up: a ReplicaSet's hash is decimal digits as bcdf456789, the end of a pod's
# name five of the letters that make no words (k8s.io/apimachinery/pkg/util/rand).
_SAFE: Final = "[bcdfghjklmnpqrstvwxz2456789]"
_SUFFIXES: Final = (
    re.compile(rf"-[bcdf4-9]{{5,10}}-{_SAFE}{{5}}$"),  # a Deployment's pod
    re.compile(rf"-\d{{8,10}}-{_SAFE}{{5}}$"),  # a CronJob's
    re.compile(rf"-{_SAFE}{{5}}$"),  # a DaemonSet's or a Job's
    re.compile(r"-\d+$"),  # a StatefulSet's
)

_NAMES: Final = ("pod", "instance", "name", "id")
"""Labels that tell one replica from another, the first that is there."""


def owner_of_pod(pod: str) -> str:
    """A pod's name without what Kubernetes appends: `api-6d4cf56db6-x2x4z` and `db-0` are of `api` and `db`."""
    for suffix in _SUFFIXES:
        shorter = suffix.sub("", pod)
        if shorter not in (pod, ""):
            return shorter
    return pod


def deployment_names(replicas: Sequence[Mapping[str, str]], group_by: Sequence[str] = ()) -> list[str]:
    """The deployment of each: by the labels that were asked for, else by what names its owner, its pod or its job.

    A container is named with it where the pods of a deployment have several.
    """
    if group_by:
        return ["/".join(labels.get(label, "-") for label in group_by) for labels in replicas]
    names = [_owner(labels) for labels in replicas]
    containers: dict[str, set[str]] = {}
    for name, labels in zip(names, replicas, strict=True):
        containers.setdefault(name, set()).add(labels.get("container", ""))
    return [
        f"{name}:{labels['container']}" if len(containers[name]) > 1 and labels.get("container") else name
        for name, labels in zip(names, replicas, strict=True)
    ]


def _owner(labels: Mapping[str, str]) -> str:
    owner = next((labels[name] for name in OWNERS if labels.get(name)), "")
    if not owner:
        owner = owner_of_pod(labels["pod"]) if labels.get("pod") else labels.get("job") or replica_name(labels)
    where = [labels[name] for name in ("cluster", "namespace") if labels.get(name)]
    return "/".join([*where, owner])


def replica_name(labels: Mapping[str, str]) -> str:
    """What one replica is called within its deployment."""
    known = next((labels[name] for name in _NAMES if labels.get(name)), "")
    return known or ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "the only series"


def replica_names(replicas: Sequence[Mapping[str, str]]) -> list[str]:
    """The names within one deployment; those that would be the same are told apart by the labels that differ."""
    names = [replica_name(labels) for labels in replicas]
    counted = Counter(names)
    differing = [
        label
        for label in sorted({label for labels in replicas for label in labels})
        if label not in _NAMES and len({labels.get(label) for labels in replicas}) > 1
    ]
    return [
        f"{name} ({', '.join(f'{label}={labels[label]}' for label in differing if label in labels)})"
        if counted[name] > 1 and differing
        else name
        for name, labels in zip(names, replicas, strict=True)
    ]
