"""The configuration language of pipeline.yaml as frozen types; nothing here reads a file.

`config_file` reads, merges and expands it; `make doc` writes its JSON Schema. A key that is not
here does not exist. Keys of later versions are types too: they are accepted, and refused with "not
yet" where they are used. The text below a key is its meaning and an example, for
docs/reference/configuration.md and for editors.
"""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError

Value = TypeVar("Value")


class Settings(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """Base of everything written in pipeline.yaml: unknown keys are refused."""


class ChartTests(Settings, frozen=True):
    """How charts are tested, all (`tests`) or some (`charts[].tests`); None: not set here."""

    none: str | None = None
    """Why the charts have no test; without this reason a chart without a test fails.
    Example: `none: only CRDs, tested by the platform chart`"""

    timeout: str | None = None
    """How long one scenario may take. Example: `timeout: 20m`"""

    prepare: tuple[str, ...] | None = None
    """Not yet: integration_test refuses a chart that has it. Manifests to apply before the install.
    Example: `prepare: [ci/before.yaml]`"""

    clusters: tuple[str, ...] | None = None
    """Names in `clusters` on which the tests must pass; empty: on any one of them.
    Example: `clusters: [k131, k134]`"""

    values: str | None = None
    """Glob of values files below the chart; each match is a scenario.
    Example: `values: ci/*-values.yaml`"""

    upgrade_from: tuple[str, ...] | None = None
    """Not yet: integration_test refuses a chart that has it, and without it no upgrade is tested.
    Versions to upgrade from; `published` is the newest below this one.
    Example: `upgrade_from: [published]`"""

    breaking: Literal["test", "skip"] | None = None
    """Not yet: integration_test refuses a chart that has it. Whether upgrades over a major version
    are tested. Example: `breaking: skip`"""

    namespace: str | None = None
    """`fresh`: each scenario gets a namespace of its own, which is removed afterwards; else the
    name of an existing namespace, in which scenarios run one after the other.
    Example: `namespace: charts-under-test`"""

    pull_secret: bool | None = None
    """Whether test namespaces get a secret to pull images with. Example: `pull_secret: false`"""

    helm_args: tuple[str, ...] | None = None
    """Arguments for helm: `--set`, `--set-string`, `--set-json`, `--values FILE`; no others.
    Example: `helm_args: [--set, ingress.enabled=false]`"""

    parallel: int | None = None
    """How many scenarios of a chart run at once. Example: `parallel: 8`"""
    fail_fast: bool | None = None
    """End a scenario at its first crash loop or unschedulable pod, which might heal within the
    timeout. Pulls that the registry refuses for good end it always. Example: `fail_fast: true`"""


class ChartEntry(Settings, frozen=True):
    """One entry of `charts`: which charts it is about and what holds for them."""

    path: str
    """The chart's folder below pipeline.yaml, or a glob; `{a,b}` are alternatives.
    Example: `path: charts/{api,worker}`"""

    paths: tuple[str, ...] | None = None
    """Files and folders outside of the chart's folder, relative to pipeline.yaml, that are part of
    its content: symbolic links in the chart may lead to them. Example: `paths: [shared/]`"""

    images: dict[str, dict[str, str]] | None = None
    """Image name → key in values.yaml (or Chart.appVersion) → template of {registry} {path}
    {repository} {tag} {digest} {reference}: how the chart refers to its images.
    Example: `images: {backend: {image.repository: "{repository}", image.digest: "{digest}"}}`"""

    tests: ChartTests | None = None
    """What differs from `tests` for these charts. Example: `tests: {timeout: 20m}`"""


class ImageEntry(Settings, frozen=True):
    """One entry of `images`: built from `context`; or `existing`, built elsewhere; or neither: then
    the chart's values name the image.
    """

    context: str | None = None
    """The folder that the image is built from. Example: `context: apps/backend`"""

    dockerfile: str = "Dockerfile"
    """The Dockerfile, relative to the context. Example: `dockerfile: docker/Dockerfile`"""

    target: str | None = None
    """The stage of the Dockerfile to build; default: the last one. Example: `target: runtime`"""

    args: dict[str, str] = {}
    """Build arguments (ARG of the Dockerfile). Example: `args: {JAVA_VERSION: "21"}`"""

    secrets: tuple[str, ...] = ()
    """Names in `secrets` that `RUN --mount=type=secret,id=NAME` reads.
    Example: `secrets: [npmrc]`"""

    platforms: tuple[str, ...] = ()
    """Platforms to build for; default: the builder's own.
    Example: `platforms: [linux/amd64, linux/arm64]`"""

    generated: dict[str, tuple[str, ...]] = {}
    """Glob of files in the context that an earlier stage makes → the sources that they are made
    from (files, folders, globs), all relative to the context. The sources are content; the files go
    in by digest. Example: `generated: {target/*.jar: [pom.xml, src]}`"""

    existing: str | None = None
    """The image as it is named elsewhere; without tag and digest, those in the chart's values
    count. Example: `existing: registry.example.com/team/invoicer`"""


class Keep(Settings, frozen=True):
    """How long `sweep` keeps snapshots: durations, or `forever`."""

    unreleased: str = "forever"
    """No effect yet. Snapshots of content that is on the mainline and not released.
    Example: `unreleased: 90d`"""

    abandoned: str = "7d"
    """No effect yet. Snapshots of content that is on no branch. Example: `abandoned: 14d`"""

    released: str = "30d"
    """No effect yet. Snapshots of content that is released. Example: `released: 90d`"""


class SnapshotChannel(Settings, frozen=True):
    """Where snapshots go."""

    images: str | None = None
    """Registry and path below which built images are pushed.
    Example: `images: registry.example.com/snapshot`"""

    charts: str | tuple[str, ...] = ()
    """URL of the chart repository, or several; the first one is authoritative.
    Example: `charts: oci://registry.example.com/snapshot-charts`"""

    keep: Keep = Keep()
    """How long snapshots are kept. Example: `keep: {abandoned: 14d}`"""


class ProductionChannel(Settings, frozen=True):
    """Where releases go, and what a release needs."""

    images: str | None = None
    """Registry and path that images are copied to.
    Example: `images: registry.example.com/production`"""

    charts: str | tuple[str, ...] = ()
    """URL of the chart repository, or several; the first one is authoritative.
    Example: `charts: ["oci://registry.example.com/charts"]`"""

    requires: tuple[str, ...] = ("check", "integration_test")
    """Steps, and names given to `record`, that must have passed for the content of a release;
    integration_test is required, whether it is listed or not.
    Example: `requires: [check, integration_test, scan]`"""

    evidence: tuple[str, ...] | None = None
    """The evidence stores that a release trusts; default: the one in `evidence`.
    Example: `evidence: ["oci://registry.example.com/ci/mainline"]`"""


class Channels(Settings, frozen=True):
    """Where artifacts go."""

    snapshot: SnapshotChannel = SnapshotChannel()
    """What is being tested.
    Example: `snapshot: {charts: "oci://registry.example.com/snapshots"}`"""

    production: ProductionChannel = ProductionChannel()
    """What users install. Example: `production: {charts: "oci://registry.example.com/charts"}`"""


class Cluster(Settings, frozen=True):
    """A cluster that tests run on."""

    kubeconfig: str
    """The kubeconfig file. Example: `kubeconfig: "${CI_KUBECONFIG}"`"""

    context: str | None = None
    """The context in it; default: the file's current one. Example: `context: k131`"""


class Check(Settings, frozen=True):
    """What `check` does beside its own checks."""

    commands: tuple[str, ...] = ()
    """Programs with arguments, run in pipeline.yaml's folder for each chart; {chart} is the chart's
    folder; no shell reads them. Example: `commands: ["kubeconform -strict {chart}/crds"]`"""

    kube_versions: tuple[str, ...] = ()
    """Kubernetes versions that charts are linted and rendered for, each of them; without, the one
    that helm assumes. Comparisons without a cluster render for the first.
    Example: `kube_versions: ["1.29.0", "1.34.0"]`"""

    api_versions: tuple[str, ...] = ()
    """API versions that a rendering without a cluster finds in .Capabilities.APIVersions, beside
    those that helm knows. Example: `api_versions: [route.openshift.io/v1]`"""

    with_subcharts: bool = False
    """Lint the charts in charts/ too. Example: `with_subcharts: true`"""

    version: Literal["notice", "required"] = "notice"
    """Whether the version of a changed chart must go up: told by `check` and `report`, or a failure
    of `check`. Example: `version: required`"""


class GerritReview(Settings, frozen=True):
    """Changes of a Gerrit server. The account in `hosts` needs "Label NAME" on refs/heads/* for
    `report`, "Submit" for `merge` and "Create Annotated Tag" for `tag_release`."""

    url: str
    """Its URL. Example: `url: https://gerrit.example.com`"""

    project: str = ""
    """The project's name; default: of the CI's event, else of the checkout's remote.
    Example: `project: team/charts`"""

    label: str = "Verified"
    """The label that gets the verdict. Example: `label: Verified`"""


class GiteaReview(Settings, frozen=True):
    """Pull requests of a Gitea or Forgejo server. The token in `hosts`, else $GITEA_TOKEN, needs
    write:repository for the status, the merge and the release, write:issue for the comment, and
    read:user to know its own; read:organization for `group:NAME`. Its account needs write access.
    """

    url: str
    """Its URL. Example: `url: https://git.example.com`"""

    repository: str = ""
    """OWNER/NAME; default: that of Gitea Actions, else of the checkout's remote.
    Example: `repository: team/charts`"""

    name: str = "pipeline-steps"
    """The context of the commit status, as branch protection names it. Example: `name: charts`"""


class GithubReview(Settings, frozen=True):
    """Pull requests on GitHub or GitHub Enterprise. The token in `hosts`, else $GITHUB_TOKEN, needs
    checks: write or statuses: write, pull-requests: write for the comment, and contents: write for
    merge and release."""

    repository: str = ""
    """OWNER/NAME; default: $GITHUB_REPOSITORY, else of the checkout's remote.
    Example: `repository: team/charts`"""

    api_url: str = ""
    """The API's root; default: $GITHUB_API_URL, else that of github.com.
    Example: `api_url: https://github.example.com/api/v3`"""

    verdict: Literal["check", "status"] | None = None
    """`check`: a check run with annotations, which only tokens of apps may write, that of GitHub
    Actions included; `status`: a commit status. Default: `check` in GitHub Actions, else `status`.
    Example: `verdict: status`"""

    name: str = "pipeline-steps"
    """The name of the check run, or the context of the status, as branch protection names it.
    Example: `name: charts`"""

    merge_method: Literal["merge", "squash", "rebase"] | None = None
    """How `merge` merges; default: the first of these that repository and rulesets allow.
    Example: `merge_method: squash`"""


class GitlabReview(Settings, frozen=True):
    """Merge requests on GitLab. The token in `hosts`, else $GITLAB_TOKEN, needs the scope `api`, its
    account the role Developer, and for merge what the target's protection asks for. A job token can
    write neither statuses nor notes."""

    url: str = ""
    """Its URL; default: $CI_SERVER_URL. Example: `url: https://gitlab.example.com`"""

    project: str = ""
    """GROUP/NAME; default: $CI_PROJECT_PATH, else of the checkout's remote.
    Example: `project: team/charts`"""

    name: str = "pipeline-steps"
    """The name of the commit status. Example: `name: charts`"""


class LaunchpadReview(Settings, frozen=True):
    """Merge proposals on Launchpad. The account needs to be a reviewer of the target to approve and
    to mark proposals as merged."""

    api_url: str = "https://api.launchpad.net/"
    """The API's root. Example: `api_url: https://api.launchpad.example.com/`"""

    git_url: str = "https://git.launchpad.net/"
    """Where git repositories are, to fetch proposals and to push what is merged; git's own
    `pushInsteadOf` says where it pushes instead. Example: `git_url: git+ssh://git.launchpad.net/`"""

    bzr_url: str = "bzr+ssh://bazaar.launchpad.net/"
    """Where branches of Bazaar are. Example: `bzr_url: bzr+ssh://me@bazaar.example.com/`"""

    token_file: str = ""
    """The file with the OAuth token, mode 0600, absolute; default: $LP_CREDENTIALS_FILE.
    Example: `token_file: /run/secrets/launchpad`"""


class Review(Settings, frozen=True):
    """The review system, at most one, and what its verdict needs."""

    gerrit: GerritReview | None = None
    """Changes of a Gerrit server get the verdict of `report`.
    Example: `gerrit: {url: "https://gerrit.example.com"}`"""

    gitea: GiteaReview | None = None
    """Pull requests of a Gitea or Forgejo server get the verdict of `report`.
    Example: `gitea: {url: "https://git.example.com"}`"""

    github: GithubReview | None = None
    """Pull requests on GitHub get the verdict of `report`. Example: `github: {}`"""

    gitlab: GitlabReview | None = None
    """Merge requests on GitLab get the verdict of `report`. Example: `gitlab: {}`"""

    launchpad: LaunchpadReview | None = None
    """Merge proposals on Launchpad get the verdict of `report`. Example: `launchpad: {}`"""

    requires: tuple[str, ...] = ("check", "integration_test")
    """Steps, names given to `record`, and approvals (`approval.NAME`), without which the verdict is
    incomplete. Example: `requires: [check]`"""


class Approval(Settings, frozen=True):
    """One named approval: who gives it, how, and whose own does not count."""

    by: str | tuple[str, ...] = ()
    """Accounts whose approval counts, written exactly as the review system writes them, and
    `group:NAME` for the members of a group or team, where the token may read it; default: everybody
    whose approval the review system counts. Example: `by: [alice, "group:release-managers"]`"""

    count: int = 1
    """How many different people must approve. Example: `count: 2`"""

    not_by: tuple[str, ...] = ("author",)
    """Whose approval does not count: `author`, `uploader` (who pushed the newest revision, also by
    a button Rebase; on Gerrit and Gitea only, refused elsewhere, where nobody is told who pushed),
    accounts, `group:NAME`. Example: `not_by: [author, uploader]`"""

    gerrit: str = "label:Code-Review=MAX"
    """On Gerrit, the vote that approves: label:NAME=MAX or label:NAME=+N, or
    submit_requirement:NAME. Example: `gerrit: label:Release=MAX`"""

    github: str = "review"
    """On GitHub, what approves: `review`, or `environment:NAME` for the reviewers of an environment.
    Example: `github: environment:production`"""


class Sign(Settings, frozen=True):
    """A key of GnuPG, as `helm package --sign` takes it."""

    key: str | None = None
    """Not yet. The name of the key. Example: `key: releases`"""

    keyring: str | None = None
    """Not yet. The file with the key. Example: `keyring: /etc/keys/releases.gpg`"""


class Release(Settings, frozen=True):
    """Names of releases, and what may be released."""

    tag: str = "{name}-{version}"
    """The tag of a release: a template of {name} and {version}. Example: `tag: v{version}`"""

    branches: tuple[str, ...] = ("main", "master", "trunk", "release/*")
    """Globs of the mainlines. Their snapshots count the revisions of the mainline; those of other
    branches and of reviews sort below them. Only reviews that were merged into one of them count
    for approvals. Example: `branches: [main, "release/*"]`"""

    image_tag: str | None = None
    """The tag of a chart's images in production, a template of {name} and {version}; default:
    {version} for an image of one chart, {name}-{version} with the name of the released chart for
    one that several charts use. Example: `image_tag: "{name}-{version}"`"""

    svn_tags: str = ""
    """Subversion, where no folder above is called trunk, branches or tags: the folder of the tags,
    from the repository's root. Branches are then called by their paths.
    Example: `svn_tags: releases`"""

    withdrawn: tuple[str, ...] = ()
    """Versions that `regenerate` neither makes nor copies and `audit` reports, as VERSION or
    NAME-VERSION. Example: `withdrawn: [hello-1.2.0]`"""

    pin: Literal["ours", "all"] = "ours"
    """Which image references a release pins by digest. Not yet: `all` is refused.
    Example: `pin: ours`"""

    sign: Sign = Sign()
    """Not yet: a release with it is refused. How charts and images are signed.
    Example: `sign: {key: releases, keyring: /etc/keys/releases.gpg}`"""


class Deployment(Settings, frozen=True):
    """One place where `deploy` installs a chart."""

    chart: str
    """The name of a chart of this checkout, or the reference of a published one, as `verify` takes
    it. Example: `chart: hello`"""

    cluster: str
    """Its name in `clusters`. Example: `cluster: k131`"""

    namespace: str
    """The namespace, which must exist. Example: `namespace: team-a`"""

    release: str | None = None
    """The name of the helm release; default: that of the deployment. Example: `release: hello`"""

    values: tuple[str, ...] = ()
    """Values files of the source, relative to pipeline.yaml; later ones win.
    Example: `values: [env/a.yaml]`"""

    test: bool = True
    """Whether `helm test` runs after the install. Example: `test: false`"""

    on_failure: Literal["rollback", "keep"] = "rollback"
    """What happens when it does not get ready or its tests fail: back to the revision before (a first
    install is removed), or keep it for people to look at. Example: `on_failure: keep`"""


class Language(Settings, frozen=True):
    """The whole of pipeline.yaml."""

    charts: tuple[ChartEntry, ...]
    """The charts; several entries may be about one chart. Example: `charts: [{path: charts/*}]`"""

    images: dict[str, ImageEntry] = {}
    """Image name → what it is made of. Example: `images: {backend: {context: apps/backend}}`"""

    channels: Channels = Channels()
    """Where artifacts go.
    Example: `channels: {snapshot: {charts: "oci://registry.example.com/snapshots"}}`"""

    evidence: str | None = None
    """The store of the records of all builds, `oci://HOST/PATH` or `file:///FOLDER`.
    Example: `evidence: oci://registry.example.com/ci/evidence`"""

    hosts: dict[str, Host] = {}
    """Host, with port and path where needed → login and connection; the longest prefix counts.
    Example: `hosts: {registry.example.com/team: {username: ci, password: "${PASSWORD}"}}`"""

    secrets: dict[str, str] = {}
    """Name for `images.X.secrets` → "${NAME}", the variable that holds it, or "file:/PATH".
    Example: `secrets: {npmrc: "file:/run/secrets/npmrc"}`"""

    clusters: dict[str, Cluster] = {}
    """Name → a cluster to test on.
    Example: `clusters: {k131: {kubeconfig: "${CI_KUBECONFIG}"}}`"""

    tests: ChartTests = ChartTests()
    """How charts are tested. Example: `tests: {timeout: 10m}`"""

    check: Check = Check()
    """What `check` does beside its own checks. Example: `check: {commands: ["./lint {chart}"]}`"""

    review: Review = Review()
    """The review system and what its verdict needs. Example: `review: {requires: [check]}`"""

    approvals: dict[str, Approval] = {}
    """Name → who approves: `approval.NAME` in `requires`. Example: `approvals: {code: {not_by: [author]}}`"""

    release: Release = Release()
    """Names of releases, and what may be released. Example: `release: {tag: "v{version}"}`"""

    deployments: dict[str, Deployment] = {}
    """Name → where `deploy` installs a chart.
    Example: `deployments: {a: {chart: hello, cluster: k131, namespace: team-a}}`"""


class IncompleteSettings(dict[str, Value]):
    """Named settings of which some need variables that are not set here; asking for such a one says
    so.

    A stage that does not test runs without the clusters' credentials. unset: name → what is
    missing.
    """

    def __init__(
        self, settings: Mapping[str, Value], unset: Mapping[str, ConfigurationError]
    ) -> None:
        super().__init__(settings)
        self.unset = dict(unset)

    def __getitem__(self, name: str) -> Value:
        if name in self.unset:
            # When the setting is used, not when the file is read: most stages need none of the
            # others.
            raise self.unset[name]
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict does, but raises ConfigurationError when the setting needs a variable that is
        not set.
        """
        return self[name] if super().__contains__(name) else default


class Config(Language, frozen=True, kw_only=True):
    """What a step is given: the language, and where it was read.

    root: the folder of pipeline.yaml, absolute. files: all that was read, pipeline.yaml first.
    locations: key path, like "charts[0].path", → file and line. raw: `charts` and `images` as
    plain values.
    """

    root: Path
    files: tuple[Path, ...] = ()
    locations: dict[str, str] = {}
    raw: dict[str, Any] = {}

    def where(self, key: str) -> str:
        """File and line of a key, or of the nearest one above it."""
        while key and key not in self.locations:
            key = key.rpartition(".")[0]
        return self.locations.get(key, str(self.files[0]) if self.files else "pipeline.yaml")


#: What holds where neither a chart nor `tests` says anything.
TEST_DEFAULTS = ChartTests(
    timeout="5m",
    prepare=(),
    clusters=(),
    values="ci/*-values.yaml",
    namespace="fresh",
    pull_secret=True,
    helm_args=(),
    parallel=4,
    fail_fast=False,
)


def merge_tests(*layers: ChartTests) -> ChartTests:
    """Test settings of later layers over earlier ones, key by key; `none` and the like fall through
    when unsaid.

    >>> merge_tests(TEST_DEFAULTS, ChartTests(timeout="20m")).timeout
    '20m'
    """
    settings: dict[str, Any] = {}
    for layer in layers:
        settings.update({k: v for k, v in msgspec.structs.asdict(layer).items() if v is not None})
    return ChartTests(**settings)


def as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """A setting that may be written as one text or as a list."""
    return (value,) if isinstance(value, str) else value


def require_cluster(config: "Config", name: str) -> None:
    """Raises UsageError when no cluster of this name is configured."""
    if name not in config.clusters:
        configured = ", ".join(sorted(config.clusters)) or "none"
        raise UsageError(
            f"there is no cluster {name} in the configuration (there are: {configured})",
            advice="add it to `clusters` in pipeline.yaml; the cluster of the sandbox comes with "
            '--config "$(pipeline-steps sandbox up)"',
        )


def fill_name_template(template: str, name: str, version: str) -> str:
    """A name of `release` (tag, image_tag) for a chart: its template with {name} and {version} put
    in.

    >>> fill_name_template("{name}-{version}", "web", "1.4.0")
    'web-1.4.0'
    """
    return template.replace("{name}", name).replace("{version}", version)
