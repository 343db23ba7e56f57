"""What it costs to release only what was tested: the export of a context, rendering twice, and
`verify` down to layers, each against what a user would run.

python -m benchmarks.trust      # these rows alone; needs an engine, no node
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.rows import Row, alone, alternately
from pipeline_steps.building import build_definition
from pipeline_steps.config.config_file import load
from pipeline_steps.images.context import write_folder
from pipeline_steps.workspace import checkout
from tests.support import busybox
from tests.support.gits import Repo
from tests.support.registries import registry
from tests.support.release_line import PIPELINE, Line

ROUNDS = 7
FILES, LARGE = 2000, 256 * 2**20


def rows(folder: Path) -> list[Row]:
    return [*exports(folder / "export"), *checks(folder / "checks")]


def exports(folder: Path) -> list[Row]:
    """The context of an image out of the source, and the memory that a large generated file takes."""
    folder.mkdir()
    repo = Repo(folder / "source", folder / "gitconfig")
    repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*, images: {app: {image: '{reference}'}}}]\n"
        "images: {app: {context: app}}\nchannels: {snapshot: {images: r.example.com/x}}\n",
    )
    repo.put("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    repo.put("app/Dockerfile", "FROM scratch\nCOPY . /\n")
    for number in range(FILES):
        repo.put(f"app/src/{number % 50}/{number}.txt", f"{number}\n" * 500)
    repo.commit()
    counter = itertools.count()

    def ours() -> None:
        with checkout.share_checkouts():
            context = build_definition.read_build_definition(
                checkout.open_checkout(load((), environ={}, start=repo.root)), "app"
            ).context
            target = folder / f"ours{next(counter)}"
            target.mkdir()
            write_folder(context, target, epoch=0)

    def theirs() -> None:
        target = folder / f"theirs{next(counter)}"
        target.mkdir()
        archive = ["git", "archive", f"--output={target}.tar", "HEAD", "app"]
        subprocess.run(archive, cwd=repo.root, check=True)
        subprocess.run(["tar", "-xf", f"{target}.tar", "-C", str(target)], check=True)

    return [
        Row(f"context of {FILES} files / git archive", *alternately(ours, theirs, ROUNDS), 4.0),
        large_file(folder),
    ]


def large_file(folder: Path) -> Row:
    """Peak memory of a process that hashes and exports one large file, against Python's tarfile."""
    (folder / "in").mkdir()
    with (folder / "in/app.jar").open("wb") as file:
        file.truncate(LARGE)
    ours = (
        "from pathlib import Path\n"
        "from pipeline_steps.images.context import *\n"
        "folder = Path(sys.argv[1]); jar = folder / 'in/app.jar'\n"
        "inputs = (Input('app.jar', 'executable', generated_digest(jar)),)\n"
        "(folder / 'out').mkdir()\n"
        "write_folder(Context(inputs, None, generated={'app.jar': jar}), folder / 'out', epoch=0)\n"
    )
    theirs = "import tarfile\ntarfile.open(f'{sys.argv[1]}/x.tar', 'w').add(f'{sys.argv[1]}/in')\n"
    name = f"context of {LARGE >> 20} MiB, memory / tarfile"
    return Row(name, _peak(ours, folder), _peak(theirs, folder), 4.0, "MiB")


def _peak(script: str, folder: Path) -> float:
    """Peak memory in MiB of a Python process that runs a script on a folder."""
    # Not ru_maxrss: it begins with what the parent had when it forked.
    measure = (
        "\nfrom pathlib import Path\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}{measure}", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) / 1024


def checks(folder: Path) -> list[Row]:
    """`check`, which renders twice, and `verify`, of a chart with an image in a registry."""
    folder.mkdir()
    with registry(folder / "registry") as running:
        busybox.push(running.host)
        line = Line(folder, f"oci://{running.host}")
        pipeline = PIPELINE.format(base=line.base, more=f", images: {running.host}/production")
        mapping = "images: {app: {image.repository: '{repository}'}}\n    tests:"
        line.repo.put(
            "pipeline.yaml",
            pipeline.replace("tests:", mapping)
            + f"images: {{app: {{existing: '{running.host}/web:k-1'}}}}\n",
        )
        line.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
        line.repo.commit()
        line.ok("build_image", "--chart", "common")
        line.tested()
        line.ok("tag_release", "--local", "--chart", "common")
        line.ok("promote", "--chart", "common")
        outputs = line.records("promote")[-1]["outputs"]
        run = partial(_run, line)
        chart = f"oci://{running.host}/charts/common"
        away = itertools.count()

        def lint_and_render() -> None:
            run("helm", "lint", "--strict", "charts/common")
            run("helm", "template", "charts/common")

        def pull_and_validate() -> None:
            target = str(folder / f"pulled{next(away)}")
            run(
                "helm", "pull", chart, "--version", "1.0.0", "--plain-http", "-d", target, "--untar"
            )
            run("crane", "validate", "--insecure", "--remote", outputs["image:app"])

        check = partial(line.ok, "check", "--chart", "common")
        verify = partial(line.ok, "verify", outputs["chart"])
        return [
            Row("check / helm lint + template", *alternately(check, lint_and_render, ROUNDS), 6.0),
            Row(
                "verify / helm pull + crane validate",
                *alternately(verify, pull_and_validate, ROUNDS),
                6.0,
            ),
        ]


def _run(line: Line, *argv: str) -> None:
    subprocess.run(
        argv,
        cwd=line.repo.root,
        env={**os.environ, **line.environment()},
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    raise SystemExit(alone(rows))
