"""pipeline.yaml, site file and overlays: what is read, which wins, and where each mistake is."""

# ruff: noqa: E501 - the configuration language stands here as users write it, one section a line

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline_steps.auth import hosts
from pipeline_steps.auth.credentials import login_for, pull_login
from pipeline_steps.auth.reference import Reference
from pipeline_steps.config import config_file
from pipeline_steps.config.language import TEST_DEFAULTS, ChartTests, Config, as_tuple, merge_tests
from pipeline_steps.toolbox import redact
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError
from tests.support.gits import Repo

CHARTS = "charts:\n  - path: charts/*\n"


def read(folder: Path, text: str | bytes, *files: str, **environ: str) -> Config:
    data = text.encode() if isinstance(text, str) else text
    (folder / "pipeline.yaml").write_bytes(data)
    return config_file.load([Path(name) for name in files], environ=environ, start=folder)


def test_the_whole_language_of_the_design_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """\
charts:
  - path: charts/*                               # a folder or a glob
  - path: charts/{api,worker}
    paths: [shared/]
    images: {backend: {image.repository: "{repository}", image.tag: "{tag}", image.digest: "{digest}"}}
    tests: {timeout: 20m, prepare: [ci/before.yaml], clusters: [k131, k134]}
  - path: charts/common
    tests: {none: "library, tested through its dependents"}
images:
  backend: {context: apps/backend, dockerfile: Dockerfile, target: runtime, args: {}, secrets: [npmrc], platforms: [linux/amd64]}
  invoicer: {existing: registry.example.com/team/invoicer}
channels:
  snapshot:   {images: r.example.com/snapshot, charts: "oci://r.example.com/snapshot-charts", keep: {unreleased: forever, abandoned: 7d, released: 30d}}
  production: {images: r.example.com/production, charts: ["oci://r.example.com/charts"], requires: [check, integration_test, approval.code], evidence: ["oci://r.example.com/ci/evidence"]}
evidence: oci://r.example.com/ci/evidence
hosts:
  r.example.com/production: {username: "${PROD_USR}", password: "${PROD_PSW}", ca_file: /etc/ssl/corp.pem, plain_http: false, pull_as: mirror.example.com/production}
  r.example.com/snapshot: {username: "${PROD_USR}", password: "${PROD_PSW}", pull: {username: "${PROD_USR}", password: "${PROD_PSW}"}}
secrets: {npmrc: "file:/run/secrets/npmrc"}
clusters: {k131: {kubeconfig: "${CI_KUBECONFIG}", context: k131}}
tests: {values: ci/*-values.yaml, upgrade_from: [published], breaking: test, namespace: fresh, pull_secret: true, helm_args: [], parallel: 4, timeout: 5m}
check: {commands: []}
review: {gerrit: {url: "https://gerrit.example.com", label: Verified}, requires: [check, integration_test]}
approvals: {code: {gerrit: "label:Code-Review=MAX", not_by: [author, uploader]}, release: {by: release-managers}}
release: {tag: "{name}-{version}", branches: [main, "release/*"], image_tag: "{version}", withdrawn: [], pin: ours, sign: {}}
deployments: {hello-team-a: {chart: hello, cluster: k131, namespace: team-a, release: hello, values: [env/a.yaml], test: true, on_failure: rollback}}
""",
        PROD_USR="robot",
        PROD_PSW="hunter2secret",
        CI_KUBECONFIG="/etc/kube",
    )
    assert config.hosts["r.example.com/production"].username == "robot"
    assert config.clusters["k131"].kubeconfig == "/etc/kube"
    assert as_tuple(config.channels.snapshot.charts) == ("oci://r.example.com/snapshot-charts",)
    assert config.charts[1].tests == ChartTests(
        timeout="20m", prepare=("ci/before.yaml",), clusters=("k131", "k134")
    )
    assert config.approvals["code"].not_by == ("author", "uploader")
    assert config.root == tmp_path and config.files == (tmp_path / "pipeline.yaml",)
    assert redact.redact("it was hunter2secret") == "it was [redacted]"


