"""Helm 3 and 4 as a program: find it, render, lint, install, test, uninstall.

Every difference between the two is in here. The user's plugins, repositories and caches never
matter: helm gets homes of its own, which vanish with the `Helm` value. What a failed install means
is judged by `diagnosis`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_steps.toolbox import process, scratch
from pipeline_steps.toolbox.errors import ChartFailed, MachineError, Temporary, ToolMissing
from pipeline_steps.toolbox.process import Completed

#: Below this helm lacks what we stand on (--kube-version for lint, dry runs without a cluster).
OLDEST = (3, 14)
NEWEST_MAJOR = 4
VARIABLE = "PIPELINE_STEPS_HELM"
ADVICE = f"install helm 3 (3.14 or newer) or 4, or name the program in {VARIABLE}"
#: Rendering and linting are local work: a helm that needs longer hangs.
LOCAL_SECONDS = 120.0
#: Seconds to print its version, which takes it 50 ms: a machine that needs more is overloaded.
VERSION_SECONDS = 30.0
#: Bytes that helm may take: 1,000,000 values take 0.7 GB, a template that calls itself by `tpl` 6
#: GB without this.
MAX_MEMORY = 2 * 2**30
#: Helm itself watches --timeout; only a helm that does not end by itself is ended by us, this much later.
GRACE = 15.0
#: Helm refuses longer release names: Kubernetes allows 63 characters (a DNS label), and charts append
#: suffixes. https://helm.sh/docs/chart_template_guide/getting_started/ ("limited to 63 characters …
#: release names are limited to 53").
RELEASE_NAME_LIMIT = 53
#: What helm writes before the rendering of a template.
_SOURCE = re.compile(rb"^# Source: (.+)$", re.MULTILINE)


class Target(NamedTuple):
    """Where a release is: kubeconfig file and context (None: the only one in the file), namespace,
    release name.
    """

    kubeconfig: Path
    context: str | None
    namespace: str
    release: str


class Helm:
    """A helm program of a known version. `version` is like "4.3.1".

    tied: its processes are killed with ours: nobody can end them after that.
    """

    def __init__(self, program: str, version: str, *, tied: bool = False) -> None:
        self.program = program
        self._tied = tied
        self.version = version
        self.major = int(version.partition(".")[0])
        homes = scratch.Scratch("helm")
        self._homes = homes.path
        weakref.finalize(self, homes.remove)

    @classmethod
    def find(cls, *, tied: bool = False) -> Helm:
        """The helm named by PIPELINE_STEPS_HELM, else the one on PATH.

        Raises ToolMissing when there is none or it is older than 3.14, MachineError when it does
        not work.
        """
        configured = os.environ.get(VARIABLE)
        program = configured or process.require("helm", advice=ADVICE)
        return cls(program, _version(program), tied=tied)

    def template(
        self,
        chart: Path,
        *,
        values: Sequence[Path] = (),
        release: str = "release-name",
        namespace: str = "default",
        kube_version: str = "",
        args: Sequence[str] = (),
    ) -> str:
        """All manifests that `chart` (folder or .tgz) renders to without a cluster, hooks and tests
        among them.

        Raises ChartFailed with helm's words, which name template and line.
        """
        version = ("--kube-version", kube_version) if kube_version else ()
        completed = self._run(
            "template", "--namespace", namespace, *version, *_values(values), *args, "--", release, str(chart),
            timeout=LOCAL_SECONDS,
        )  # fmt: skip
        if not completed.ok:
            described = _values_description(values)
            raise ChartFailed(
                f"helm {self.version} cannot render {described}: {error_text(completed)}",
                where=str(chart),
                advice="correct the template or value that helm names",
            )
        try:
            return completed.stdout.decode()
        except UnicodeDecodeError as error:
            template = _SOURCE.findall(completed.stdout[: error.start])[-1:]
            of_template = f" in {template[0].decode(errors='replace')}" if template else ""
            raise ChartFailed(
                f"helm {self.version} renders{of_template} what is not UTF-8: {error.reason}",
                where=str(chart),
                advice="save the template, or the file that it includes, as UTF-8",
            ) from error

    def lint(
        self,
        folder: Path,
        *,
        values: Sequence[Path] = (),
        kube_version: str = "",
        args: Sequence[str] = (),
    ) -> Completed:
        """`helm lint --strict` of a chart folder; the caller judges code and output."""
        version = ("--kube-version", kube_version) if kube_version else ()
        return self._run(
            "lint",
            "--strict",
            *version,
            *_values(values),
            *args,
            "--",
            str(folder),
            timeout=LOCAL_SECONDS,
        )

    def install(
        self,
        chart: Path,
        target: Target,
        *,
        values: Sequence[Path] = (),
        timeout: float,
        args: Sequence[str] = (),
        give_up: Callable[[], bool] | None = None,
    ) -> Completed:
        """Install and wait until all is ready, jobs included. stdout is the release as JSON.

        timeout: seconds for helm's waits; helm is ended when it hangs on after them. give_up: asked
        about once a second whether helm waits in vain; it is ended then.
        """
        # Helm 4 takes a bare --wait for its watcher, which needs the right to list and watch; helm
        # 3 polls. Both mean: until all is ready.
        return self._on(
            target, "install", ("--wait", "--wait-for-jobs", "--output", "json", *_values(values), *args),
            (target.release, str(chart)), timeout, give_up,
        )  # fmt: skip

    def put(
        self,
        verb: Literal["install", "upgrade"],
        chart: Path,
        target: Target,
        *,
        values: Sequence[Path],
        timeout: float,
        labels: Mapping[str, str],
        description: str,
        replace: bool = False,
        give_up: Callable[[], bool] | None = None,
    ) -> Completed:
        """Install or upgrade a release that stays, and wait as `install` does.

        labels: of the release, from its first moment on; an upgrade keeps those of the revision
        before, a rollback takes over those of the revision that it goes back to. description: for
        `helm history`, once it is deployed. replace: the name of an uninstalled release whose
        history was kept.
        """
        options = (
            "--wait", "--wait-for-jobs", "--output", "json",
            "--labels", ",".join(f"{name}={value}" for name, value in labels.items()),
            "--description", description,
            # Without values of its own an upgrade takes those of the revision before.
            *(("--reset-values",) if verb == "upgrade" else ()),
            *(("--replace",) if replace else ()),
            *_values(values),
        )  # fmt: skip
        return self._on(target, verb, options, (target.release, str(chart)), timeout, give_up)

    def rollback(
        self,
        target: Target,
        revision: int,
        *,
        wait: bool,
        timeout: float,
        give_up: Callable[[], bool] | None = None,
    ) -> Completed:
        """Make a new revision of a release that is like an earlier one, from whatever state it is in.

        wait: until all is ready, jobs included.
        """
        options = ("--wait", "--wait-for-jobs") if wait else ()
        return self._on(
            target, "rollback", options, (target.release, str(revision)), timeout, give_up
        )

    def dry_run(
        self,
        verb: Literal["install", "upgrade"],
        chart: Path,
        target: Target,
        *,
        values: Sequence[Path] = (),
        timeout: float,
        args: Sequence[str] = (),
    ) -> Completed:
        """Render on the server, where `lookup` and capabilities say what is there; nothing is
        changed.

        stdout is the release as JSON, of which `manifests` gives the documents. CRDs of the chart
        have to be there.
        """
        # The server's OpenAPI document says nothing about what a chart renders to, and takes helm
        # longer than all the rest; the install asks for it.
        validation = "--disable-openapi-validation"
        options = ("--dry-run=server", validation, "--output", "json", *_values(values), *args)
        return self._on(target, verb, options, (target.release, str(chart)), timeout)

    def has_crds(self, chart: Path) -> bool:
        """Does the chart, or one in it, bring CustomResourceDefinitions in a crds folder?"""
        completed = self._run("show", "crds", "--", str(chart), timeout=LOCAL_SECONDS)
        if not completed.ok:
            raise ChartFailed(
                f"helm {self.version} cannot read the chart: {error_text(completed)}",
                where=str(chart),
                advice="correct what helm names; helm lint says more",
            )
        return bool(completed.stdout.strip())

    def test(
        self, target: Target, *, timeout: float, give_up: Callable[[], bool] | None = None
    ) -> Completed:
        """Run the chart's test hooks.

        Their logs are not asked of helm: helm 3 deletes pods before it reads them and fails on
        hooks that are jobs (helm/helm#9098, #9264), helm 4 leaves jobs out; `watch` keeps the logs
        of both.
        """
        return self._on(target, "test", (), (target.release,), timeout, give_up)

    def uninstall(self, target: Target, *, timeout: float, wait: bool = False) -> Completed:
        """Remove the release with what it made outside the namespace too; absent is success.

        wait: until all of it is gone.
        """
        options = ("--ignore-not-found", *(("--wait",) if wait else ()))
        return self._on(target, "uninstall", options, (target.release,), timeout)

    def _on(
        self,
        target: Target,
        verb: str,
        options: Sequence[str],
        positional: Sequence[str],
        timeout: float,
        give_up: Callable[[], bool] | None = None,
    ) -> Completed:
        context = ("--kube-context", target.context) if target.context else ()
        return self._run(
            verb, "--kubeconfig", str(target.kubeconfig), *context, "--namespace", target.namespace,
            "--timeout", f"{max(1, round(timeout))}s", *options, "--", *positional,
            timeout=timeout + GRACE, give_up=give_up,
        )  # fmt: skip

    def _run(
        self, *arguments: str, timeout: float, give_up: Callable[[], bool] | None = None
    ) -> Completed:
        homes = {
            f"HELM_{name}_HOME": f"{self._homes}/{name}" for name in ("CACHE", "CONFIG", "DATA")
        }
        # A user's KUBECONFIG must not decide anything: the cluster is always given by option.
        no_kubeconfig = {"KUBECONFIG": os.devnull}
        # Set from outside, after the start: subprocess's preexec_fn is not safe where there are
        # threads. RLIMIT_DATA, because Go reserves far more address space (RLIMIT_AS) than it uses.
        with process.start_process(
            [self.program, *arguments],
            env={**homes, **no_kubeconfig},
            advice=ADVICE,
            tied=self._tied,
        ) as child:
            # OSError: it has ended. ValueError: it may not even have so much.
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(child.child.pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
            return child.completed(timeout=timeout, give_up=give_up)


@functools.cache
def _version(program: str) -> str:
    """The version of a helm program, which is asked once by a process that runs several steps."""
    answer = process.run(
        [program, "version", "--template", "{{.Version}}"], timeout=VERSION_SECONDS, advice=ADVICE
    )
    if answer.code is None:
        raise Temporary(
            f"{program} did not say its version within {VERSION_SECONDS:g} s",
            advice="run it again when this machine is less busy",
        )
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout.decode(errors="replace"))
    if not answer.ok or numbers is None:
        raise MachineError(f"{program} does not say its version: {answer.tail(3)}", advice=ADVICE)
    version = ".".join(numbers.groups())
    if (int(numbers[1]), int(numbers[2])) < OLDEST or int(numbers[1]) > NEWEST_MAJOR:
        raise ToolMissing(
            f"{program} is helm {version}; supported are 3.14 and newer, and 4", advice=ADVICE
        )
    return version


def manifests(completed: Completed) -> str:
    """What a release in helm's JSON consists of, hooks last, as `helm template` prints it."""
    return release_manifests(json.loads(completed.stdout))


def release_manifests(release: Mapping[str, Any]) -> str:
    """The same of a release as helm prints or stores it."""
    hooks = release.get("hooks") or ()
    # The manifest has these comments already, hooks have not.
    parts = [f"---\n# Source: {hook['path']}\n{hook['manifest']}\n" for hook in hooks]
    return "".join([f"{release.get('manifest') or ''}\n", *parts])


def error_text(completed: Completed) -> str:
    """The last error that helm printed, without prefix; or that it hung or crashed."""
    if completed.code is None:
        return "helm did not end and was stopped"
    # Pages of goroutines follow such a line: the end of the output says nothing.
    # Go ends so; and with a signal's name where it could not even start a thread.
    broken = re.search(
        rb"^(?:fatal error|panic|runtime/cgo|SIG[A-Z]+): (.*)$", completed.stderr, re.MULTILINE
    )
    if broken:
        cause = broken[1].decode(errors="replace")
        return (
            f"helm broke down ({cause}): a template that calls itself without end, or values "
            "too large, does that"
        )
    lines = [line for line in completed.tail(40).splitlines() if line.strip()]
    # Warnings come on stderr too (helm 4: "level=WARN …"), before and between; an error may have
    # several lines.
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    error_lines = lines[errors[-1] :] if errors else lines[-3:]
    return (
        "\n".join(error_lines).removeprefix("Error: ")
        or f"exit code {completed.code} without a word"
    )


def _values(values: Sequence[Path]) -> tuple[str, ...]:
    # --values splits at commas: a file called "a,b.yaml" needs CSV quoting.
    return tuple(part for path in values for part in ("--values", csv_field(str(path))))


def csv_field(text: str) -> str:
    """A file name as --values takes it: quoted where it would be split."""
    return '"{}"'.format(text.replace('"', '""')) if re.search(r'[,"]', text) else text


def _values_description(values: Sequence[Path]) -> str:
    return (
        f"with {', '.join(path.name for path in values)}" if values else "with its default values"
    )
