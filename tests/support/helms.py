"""The real helm programs that tests run with, fetched once into the cache of tools/programs."""

from __future__ import annotations

from pathlib import Path

from tools.programs.programs import get


def helm(major: int) -> Path:
    """Path of a pinned helm of that major version."""
    return get(f"helm{major}") / "helm"


def chart_files(
    name: str = "web", version: str = "0.1.0", *, test: str = "true", image: str = "web"
) -> dict[str, str]:
    """The files of a small chart with one pod and one test pod; `test` is the shell command of the
    test.
    """
    return {
        "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n"
        "appVersion: '1'\ndescription: small\n",
        "values.yaml": f"image: {image}\nword: hello\ncommand: httpd -f -p 8080\n",
        "values.schema.json": '{"type": "object", "properties": {"word": {"type": "string"}}}\n',
        "templates/deployment.yaml": DEPLOYMENT,
        "templates/tests/answers.yaml": TEST.replace("COMMAND", test),
    }


DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}", labels: {word: "{{ .Values.word }}"}}
spec:
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: "{{ .Values.image }}"
          command: [/bin/busybox, sh, -c, {{ .Values.command | quote }}]
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
"""

TEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: "{{ .Release.Name }}-answers"
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded,hook-failed"}
spec:
  restartPolicy: Never
  containers:
    - name: ask
      image: "{{ .Values.image }}"
      command: [/bin/busybox, sh, -c, "COMMAND"]
"""