def test_charts_and_channels_are_all_a_small_repository_writes(tmp_path: Path) -> None:
    config = read(
        tmp_path, CHARTS + "channels: {snapshot: {charts: file:///srv}}\nevidence: file:///store\n"
    )
    assert config.channels.production.requires == ("check", "integration_test")
    assert config.channels.production.evidence == ("file:///store",)
    assert config.release.tag == "{name}-{version}"
    assert merge_tests(TEST_DEFAULTS, config.tests).timeout == "5m"


def test_pipeline_yaml_is_found_above_but_not_outside_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(CHARTS)
    deep = tmp_path / "repo" / "charts" / "a"
    deep.mkdir(parents=True)
    assert config_file.load(environ={}, start=deep).root == tmp_path
    (tmp_path / "repo" / ".git").mkdir()
    with pytest.raises(
        ConfigurationError,
        match=r"there is no pipeline\.yaml in this folder and above.*pipeline-steps init",
    ):
        config_file.load(environ={}, start=deep)


def test_later_files_win_and_need_no_charts(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "channels: {snapshot: {images: one.example.com/x, charts: file:///one}}\n"
    )
    (tmp_path / "two.yaml").write_text(
        "channels: {snapshot: {images: two.example.com/x}}\ncharts: [{path: charts/b}]\ntests: {parallel: 2}\n"
    )
    text = CHARTS + "channels: {production: {images: p.example.com/x}}\ntests: {timeout: 9m}\n"
    config = read(tmp_path, text, "one.yaml", "two.yaml")
    assert config.channels.snapshot.images == "two.example.com/x"
    assert config.channels.snapshot.charts == "file:///one"
    assert config.channels.production.images == "p.example.com/x"
    assert [entry.path for entry in config.charts] == ["charts/*", "charts/b"]
    assert (config.tests.timeout, config.tests.parallel) == ("9m", 2)
    assert config.where("charts[1].path") == "two.yaml:2"
    assert config.where("channels.snapshot.images.deeper") == "two.yaml:1"


def test_a_given_pipeline_yaml_is_the_base(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "pipeline.yaml").write_text("charts: [{path: chart}]\n")
    config = read(tmp_path, CHARTS, "hello/pipeline.yaml")
    assert config.root == tmp_path / "hello" and config.charts[0].path == "chart"


def test_a_section_of_the_site_file_comes_from_there_alone(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        'hosts: {r.example.com: {username: ci, password: "${PSW}"}}\nrelease: {branches: [main]}\n'
    )
    text = (
        CHARTS
        + 'hosts: {r.example.com/evil: {username: "${PSW}"}}\nrelease: {tag: "{version}"}\nevidence: file:///e\n'
    )
    config = read(tmp_path, text, PIPELINE_STEPS_SITE=str(site), PSW="secretword")
    assert dict(config.hosts) == {"r.example.com": hosts.Host(username="ci", password="secretword")}
    assert config.release.tag == "{name}-{version}" and config.release.branches == ("main",)
    assert config.evidence == "file:///e"
    site.write_text("hosts: {}\nimages: {}\n")
    with pytest.raises(
        ConfigurationError, match=r"site\.yaml:2: the site file .* must not have the section images"
    ):
        read(tmp_path, text, PIPELINE_STEPS_SITE=str(site))


