"""X1, X2 on a cluster: what tests render there is what is released, by helm 3 and helm 4."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tests.faults.release_runs import AFTER, BEFORE, Case, passed, refused, release
from tests.support import busybox
from tests.support.helms import chart_files, helm
from tests.support.machine import kubernetes_node
from tests.support.release_line import Line

MORE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-more"}
data:
"""
HOOK = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, annotations: {helm.sh/hook: pre-install}}
data:
"""
OFF_LINE = '{{ if contains "-0." .Chart.Version }}'
#: Templates that render otherwise as released, and only on a cluster.
ON_CLUSTER = {
    "lookup": MORE
    + f'  a: b\n{{{{ if lookup "v1" "Namespace" "" "kube-system" }}}}{OFF_LINE}  debug: "on"\n'
    + "{{ end }}{{ end }}\n",
    "capabilities": MORE
    + f'  a: b\n{{{{ if .Capabilities.APIVersions.Has "apps/v1/Deployment" }}}}{OFF_LINE}'
    + '  debug: "on"\n{{ end }}{{ end }}\n',
    "upgrade": f'{MORE}  debug: "{{{{ and .Release.IsUpgrade (contains "-0." .Chart.Version) }}}}"\n',
    "hook": f'{HOOK}  debug: "{{{{ contains "-0." .Chart.Version }}}}"\n',
}
BY_CHANCE = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}", labels: {version: "{{ .Chart.Version }}"}}
stringData:
  password: {{ randAlphaNum 20 | quote }}
"""


def tested_on(
    line: Line, files: Mapping[str, str], *, major: int = 4, test: str = "true"
) -> dict[str, str]:
    """Give the line's chart a pod and a test on the node; variables for steps."""
    busybox.push(line.host)
    with kubernetes_node(line.host) as node:
        cluster = f'{{kubeconfig: "{node.kubeconfig}", context: "{node.context}"}}'
    text = (line.repo.root / "pipeline.yaml").read_text()
    channels = text[text.index("channels:") :]
    line.repo.put(
        "pipeline.yaml",
        f"charts: [{{path: charts/*}}]\n{channels}clusters: {{here: {cluster}}}\n"
        "tests: {timeout: 60s}\n",
    )
    image = f"{line.host}/web:k-1"
    for name, data in {**chart_files("common", "1.0.0", test=test, image=image), **files}.items():
        line.repo.put(f"charts/common/{name}", data)
    (line.repo.root / "charts/common/templates/map.yaml").unlink()
    line.repo.commit()
    return {"PIPELINE_STEPS_HELM": str(helm(major))}


def rendered_otherwise(line: Line, template: str, major: int) -> str:
    variables = tested_on(line, {"templates/more.yaml": ON_CLUSTER[template]}, major=major)
    return refused(release(line, **variables), 8, "templates/more.yaml")


def failing_test(line: Line) -> str:
    return refused(release(line, **tested_on(line, {}, test="exit 7")), 8, "test")


def values_changed_after_the_test(line: Line) -> str:
    variables = tested_on(line, {"ci/a-values.yaml": "word: hello\n"})
    release(line, skip=AFTER, **variables)
    line.repo.put("charts/common/ci/a-values.yaml", "word: goodbye\n")
    line.repo.commit()
    return refused(release(line, skip=BEFORE[1:], **variables), 4, "a-values.yaml")


def passwords_by_chance(line: Line, major: int) -> str:
    variables = tested_on(line, {"templates/secret.yaml": BY_CHANCE}, major=major)
    return passed(release(line, **variables))


def tests_values_change_after_a_release(line: Line) -> str:
    """They are tested again and ask for no version."""
    more = {"ci/a-values.yaml": "word: hello\n", ".helmignore": "ci/\n"}
    variables = tested_on(line, more)
    if wrong := passed(before := release(line, **variables)):
        return wrong
    line.repo.put("charts/common/ci/a-values.yaml", "word: goodbye\n")
    line.repo.commit()
    tests = len(line.records("integration_test"))
    after = release(line, **variables)
    if wrong := passed(after):
        return wrong
    if len(line.records("integration_test")) == tests:
        return "nothing was tested again"
    return "" if after.published == before.published else "another archive is published"


MUST_NOT = (
    *(
        Case(
            f"a template that asks for the version: {template}, helm {major}",
            partial(rendered_otherwise, template=template, major=major),
        )
        for template in ON_CLUSTER
        for major in (3, 4)
    ),
    Case("a test that fails", failing_test),
    Case("values of a test changed after it", values_changed_after_the_test),
)
MAY = (
    *(
        Case(
            f"passwords by chance on a cluster, helm {major}",
            partial(passwords_by_chance, major=major),
        )
        for major in (3, 4)
    ),
    Case("values of a test changed after a release", tests_values_change_after_a_release),
)
