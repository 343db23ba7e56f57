"""The probes of `doctor`: one function for each thing that a step may need.

Each returns what it found, or raises an error. Nothing is written but a temporary file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline_steps.approvals.votes import GROUP
from pipeline_steps.auth.reference import Reference
from pipeline_steps.clusters import kubeconfig
from pipeline_steps.clusters.helm import Helm
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.evidence.kinds import open_store
from pipeline_steps.images import builders, docker
from pipeline_steps.images.buildx import Buildx
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.kinds import open_writable
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import PublishesReleases, ReviewSystem, TellsAccess
from pipeline_steps.sources.kinds import SYSTEMS, open_source
from pipeline_steps.testing import pulls
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, ToolMissing
from pipeline_steps.toolbox.wording import counted

ABSENT = "pipeline-steps-doctor"
ABSENT_REVISION = "0" * 40


def source_program(config: Config | None) -> str:
    """The program of the checkout's system is installed; git's outside of a checkout. Raises
    ToolMissing.
    """
    try:
        system = open_source(config.root if config else Path.cwd()).system
    except ConfigurationError:  # said by the probe of the source
        system = "git"
    name, package = SYSTEMS[system].program, SYSTEMS[system].package
    advice = f"apt-get install {package}, or whatever package of your system brings it"
    program = process.require(name, advice=advice)
    path = {"PATH": f"{Path(program).parent}{os.pathsep}{process.search_path(os.environ)}"}
    answer = process.run([program, "--version"], env=path, timeout=30).stdout
    return f"{name}: {answer.decode(errors='replace').strip().partition(chr(10))[0]}"


def helm(_config: Config | None) -> str:
    """helm is installed in a supported version. Raises ToolMissing, MachineError."""
    program = Helm.find()
    return f"helm {program.version} ({program.program})"


def engine(_config: Config | None) -> str:
    """The docker engine answers this account. Raises MachineError, Temporary."""
    return f"docker engine {docker.engine_version()}"


def buildx(_config: Config | None) -> str:
    """docker's buildx plugin is installed and has a builder. Raises ToolMissing, MachineError."""
    program = builders.find_buildx_plugin(os.environ)
    if program is None:
        raise ToolMissing(
            "docker's buildx plugin is not installed",
            advice="install it: without it images are not bit-identical and BuildKit syntax is refused",
        )
    # Not started: doctor changes nothing, and the first start pulls an image.
    facts = Buildx(program).inspect_builder({}, start=False)
    running = f"BuildKit {facts.buildkit}" if facts.buildkit else "not running: a build starts it"
    return f"{program}, builder {facts.driver}, {running}"


def source(config: Config | None) -> str:
    """pipeline.yaml is in a checkout. Raises ConfigurationError."""
    root = _configured(config).root
    return f"{open_source(root).system} checkout in {root}"


def state(config: Config | None) -> str:
    """The folder for state, JUnit files and logs is writable. Raises MachineError."""
    root = _configured(config).root
    folder = root / ".pipeline" if (root / ".pipeline").is_dir() else root
    try:
        # Written and synced, not asked for its mode: quotas and full disks show only then.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise MachineError(
            f"this account cannot write there: {error.strerror}",
            where=str(folder),
            advice="give the folder to this account, or name another",
        ) from error
    return f"{folder} can be written"


def snapshot_images(config: Config | None) -> str:
    configured = _configured(config)
    answer = _registry(configured, "channels.snapshot.images", configured.channels.snapshot.images)
    return "; ".join(filter(None, (answer, pulls.push_login_warning(configured))))


def production_images(config: Config | None) -> str:
    return _registry(
        _configured(config),
        "channels.production.images",
        _configured(config).channels.production.images,
    )


def snapshot_charts(config: Config | None) -> str:
    return _repositories(
        _configured(config),
        "channels.snapshot.charts",
        _configured(config).channels.snapshot.charts,
    )


def production_charts(config: Config | None) -> str:
    configured = _configured(config)
    return _repositories(
        configured, "channels.production.charts", configured.channels.production.charts
    )


def evidence(config: Config | None) -> str:
    """Every evidence store answers, asked for a content that does not exist; none is fine."""
    configured = _configured(config)
    urls = dict.fromkeys(
        url
        for url in (configured.evidence, *(configured.channels.production.evidence or ()))
        if url
    )
    for url in urls:
        open_store(url, configured.hosts, where=configured.where("evidence")).record_ids(
            f"sha256:{'0' * 64}"
        )
    return f"{', '.join(urls)} answers" if urls else "no evidence store is configured"


def review_system(config: Config | None) -> str:
    """The review system answers and takes the login; none is fine. Raises AccessRefused."""
    return _answers(_asked_review_system(_configured(config)))


