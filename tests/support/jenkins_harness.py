"""Run a Jenkinsfile, without Jenkins: Groovy 2.4, groovy-cps, and steps that really do what they are named for.

    build = run_jenkinsfile(
        ROOT / "Jenkinsfile.example",
        tmp_path / "jenkins",
        job="reviews/charts",
        environment={**base, **patch_set(1234, 2, revision, url=gerrit_url)},
        credentials={"gerrit-reviews": Login("ci", token), "site-reviews": site_file},
        url=f"{gerrit_url}/a/charts",
        login="gerrit-reviews",
    )
    assert build.result == "SUCCESS", build.log

Programs come from PATH in `environment`: put this checkout's .venv/bin there. The image that a pipeline asks for is
noted (`build.steps`) and not started: this machine stands for it. A double of Jenkins, made from its documentation and
source; jenkins/harness.groovy says what it does.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools.programs import programs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "jenkins"
GROOVY = Path("/usr/share/groovy/lib")
GUAVA = Path("/usr/share/java/guava.jar")
#: How git asks for a login, which the checkout has in two variables.
ASKPASS = """#!/bin/sh
case "$1" in Username*) echo "$ASKPASS_USR";; *) echo "$ASKPASS_PSW";; esac
"""


class Login(NamedTuple):
    """Credentials of the kind user name with password."""

    username: str
    password: str


class JenkinsBuild(NamedTuple):
    """result: SUCCESS, UNSTABLE, FAILURE. steps: {"step", "arguments"} of every step that ran, in
    order. archive: the folder with what was archived. reports: the JUnit files that were read.
    """

    result: str
    error: str
    log: str
    steps: list[dict[str, Any]]
    archive: Path
    reports: list[str]

    def calls(self, step: str) -> list[list[str]]:
        """The arguments of each call of a step."""
        return [each["arguments"] for each in self.steps if each["step"] == step]


def groovy(script: str, *arguments: str | Path, timeout: float = 600) -> tuple[int, str]:
    """Exit code and output of a script in jenkins/."""
    jars = [programs.get("groovy-cps") / "groovy-cps.jar", GUAVA, GROOVY / "*"]
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"]
    command = ["java", *options, "-cp", ":".join(map(str, jars)), "groovy.ui.GroovyMain"]
    completed = subprocess.run(
        [*command, str(SOURCES / script), *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", timeout=timeout,
    )  # fmt: skip
    return completed.returncode, completed.stdout


def run_jenkinsfile(
    jenkinsfile: Path,
    folder: Path,
    *,
    job: str,
    environment: Mapping[str, str],
    credentials: Mapping[str, Login | Path | str],
    url: str,
    login: str = "",
    branch: str = "main",
    subversion: bool = False,
    library: Path | None = ROOT / "vars",
    timeout: float = 600,
) -> JenkinsBuild:
    """Run a build of the job in `folder`, which gets its workspaces, archive and stashes.

    Args:
        job: the full name of the job, folders included.
        environment: all variables of the build but those of a step; PATH and HOME included.
        credentials: id → a login, a secret file or a secret text.
        url, login, branch: the repository that Jenkins reads the Jenkinsfile from, the id of its
            credentials, and the branch.
        subversion: url is that of a branch there, without a login.
        library: folder of the shared library's vars.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remote = {"url": url, "credentialsId": login or None}
    scm: dict[str, Any] = {"branches": [{"name": branch}], "userRemoteConfigs": [remote]}
    if subversion:
        scm = {"$class": "SubversionSCM", "locations": [{"remote": url}]}
    # Written before any shard runs: Linux executes no file that another thread has open for writing.
    askpass = folder / "askpass.sh"
    askpass.write_text(ASKPASS)
    askpass.chmod(0o755)
    request = folder / "request.json"
    request.write_text(
        json.dumps(
            {
                "jenkinsfile": str(jenkinsfile),
                "library": str(library) if library else None,
                "folder": str(folder),
                "askpass": str(askpass),
                "environment": {"JOB_NAME": job, **environment},
                "credentials": {name: _credential(value) for name, value in credentials.items()},
                "scm": scm,
                "approver": "release-manager",
            }
        )
    )
    _, log = groovy("harness.groovy", request, timeout=timeout)
    file = folder / "result.json"
    assert file.exists(), f"the harness itself failed:\n{log}"
    result = json.loads(file.read_text())
    return JenkinsBuild(
        result["result"],
        result["error"],
        log,
        result["steps"],
        folder / "archive",
        result["reports"],
    )


def _credential(value: Login | Path | str) -> dict[str, str]:
    if isinstance(value, Login):
        return {"username": value.username, "password": value.password}
    return {"file": str(value)} if isinstance(value, Path) else {"text": value}


def jenkins_variables(job: str, number: int = 1) -> dict[str, str]:
    """What Jenkins itself sets for a build."""
    page = "/".join(f"job/{part}" for part in job.split("/"))
    return {
        "CI": "true",
        "JENKINS_URL": "https://ci.example.com/",
        "BUILD_NUMBER": str(number),
        "BUILD_URL": f"https://ci.example.com/{page}/{number}/",
        "BUILD_TAG": f"jenkins-{job.replace('/', '-')}-{number}",
    }


def patch_set(
    change: int,
    number: int,
    revision: str,
    *,
    url: str,
    project: str = "charts",
    branch: str = "main",
) -> dict[str, str]:
    """What the Gerrit Trigger plugin sets for a patch set; url: of Gerrit, without a last slash."""
    return {
        "GERRIT_EVENT_TYPE": "patchset-created",
        "GERRIT_PROJECT": project,
        "GERRIT_BRANCH": branch,
        "GERRIT_CHANGE_NUMBER": str(change),
        "GERRIT_CHANGE_URL": f"{url}/c/{project}/+/{change}",
        "GERRIT_PATCHSET_NUMBER": str(number),
        "GERRIT_PATCHSET_REVISION": revision,
        "GERRIT_REFSPEC": f"refs/changes/{change % 100:02}/{change}/{number}",
    }


def change_merged(
    change: int, number: int, revision: str, merged: str, *, url: str, project: str = "charts",
    branch: str = "main",
) -> dict[str, str]:  # fmt: skip
    """The same for a change that was submitted; merged: the branch's revision after that."""
    variables = patch_set(change, number, revision, url=url, project=project, branch=branch)
    return {**variables, "GERRIT_EVENT_TYPE": "change-merged", "GERRIT_NEWREV": merged}


def ref_updated(ref: str, revision: str, *, project: str = "charts") -> dict[str, str]:
    """The same for a tag or branch; revision: the tag object of an annotated tag."""
    return {
        "GERRIT_EVENT_TYPE": "ref-updated",
        "GERRIT_PROJECT": project,
        "GERRIT_REFNAME": ref,
        "GERRIT_OLDREV": "0" * 40,
        "GERRIT_NEWREV": revision,
    }
