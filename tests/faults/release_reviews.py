"""X1, X2: what builds of unreviewed code may say, and what decides about trust on an agent."""

from __future__ import annotations

import json

from tests.faults.release_runs import (
    GIT,
    REVIEW,
    Case,
    passed,
    refused,
    release,
    with_image,
    with_tests,
)
from tests.support.release_line import MAP, Line


def argument_that_moves_the_release(line: Line) -> str:
    with_tests(line, "helm_args: [--namespace, default]")
    return refused(release(line), 2, "tests.helm_args may not have '--namespace'")


def version_asked_for_under_an_argument(line: Line) -> str:
    odd = (
        '{{ if .Values.odd }}{{ if contains "-0." .Chart.Version }}  odd: "yes"{{ end }}{{ end }}\n'
    )
    line.repo.put("charts/common/templates/map.yaml", MAP + odd)
    with_tests(line, "helm_args: [--set, odd=true]")
    return refused(release(line), 8, "templates/map.yaml")


def overlay_that_a_review_brings(line: Line) -> str:
    line.repo.put("ci/more.yaml", f'channels: {{snapshot: {{charts: "{line.base}/charts"}}}}\n')
    line.repo.commit()
    return refused(
        release(line, "--config", "ci/more.yaml", **REVIEW),
        2,
        "is set in an overlay that this review can",
    )


def secret_that_a_review_asks_for(line: Line) -> str:
    with_image(line, "images: {app: {context: app, secrets: [agent-token]}}\n")
    line.repo.put("app/Dockerfile", "FROM scratch\nCOPY . /app/\n# another\n")
    line.repo.commit()
    return refused(
        release(line, AGENT_TOKEN="t0ken-of-the-agent", **REVIEW),
        2,
        "the secret agent-token is not decl",
    )


def argument_that_runs_a_program(line: Line) -> str:
    with_tests(line, "helm_args: [--post-renderer=./run]")
    return refused(release(line), 2, "tests.helm_args may not have '--post-renderer=./run'")


def argument_with_a_file_of_the_agent(line: Line) -> str:
    (line.folder / "values.yaml").write_text("a: b\n")
    with_tests(line, f"helm_args: [--values, {line.folder}/values.yaml]")
    return refused(release(line), 2, "values.yaml")


def cluster_that_a_review_brings(line: Line) -> str:
    """Its kubeconfig would run a program with the agent's whole environment."""
    ran = line.folder / "ran"
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
           "args": ["-c", f"touch {ran}"]}  # fmt: skip
    kubeconfig = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": {"exec": run}}],
    }
    text = (
        (line.repo.root / "pipeline.yaml").read_text().replace("    tests: {none:", "    # {none:")
    )
    line.repo.put("pipeline.yaml", text)
    line.repo.commit()
    line.repo.git("checkout", "-q", "-b", "topic")
    line.repo.put("ci/kubeconfig", json.dumps(kubeconfig))
    line.repo.put("pipeline.yaml", f"{text}clusters: {{mine: {{kubeconfig: ci/kubeconfig}}}}\n")
    line.repo.commit()
    wrong = refused(release(line, **REVIEW), 2, "no cluster to test common on")
    return wrong or ("the review's program ran" if ran.exists() else "")


def values_for_helm(line: Line) -> str:
    line.repo.put("ci/more.yaml", "more: true\n")
    with_tests(line, "helm_args: [--values, ci/more.yaml, --set-string, a=1]")
    return passed(release(line))


def variable_of_another_login_is_not_set(line: Line) -> str:
    text = (line.repo.root / "pipeline.yaml").read_text()
    login = 'other.example.com: {username: "${NOT_SET}", password: "${NOT_SET_EITHER}"}'
    line.repo.put("pipeline.yaml", f"{text}hosts: {{{login}}}\n")
    line.repo.commit()
    return passed(release(line))


MUST_NOT = (
    Case("an argument that moves the release elsewhere", argument_that_moves_the_release),
    Case("an argument that runs a program", argument_that_runs_a_program),
    Case("an argument with a file of the agent", argument_with_a_file_of_the_agent),
    Case(
        "a template that asks for the version under an argument",
        version_asked_for_under_an_argument,
    ),
    Case("an overlay with channels that a review brings", overlay_that_a_review_brings, GIT),
    Case("a cluster that a review brings", cluster_that_a_review_brings, GIT),
    Case(
        "a variable of the agent that a review asks for as a secret",
        secret_that_a_review_asks_for,
        GIT,
    ),
)
MAY = (
    Case("values for helm from a file that the source stores", values_for_helm),
    Case("a login that nobody needs lacks its variable", variable_of_another_login_is_not_set),
)