def test_a_review_cannot_change_what_decides_about_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repo.config))
    text = (
        CHARTS
        + "release: {branches: [main]}\napprovals: {code: {by: alice}}\ntests: {parallel: 1}\n"
    )
    repo.put("pipeline.yaml", text)
    repo.commit()
    repo.git("checkout", "-q", "-b", "topic")
    evil = (
        text.replace("alice", "mallory").replace("parallel: 1", "parallel: 2")
        + "evidence: file:///mine\n"
    )
    repo.put("pipeline.yaml", evil)
    repo.commit()
    review = {
        "GITLAB_CI": "true",
        "CI_MERGE_REQUEST_IID": "4",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    }
    config = config_file.load(environ=review, start=repo.root)
    assert (config.approvals["code"].by, config.evidence, config.tests.parallel) == (
        "alice",
        None,
        2,
    )
    assert config.where("approvals.code.by") == "pipeline.yaml@main:4"
    assert (
        "this review changes approvals, evidence; that takes effect after the merge" in caplog.text
    )
    assert config_file.load(environ={}, start=repo.root).approvals["code"].by == "mallory"
    # Another target that is not fetched, and a CI that does not say: refused, never guessed.
    with pytest.raises(
        UsageError,
        match=r"the branch 'stable' is not here \(run git fetch origin \+refs/heads/stable:",
    ):
        config_file.load(
            environ={**review, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "stable"}, start=repo.root
        )
    with pytest.raises(
        ConfigurationError, match=r"does not say which branch review 4 goes to.*PIPELINE_STEPS_SITE"
    ):
        config_file.load(
            environ={"GITLAB_CI": "true", "CI_MERGE_REQUEST_IID": "4"}, start=repo.root
        )


REVIEW = {
    "GITLAB_CI": "true",
    "CI_MERGE_REQUEST_IID": "4",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
}


