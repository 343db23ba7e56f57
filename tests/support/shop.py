"""Five charts as people write them: a library, two services with an image each, one that runs an
image of others, and an umbrella over all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.gits import Repo

SERVICES = ("backend", "frontend")
HELMIGNORE = ".git/\n*.tgz.bak\nci/\n"
LABELS = """\
{{- define "common.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
  labels: {{- include "common.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {{- include "common.labels" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "common.labels" . | nindent 8 }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
          command: [/bin/busybox, sleep, "3600"]
"""
TEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}-test
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: before-hook-creation}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
    - name: test
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      command: [/bin/busybox, "true"]
"""
DOCKERFILE = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY app.txt /app.txt\n"


def dependency(name: str) -> str:
    return f"  - name: {name}\n    version: '*'\n    repository: file://../{name}\n"


def chart(name: str, *needs: str, kind: str = "application") -> str:
    text = f"apiVersion: v2\nname: {name}\ntype: {kind}\nversion: 1.0.0\nappVersion: '1.0.0'\n"
    return text + ("dependencies:\n" + "".join(map(dependency, needs)) if needs else "")


def files(third_party: str) -> Iterator[tuple[str, str]]:
    """Path and text of every file. third_party: name of an image with /bin/busybox, and its tag."""
    repository, _, tag = third_party.rpartition(":")
    yield "charts/common/Chart.yaml", chart("common", kind="library")
    yield "charts/common/templates/_labels.tpl", LABELS
    images = {name: (f"registry.example.com/shop/{name}", "") for name in SERVICES}
    for name, (place, version) in {**images, "redis-proxy": (repository, tag)}.items():
        yield f"charts/{name}/Chart.yaml", chart(name, "common")
        values = f"replicas: 1\nimage:\n  repository: {place}\n  tag: '{version}'\n"
        yield f"charts/{name}/values.yaml", values
        yield f"charts/{name}/templates/deployment.yaml", DEPLOYMENT
        yield f"charts/{name}/templates/tests/test.yaml", TEST
    yield "charts/shop/Chart.yaml", chart("shop", "common", *SERVICES, "redis-proxy")
    yield "charts/shop/values.yaml", "backend: {replicas: 1}\nfrontend: {replicas: 1}\n"
    yield (
        "charts/shop/templates/map.yaml",
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-shop'}\n"),
    )
    for name in (*SERVICES, "redis-proxy", "shop", "common"):
        yield f"charts/{name}/.helmignore", HELMIGNORE
        if name != "common":
            yield f"charts/{name}/ci/default-values.yaml", "{}\n"
    for name in SERVICES:
        yield f"apps/{name}/Dockerfile", DOCKERFILE
        yield f"apps/{name}/app.txt", f"{name}\n"


def write(repo: Repo, third_party: str) -> None:
    """The files of the shop in a repository of git, committed."""
    for path, text in files(third_party):
        repo.put(path, text)
    for name in SERVICES:
        shutil.copy2("/bin/busybox", Path(repo.root) / "apps" / name / "busybox")
    repo.commit()
