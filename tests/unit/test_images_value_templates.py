"""An image's name in a chart's values, forwards and backwards, and the secrets of a build."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images import builders, value_templates
from pipeline_steps.images.builder import find_secrets
from pipeline_steps.images.builders import builder_kind
from pipeline_steps.toolbox import redact
from pipeline_steps.toolbox.errors import ConfigurationError

D = "sha256:" + "e" * 64
WEB = Reference("r.example.com:5000", "team/web", "1.0", D)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{registry}", "r.example.com:5000"),
        ("{path}", "team/web"),
        ("{repository}", "r.example.com:5000/team/web"),
        ("{tag}@{digest}", f"1.0@{D}"),
        ("{reference}", f"r.example.com:5000/team/web:1.0@{D}"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert value_templates.image_parts(WEB, {}).fill(template) == text


def test_clusters_see_the_mirror() -> None:
    hosts = {
        "r.example.com:5000/team": Host(pull_as="mirror.example.com/t"),
        "r.example.com:5000/team/w": Host(),
    }
    seen = value_templates.image_parts(WEB, hosts)
    assert (
        seen.reference == f"mirror.example.com/t/web:1.0@{D}"
        and seen.registry == "mirror.example.com"
    )


def test_wrong_templates_are_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown field \{name\}.*use one of \{registry\}"
    ):
        value_templates.image_parts(WEB, {}).fill("{name}", where="pipeline.yaml:4")
    with pytest.raises(ConfigurationError, match="has no digest"):
        value_templates.image_parts(WEB._replace(digest=None), {}).fill("{digest}")


@pytest.mark.parametrize(
    "values",
    [
        {"i.registry": "r.example.com:5000", "i.repository": "team/web", "i.tag": f"1.0@{D}"},
        {
            "i.registry": "r.example.com:5000",
            "i.repository": "team/web",
            "i.tag": f"1.0@{D}",
            "whole": str(WEB),
        },
    ],
)
def test_values_are_read_back(values: dict[str, str]) -> None:
    templates = {"i.registry": "{registry}", "i.repository": "{path}", "i.tag": "{tag}@{digest}"}
    templates["whole"] = "{reference}"
    assert value_templates.reference_in_values(templates, values) == WEB


def test_values_that_name_nothing_are_refused() -> None:
    templates = {"image.repository": "{repository}", "image.tag": "v{tag}"}
    with pytest.raises(ConfigurationError, match=r"image\.repository, image\.tag name no image"):
        value_templates.reference_in_values(
            templates, {"image.repository": "", "image.tag": ""}, where="charts/a/values.yaml"
        )
    with pytest.raises(ConfigurationError, match=r"'1\.0' does not fit the template 'v\{tag\}'"):
        value_templates.reference_in_values(
            templates, {"image.repository": "a/b", "image.tag": "1.0"}
        )
    with pytest.raises(ConfigurationError, match="tag is '1' and '2'"):
        value_templates.reference_in_values({"a": "{tag}", "b": "{tag}"}, {"a": "1", "b": "2"})


def test_undeclared_secrets_come_from_variables_or_their_files_but_in_reviews(
    tmp_path: Path,
) -> None:
    (tmp_path / "npmrc").write_text("registry=x\n//x/:_authToken=t0ken-in-a-file\n")
    environ = {
        "NPM_RC_FILE": str(tmp_path / "npmrc"),
        "TOKEN": "t0ken-of-test",
        "GONE_FILE": "/no/such",
    }
    find = functools.partial(
        find_secrets, declared={}, environ=environ, is_review=False, where="pipeline.yaml:3"
    )
    assert find(("npm-rc", "token")) == {"npm-rc": f"src={tmp_path}/npmrc", "token": "env=TOKEN"}
    assert (
        redact.redact("echo t0ken-of-test, //x/:_authToken=t0ken-in-a-file")
        == "echo [redacted], [redacted]"
    )
    with pytest.raises(
        ConfigurationError, match=r"secret other is not given.*OTHER, or OTHER_FILE"
    ):
        find(("other",))
    with pytest.raises(ConfigurationError, match="GONE_FILE names /no/such"):
        find(("gone",))
    both = r'pipeline\.yaml:3: the secret token is not declared.*secrets: \{token: "\$\{TOKEN\}"\} or .*"file:/PATH"'
    with pytest.raises(ConfigurationError, match=both):
        find(("token",), is_review=True)


def test_declared_secrets_are_what_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "npmrc").write_text("x")
    environ = {"NPM_TOKEN": "t0ken-declared", "NPMRC": "another", "GONE": ""}
    declared = {
        "npmrc": "${NPM_TOKEN}",
        "file": f"file:{tmp_path}/npmrc",
        "unset": "${NOBODY}",
        "gone": "file:/no/such",
    }
    find = functools.partial(
        find_secrets, declared=declared, environ=environ, is_review=True, where="pipeline.yaml:3"
    )
    assert find(("npmrc", "file")) == {"npmrc": "env=NPM_TOKEN", "file": f"src={tmp_path}/npmrc"}
    assert redact.redact("t0ken-declared") == "[redacted]"
    with pytest.raises(
        ConfigurationError, match="the secret unset needs the variable NOBODY, which is not set"
    ):
        find(("unset",))
    with pytest.raises(ConfigurationError, match=r"secrets\.gone names /no/such, which is no file"):
        find(("gone",))


def test_the_kind_of_builder_is_found_without_asking_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders, "SYSTEM_PLUGIN_FOLDERS", (str(tmp_path / "lib"),))
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)}
    assert builder_kind(environ) == "docker"
    (tmp_path / "cli-plugins").mkdir()
    (tmp_path / "cli-plugins/docker-buildx").write_text("#!/bin/false")
    assert builder_kind(environ) == "docker"
    (tmp_path / "cli-plugins/docker-buildx").chmod(0o755)
    assert builder_kind(environ) == "buildx"