@pytest.fixture
def reviewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A checkout whose target branch has a pipeline.yaml and overlays; the branch topic is checked
    out.
    """
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(repo.config))
    repo.put("pipeline.yaml", CHARTS + "clusters: {k1: {kubeconfig: /agent/kubeconfig}}\n")
    repo.put("ci/more.yaml", "tests: {parallel: 2}\n")
    repo.put("ci/trusted.yaml", "tests: {parallel: 2}\nsecrets: {npmrc: 'file:/run/npmrc'}\n")
    repo.commit()
    repo.git("checkout", "-q", "-b", "topic")
    return repo


def test_clusters_and_secrets_of_a_review_are_those_of_its_target(reviewed: Repo) -> None:
    text = "clusters: {k1: {kubeconfig: ci/mine}}\nsecrets: {token: '${AGENT_TOKEN}'}\n"
    reviewed.put("pipeline.yaml", CHARTS + text)
    reviewed.commit()
    config = config_file.load(environ=REVIEW, start=reviewed.root)
    assert config.clusters["k1"].kubeconfig == "/agent/kubeconfig" and not config.secrets
    assert config_file.load(environ={}, start=reviewed.root).secrets == {"token": "${AGENT_TOKEN}"}


def test_overlays_that_a_review_can_change_hold_nothing_that_decides_about_trust(
    reviewed: Repo, tmp_path: Path
) -> None:
    load = functools.partial(config_file.load, environ=REVIEW, start=reviewed.root)
    assert load([Path("ci/more.yaml")]).tests.parallel == 2
    message = r"ci/trusted\.yaml:2: secrets is set in an overlay that this review can change"
    (tmp_path / "link.yaml").symlink_to(reviewed.root / "ci/trusted.yaml")
    for name in ("ci/trusted.yaml", "ci/../ci/trusted.yaml"):
        with pytest.raises(
            ConfigurationError, match=r"trusted\.yaml:2: secrets is set in an overlay"
        ):
            load([Path(name)])
    with pytest.raises(ConfigurationError, match=message):
        load([Path("ci/trusted.yaml")])
    with pytest.raises(ConfigurationError, match=r"link\.yaml:2: secrets is set in an overlay"):
        load([tmp_path / "link.yaml"])
    assert config_file.load([Path("ci/trusted.yaml")], environ={}, start=reviewed.root).secrets[
        "npmrc"
    ]
    # The folder that steps write is part of no tree, and a review can store files in it.
    reviewed.put(".pipeline/trusted.yaml", "secrets: {npmrc: 'file:/run/npmrc'}\n")
    reviewed.git("add", "-f", ".pipeline/trusted.yaml")
    reviewed.commit()
    with pytest.raises(ConfigurationError, match=r"trusted\.yaml:1: secrets is set in an overlay"):
        load([Path(".pipeline/trusted.yaml")])
    # What the CI server wrote, in the checkout or beside it, is nothing that a review can change.
    for place in (reviewed.root / "ci/of-server.yaml", tmp_path / "of-server.yaml"):
        place.write_text("secrets: {npmrc: 'file:/run/npmrc'}\n")
        assert load([place]).secrets["npmrc"] == "file:/run/npmrc"


def test_a_site_file_that_a_review_can_change_is_refused(reviewed: Repo) -> None:
    reviewed.put("ci/site.yaml", "channels: {snapshot: {images: evil.example.com/x}}\n")
    reviewed.commit()
    site = {"PIPELINE_STEPS_SITE": str(reviewed.root / "ci/site.yaml")}
    with pytest.raises(
        ConfigurationError, match=r"site\.yaml: the site file .* is one that this review can change"
    ):
        config_file.load(environ={**REVIEW, **site}, start=reviewed.root)
    assert config_file.load(environ=site, start=reviewed.root).channels.snapshot.images


def test_files_that_a_review_can_change_hold_no_login_and_name_no_cluster(
    reviewed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reviewed.root)
    reviewed.put("ci/kubeconfig", "{}")
    reviewed.commit()
    (tmp_path / "site.yaml").write_text(
        "clusters: {k1: {kubeconfig: ci/kubeconfig}, k2: {kubeconfig: /agent/kubeconfig}}\n"
        "hosts: {a.example.com: {username: x, password: 'file:ci/kubeconfig', plain_http: true},\n"
        "  b.example.com: {ca_file: ci/kubeconfig}}\n"
        f"secrets: {{x: 'file:{reviewed.root}/ci/kubeconfig'}}\n"
    )
    environ = {**REVIEW, "PIPELINE_STEPS_SITE": str(tmp_path / "site.yaml")}
    config = config_file.load(environ=environ, start=reviewed.root)
    assert config.clusters["k2"] and hosts.entry_for(config.hosts, "a.example.com/x")[1].plain_http
    for place, ask in (
        (r"1: clusters\.k1\.kubeconfig", lambda: config.clusters["k1"]),
        (
            r'2: hosts\."a\.example\.com"\.password',
            lambda: login_for("a.example.com", "x", config.hosts),
        ),
        (
            r'3: hosts\."b\.example\.com"\.ca_file',
            lambda: hosts.entry_for(config.hosts, "b.example.com/x"),
        ),
        (r"4: secrets\.x", lambda: config.secrets["x"]),
    ):
        with pytest.raises(
            ConfigurationError,
            match=rf"site\.yaml:{place} names a file that this review can change",
        ):
            ask()
    del environ["GITLAB_CI"]
    assert config_file.load(environ=environ, start=reviewed.root).clusters["k1"]


def test_the_command_line_wins_over_the_site_file(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("channels: {snapshot: {images: site.example.com/x}}\n")
    (tmp_path / "sandbox.yaml").write_text("channels: {snapshot: {images: 127.0.0.1:5000/x}}\n")
    config = read(tmp_path, CHARTS, "sandbox.yaml", PIPELINE_STEPS_SITE=str(tmp_path / "site.yaml"))
    assert config.channels.snapshot.images == "127.0.0.1:5000/x"


def test_variables_are_expanded_where_they_may_be_and_nowhere_else(tmp_path: Path) -> None:
    text = (
        CHARTS
        + 'images: {a: {context: "${X}"}}\nchannels: {snapshot: {images: "${X}/${Y:-y}${Z:-}"}}\n'
    )
    config = read(tmp_path, text, X="x.example.com")
    assert config.channels.snapshot.images == "x.example.com/y"
    assert config.images["a"].context == "${X}"


def test_a_stage_needs_only_the_variables_of_what_it_uses(tmp_path: Path) -> None:
    text = CHARTS + (
        "hosts:\n"
        '  r.example.com: {username: ci, password: "file:/run/psw"}\n'
        '  r.example.com/prod: {username: "${PROD_USR}", password: "${PROD_PSW}"}\n'
        'clusters: {k1: {kubeconfig: "${KUBE}"}, k2: {kubeconfig: /k2}}\n'
    )
    config = read(tmp_path, text)
    assert hosts.entry_for(config.hosts, "r.example.com/snapshot/a")[1].password == "file:/run/psw"
    message = r'pipeline\.yaml:5: hosts\."r\.example\.com/prod"\.username needs the variable PROD_USR, which is not set'
    with pytest.raises(ConfigurationError, match=message):
        login_for("r.example.com", "prod/a", config.hosts)
    assert config.clusters["k2"].kubeconfig == "/k2"
    with pytest.raises(
        ConfigurationError,
        match=r"pipeline\.yaml:6: clusters\.k1\.kubeconfig needs the variable KUBE",
    ):
        config.clusters["k1"]
    with pytest.raises(ConfigurationError, match="KUBE"):
        config.clusters.get("k1")


UNSET = (
    "hosts:\n"
    "  r.example.com: {username: wide, password: 'file:/run/psw'}\n"
    "  r.example.com/prod:\n"
    "    {username: robot, password: '${PSW}', ca_file: /ca.pem, plain_http: true, pull_as: m.example.com,\n"
    "     pull: {username: reader, password: '${PULL_PSW}'}}\n"
)


@pytest.mark.parametrize("copied", [False, True])
def test_an_unset_variable_blocks_its_own_login_and_is_never_sent(
    tmp_path: Path, copied: bool
) -> None:
    table = read(tmp_path, CHARTS + UNSET).hosts
    if copied:  # as callers do, and as it goes to worker processes
        table = pickle.loads(pickle.dumps(dict(table.items())))
    assert all(
        "${" not in str(host)
        for host in table.values()
        if not isinstance(host, hosts.IncompleteHost)
    )
    entry = hosts.entry_for(table, "r.example.com/prod/a")[1]
    assert (entry.ca_file, entry.plain_http) == ("/ca.pem", True) and not entry.password
    assert (
        str(hosts.pulled(Reference.parse("r.example.com/prod/a:1"), table)) == "m.example.com/a:1"
    )
    with pytest.raises(
        ConfigurationError,
        match=r"pipeline\.yaml:6: .*password needs the variable PSW, which is not set",
    ):
        login_for("r.example.com", "prod/a", table)
    with pytest.raises(ConfigurationError, match=r"pull\.password needs the variable PULL_PSW"):
        pull_login("r.example.com", "prod/a", table)


def test_an_unset_ca_file_is_no_connection_without_it(tmp_path: Path) -> None:
    table = read(
        tmp_path, CHARTS + 'hosts: {r.example.com: {ca_file: "${CA}", pull_as: "${MIRROR}"}}\n'
    ).hosts
    with pytest.raises(ConfigurationError, match="ca_file needs the variable CA"):
        hosts.entry_for(table, "r.example.com/a")
    with pytest.raises(ConfigurationError, match="needs the variable"):
        hosts.pulled(Reference.parse("r.example.com/a:1"), table)


def test_a_secret_that_is_a_variable_stays_its_name(tmp_path: Path) -> None:
    text = (
        CHARTS + 'secrets: {npmrc: "${NPMRC}", pip: "file:${RUN}/pip", other: "file:${UNSET}/x"}\n'
    )
    config = read(tmp_path, text, NPMRC="t0ken-of-npm", RUN="/run")
    assert config.secrets["npmrc"] == "${NPMRC}" and config.secrets["pip"] == "file:/run/pip"
    with pytest.raises(ConfigurationError, match=r"secrets\.other needs the variable UNSET"):
        config.secrets["other"]


def test_keys_without_effect_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config_file._warn_once.cache_clear()  # another test may have been told of the same lines
    text = CHARTS + ("channels: {snapshot: {keep: {abandoned: 1d}}}\nrelease: {sign: {key: x}}\n")
    for _ in range(2):
        config_file.load(
            [Path("pipeline.yaml")], environ={}, start=tmp_path
        ) if caplog.text else read(tmp_path, text)
    told = [
        f"pipeline.yaml:{line}: {key} has no effect yet"
        for line, key in (
            (3, "channels.snapshot.keep"),
            (4, "release.sign"),
        )
    ]
    assert caplog.messages == told


BAD: Mapping[str, tuple[str | bytes, str]] = {
    "empty": ("", r"pipeline\.yaml: the file is empty"),
    "only a comment": ("# nothing\n", r"pipeline\.yaml: the file is empty"),
    "a list": ("- a\n", r"pipeline\.yaml:1: the file is not a mapping of keys"),
    "syntax": (CHARTS + "tests: {a\n", r"pipeline\.yaml:4: not YAML"),
    "a tab": (CHARTS + "tests:\n\tvalues: x\n", r"pipeline\.yaml:4: not YAML"),
    "not UTF-8": (b"charts: \xff\n", r"pipeline\.yaml: not UTF-8"),
    "two documents": (CHARTS + "---\n" + CHARTS, r"pipeline\.yaml:3: a second YAML document"),
    "a key twice": (
        CHARTS + "evidence: a\nevidence: b\n",
        r"pipeline\.yaml:4: the key 'evidence' occurs twice",
    ),
    "an alias": (
        CHARTS + "tests: &t {}\ncheck: *t\n",
        r"pipeline\.yaml:4: the alias \*t is not read",
    ),
    "a python tag": (
        "charts: !!python/name:os.system\n",
        r"pipeline\.yaml:1: the tag .* is not read",
    ),
    "no charts": ("evidence: x\n", r"pipeline\.yaml:1: the key charts is missing"),
    "an unknown key": (
        CHARTS + "imagse: {}\n",
        r"pipeline\.yaml:3: unknown key imagse \(there is images",
    ),
    "an unknown key deep inside": (
        CHARTS + "images:\n  a:\n    context: x\n    dockerfil: y\n",
        r"pipeline\.yaml:6: unknown key dockerfil in images\.a \(there is dockerfile",
    ),
    "an unknown key of a host": (
        CHARTS + "hosts: {r.example.com: {user: x}}\n",
        r'pipeline\.yaml:3: unknown key user in hosts\."r\.example\.com" \(there is username',
    ),
    "a missing key": (
        CHARTS + "  - paths: [a]\n",
        r"pipeline\.yaml:3: the key path of charts\[1\] is missing",
    ),
    "a list where a mapping is wanted": (
        CHARTS + "images: [a]\n",
        r"pipeline\.yaml:3: images must be a mapping of keys, not a list",
    ),
    "a text where a list is wanted": (
        CHARTS + "    paths: shared\n",
        r"pipeline\.yaml:3: charts\[0\]\.paths must be a list, not the text 'shared' \(write \[shared\]\)",
    ),
    "a number where a text is wanted": (
        CHARTS + "images: {a: {context: x, args: {VERSION: 1.10}}}\n",
        r'pipeline\.yaml:3: images\.a\.args\.VERSION must be a text, not the number 1\.10 .*quote it, "1\.10"',
    ),
    "yes where a text is wanted": (
        CHARTS + "images:\n  a:\n    context: yes\n",
        r'pipeline\.yaml:5: images\.a\.context must be a text, not the truth value yes .*quote it, "yes"',
    ),
    "no in a list of texts": (
        CHARTS + "release: {branches: [main, no]}\n",
        r"pipeline\.yaml:3: release\.branches\[1\] must be a text, not the truth value no",
    ),
    "a text where a number is wanted": (
        CHARTS + 'tests: {parallel: "4"}\n',
        r"pipeline\.yaml:3: tests\.parallel must be a whole number, not the text '4'",
    ),
    "a text where a truth value is wanted": (
        CHARTS + "hosts: {a: {plain_http: maybe}}\n",
        r"pipeline\.yaml:3: hosts\.a\.plain_http must be true or false, not the text 'maybe'",
    ),
    "nothing where a text is wanted": (
        CHARTS + "images: {a: {dockerfile: }}\n",
        r"pipeline\.yaml:3: images\.a\.dockerfile must be a text, not nothing",
    ),
    "an unknown word": (
        CHARTS + "tests: {breaking: ignore}\n",
        r"pipeline\.yaml:3: tests\.breaking must be test or skip, not the text 'ignore'",
    ),
    "a bad duration": (
        CHARTS + "tests: {timeout: 5 min}\n",
        r"pipeline\.yaml:3: tests\.timeout: '.*' is not a duration",
    ),
    "a bad duration to keep": (
        CHARTS + "channels: {snapshot: {keep: {abandoned: never}}}\n",
        r"pipeline\.yaml:3: channels\.snapshot\.keep\.abandoned: '.*' is not a duration",
    ),
    "an unset variable": (
        CHARTS + 'channels:\n  snapshot: {images: "${WHERE}/x"}\n',
        r"pipeline\.yaml:4: channels\.snapshot\.images needs the variable WHERE, which is not set",
    ),
    "a bad variable": (
        CHARTS + 'evidence: "oci://${WH ERE}"\n',
        r"pipeline\.yaml:3: evidence: \$\{WH ERE\} is not the name of a variable",
    ),
    "a literal password": (
        CHARTS + "hosts: {a: {password: hunter2}}\n",
        r"pipeline\.yaml:3: hosts\.a\.password is a password written into the file",
    ),
    "a password as default": (
        CHARTS + 'hosts: {a: {password: "${X:-hunter2}"}}\n',
        r"pipeline\.yaml:3: hosts\.a\.password is a password written into the file",
    ),
    "a literal password for pulls": (
        CHARTS + "hosts: {a: {pull: {username: x, password: hunter2}}}\n",
        r"pipeline\.yaml:3: hosts\.a\.pull\.password is a password written into the file",
    ),
    "half a login for pulls": (
        CHARTS + "hosts: {a: {pull: {username: x}}}\n",
        r"pipeline\.yaml:3: the key password of hosts\.a\.pull is missing",
    ),
    "a literal secret": (
        CHARTS + "secrets: {npmrc: hunter2}\n",
        r"pipeline\.yaml:3: secrets\.npmrc is neither a variable nor a file with an absolute path",
    ),
    "a secret in part": (
        CHARTS + 'secrets: {npmrc: "x${PATH:-hunter2}"}\n',
        r"3: secrets\.npmrc is neither a variable",
    ),
    "a secret in the checkout": (
        CHARTS + 'secrets: {npmrc: "file:ci/npmrc"}\n',
        r"3: secrets\.npmrc is neither",
    ),
    "an argument for helm": (
        CHARTS + "tests:\n  helm_args:\n    - --set=a=b\n    - --namespace\n    - default\n",
        r"pipeline\.yaml:6: tests\.helm_args may not have '--namespace' \(allowed are --set, --set-string, --set-json, --v",
    ),
    "an argument of a chart for helm": (
        "charts:\n  - path: charts/*\n    tests: {helm_args: [--post-renderer=./x]}\n",
        r"pipeline\.yaml:3: tests\.helm_args may not have '--post-renderer=\./x'",
    ),
    "an argument for helm without value": (
        CHARTS + "tests: {helm_args: [--set]}\n",
        r"pipeline\.yaml:3: --set of tests\.helm_args has no value",
    ),
    "a version of Kubernetes": (
        CHARTS + "check:\n  kube_versions: ['1.27', v1.26.3, latest]\n",
        r"pipeline\.yaml:4: check\.kube_versions\[2\]: 'latest' is not a version of Kubernetes",
    ),
    "a password in part": (
        CHARTS + 'hosts: {a: {password: "x${X}"}}\n',
        r"pipeline\.yaml:3: hosts\.a\.password is a password written into the file",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)


def test_a_missing_overlay_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.yaml: there is no such file"):
        read(tmp_path, CHARTS, "gone.yaml")


def test_a_mistake_in_an_overlay_is_named_there(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("tests:\n  paralel: 4\n")
    with pytest.raises(ConfigurationError, match=r"more\.yaml:2: unknown key paralel in tests"):
        read(tmp_path, CHARTS, "more.yaml")