def review_verdict(config: Config | None) -> str:
    """As `review_system`. Raises AccessRefused naming the right that a verdict needs as well, where
    the system tells.
    """
    system = _asked_review_system(_configured(config))
    return system.access() if isinstance(system, TellsAccess) else _answers(system)


def review_merge(config: Config | None) -> str:
    """As `review_verdict`, for the right that merging needs."""
    system = _asked_review_system(_configured(config))
    return system.access("merge") if isinstance(system, TellsAccess) else _answers(system)


def review_release(config: Config | None) -> str:
    """As `review_system`. Raises AccessRefused where the tag could not become a release."""
    configured = _configured(config)
    system = _asked_review_system(configured)
    if not isinstance(system, PublishesReleases):
        return _answers(system)
    if any(map(system.promotes_here, as_tuple(configured.channels.production.charts))):
        return f"{_answers(system)}; promote makes the release"
    system.require_release_access()
    return f"{_answers(system)}, and takes a release as far as it tells"


def review_approvals(config: Config | None) -> str:
    """As `review_system`, for every approval that is configured: its groups, and its votes where the
    system tells. Raises AccessRefused, UsageError for a group that does not exist.
    """
    configured = _configured(config)
    system = _asked_review_system(configured)
    if system is None:
        return _answers(system)
    for approval in configured.approvals.values():
        for name in (*as_tuple(approval.by), *approval.not_by):
            if name.startswith(GROUP):
                system.members(name.removeprefix(GROUP))
        if isinstance(system, TellsAccess):
            system.require_approval_access(approval)
    return f"{_answers(system)}, {counted(len(configured.approvals), 'approval')} can be read"


def cluster(config: Config | None) -> str:
    """Every configured cluster answers this account. Raises ConfigurationError, MachineError."""
    configured = _configured(config)
    if not configured.clusters:
        raise ConfigurationError(
            "no cluster is configured",
            advice="configure one, as in clusters: {NAME: {kubeconfig: FILE}}",
        )
    answers = []
    for name in configured.clusters:
        entry = configured.clusters[name]
        path = configured.root / Path(entry.kubeconfig).expanduser()
        answers.append(f"{name}: Kubernetes {Api(kubeconfig.load(path, entry.context)).version()}")
    return ", ".join(answers)


def _configured(config: Config | None) -> Config:
    if config is None:
        raise ConfigurationError(
            "there is no pipeline.yaml here", advice="pipeline-steps init writes a first one"
        )
    return config


def _asked_review_system(config: Config) -> ReviewSystem | None:
    """The review system, asked for a revision that does not exist; None without one."""
    system = open_review_system(config, open_source(config.root).remote_url)
    if system:
        system.reviews_of(ABSENT_REVISION)
    return system


def _answers(system: ReviewSystem | None) -> str:
    return f"{system.name} answers" if system else "no review system is configured"


def _registry(config: Config, key: str, images: str | None) -> str:
    """The registry answers and takes the login, asked for a tag that does not exist."""
    if not images:
        raise ConfigurationError(
            "the key is not set",
            where=key,
            advice="name a registry path, like registry.example.com/team",
        )
    reference = Reference.parse(f"{images}/{ABSENT}", where=key)
    connect(reference, config.hosts).head(reference.path, ABSENT)
    return f"{images} answers, login accepted"


def _repositories(config: Config, key: str, charts: str | tuple[str, ...]) -> str:
    """Every chart repository can be published into and answers, asked for a chart that does not
    exist.
    """
    urls = as_tuple(charts) if charts else ()
    if not urls:
        raise ConfigurationError(
            "the key is not set",
            where=key,
            advice="name a repository, like oci://registry.example.com/charts",
        )
    for url in urls:
        open_writable(url, config.hosts).find(ABSENT, "0.0.0")
    return f"{', '.join(urls)} answers"


Probe = Callable[["Config | None"], str]
#: Name as in `Step.doctor_needs` → its probe.
PROBES: dict[str, Probe] = {
    "source program": source_program,
    "source": source,
    "state folder": state,
    "evidence store": evidence,
    "review system": review_system,
    "review verdict": review_verdict,
    "review approvals": review_approvals,
    "review merge": review_merge,
    "review release": review_release,
    "helm": helm,
    "engine": engine,
    "buildx": buildx,
    "snapshot images": snapshot_images,
    "snapshot charts": snapshot_charts,
    "cluster": cluster,
    "production images": production_images,
    "production charts": production_charts,
}
#: Steps work without these.
OPTIONAL = frozenset({"buildx"})
#: Probes that work without a pipeline.yaml.
WITHOUT_CONFIGURATION = ("source program", "helm", "engine", "buildx")
#: What every step needs besides its own `doctor_needs`.
NEEDED_BY_ALL_STEPS = ("source program", "source", "state folder", "evidence store")
