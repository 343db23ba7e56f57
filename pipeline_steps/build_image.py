"""Build and push the images of the selected charts, each once for its inputs; resolve the existing ones.

    python -m pipeline_steps.build_image
    pipeline-steps build_image --chart hello
    pipeline-steps build_image --pull            # resolve base images again

Reads Dockerfile and context as the builder sees them (.dockerignore), args, target, platforms, and the digests of
the base images, which are resolved once for an image's content. Writes a record with the image's digest. Changes
outside: `channels.snapshot.images`/NAME:k-<12 hex of the key>, unless an image is there already: the first counts,
but in the build of a tag only with a record; without one an image of its own is built beside it, k-<12 hex>-<8 hex>.
"""

from __future__ import annotations

import logging
import os

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import recipe
from pipeline_steps.ci.build import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.images.builder import Built
from pipeline_steps.images.builders import builder
from pipeline_steps.images.existing import resolve
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.state.attempt import attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import Conflict, MachineError
from pipeline_steps.workspace.checkout import Checkout, opened

STEP = Step(
    "build_image",
    __doc__,
    kind="making",
    subjects="images",
    keywords=("plan", "again", "timeout"),
    options=(Option("pull", "flag", "resolve base images and existing images again"),),
    needs=("engine", "buildx", "snapshot images"),
    writes=("image",),
)

log = logging.getLogger("pipeline_steps.build_image")  # __name__ is __main__ under -m


def build_image(
    image: str,
    *,
    config: Config,
    state: State,
    plan: bool = False,
    again: bool = False,
    pull: bool = False,
    timeout: float | None = None,
) -> Record | tuple[Record, ...]:
    """Make sure that `image` is in the snapshot channel, and record its digest; the former record when that holds.

    pull: resolve base images and `existing` again. timeout: seconds for the build. Returns () when only planned.
    Raises ChartFailed (the build), MachineError (engine), AccessRefused, Unreachable, ConfigurationError.
    """
    checkout = opened(config)
    if checkout.image_entry(image).context is None:
        return _existing(image, checkout, state, plan=plan, again=again, pull=pull)
    it = recipe.read(checkout, image)
    former = state.find(step="build_image", subject=image, content=it.content)
    bases = (None if pull else recipe.former_bases(it, former)) or _resolved(it, config)
    image_key = it.key(bases)
    target = recipe.target(config, image, image_key)
    registry = connect(target, config.hosts)
    key = make_key("build_image", recipe.FORMAT, parameters={"image": image_key}, content=it.content, consumed=bases)
    verdict = state.verdict(key)
    if verdict and verdict.passed and not again and _stands(registry, target, verdict.outputs["image"]):
        return verdict
    there = registry.head(target.path, target.name)
    if there and detect(os.environ).tag and not any(there.digest in record.outputs["image"] for record in former):
        # No record that a release believes names this image, and whoever may write the channel may have put it there.
        log.info("%s: is an image without a record that counts here; building one for this release", target)
        target, there = target._replace(tag=f"{target.tag}-{os.urandom(4).hex()}"), None
    builds = builder(os.environ)
    builds.check(it.dockerfile, it.entry.platforms, it.entry.secrets)
    if plan:
        log.info("%s: would %s", image, f"take {there.digest} at {target}" if there else f"build and push {target}")
        return ()
    parameters = {"builder": it.kind, "key": image_key, "source_ignored": list(it.context.source_ignored)}
    with attempt(
        state, step="build_image", subject=image, key=key, content=it.content, revision=checkout.revision,
        parameters=parameters, inputs=bases, supersedes=[record.id for record in former],
    ) as trial:  # fmt: skip
        if there and not again:
            trial.parameters["taken"] = True
            return trial.passed({"image": _output(target, there.digest)})
        request = it.request(target, bases, config, timeout)
        trial.begin({"image": str(target)})
        built = builds.build(request._replace(already=lambda: _digest(registry, target), fresh=again))
        trial.tools.update(built.tools)
        digest = _named(registry, target, built)
        trial.parameters.update(taken=digest != built.digest, reproducible=built.reproducible)
        return trial.passed({"image": _output(target, digest)})


def _existing(
    image: str, checkout: Checkout, state: State, *, plan: bool, again: bool, pull: bool
) -> Record | tuple[Record, ...]:
    """Resolve an image that is built elsewhere to its digest, once for each way it is written."""
    config, content = checkout.config, checkout.image_content(image)
    reference = recipe.existing_reference(checkout, image)
    parameters = {"builder": "existing", "reference": str(reference)}
    former = [
        record
        for record in state.find(step="build_image", subject=image, content=content)
        if record.parameters.get("reference") == str(reference)
    ]
    if former and not (again or pull):
        known = Reference.parse(former[-1].outputs["image"])
        if connect(known, config.hosts).head(known.path, str(known.digest)):
            return former[-1]
        log.warning("%s: %s is not there any more, resolving %s again", image, known, reference)
    found = resolve(reference, config.hosts, where=config.where(f"images.{image}"))
    if plan:
        log.info("%s: is %s, built elsewhere", image, found)
        return ()
    key = make_key("build_image", recipe.FORMAT, parameters=parameters, content=content, consumed={"image": found.name})
    with attempt(
        state, step="build_image", subject=image, key=key, content=content, revision=checkout.revision,
        parameters=parameters, inputs={str(reference): found.name}, supersedes=[record.id for record in former],
    ) as trial:  # fmt: skip
        return trial.passed({"image": str(found)})


def _resolved(it: recipe.Recipe, config: Config) -> dict[str, str]:
    """The digests that the base images' names stand for now."""
    where = it.dockerfile.name
    return {str(base): resolve(base, config.hosts, where=where).name for base in it.needs()}


def _named(registry: Registry, target: Reference, built: Built) -> str:
    """The digest that the target's tag names in the end: an image that was there first is taken."""
    there = _digest(registry, target)
    if there is None and not built.named:
        manifest = registry.manifest(target.path, built.digest)
        if manifest is None:
            raise MachineError(f"the builder pushed {built.digest}, which is not there", where=target.repository)
        try:
            return registry.put_manifest(target.path, target.name, manifest.body, manifest.media_type)
        except Conflict:
            there = _digest(registry, target)
    if there is None:
        raise MachineError("was pushed and is not there", where=str(target))
    return there


def _digest(registry: Registry, target: Reference) -> str | None:
    found = registry.head(target.path, target.name)
    return found.digest if found else None


def _stands(registry: Registry, target: Reference, output: str) -> bool:
    """Does the recorded name, one of the target's repository, still stand for the recorded digest?"""
    known = Reference.parse(output)
    if known.repository != target.repository or known.tag is None:
        return False
    found = registry.head(known.path, known.tag)
    return found is not None and found.digest == known.digest


def _output(target: Reference, digest: str) -> str:
    return str(target._replace(digest=digest))


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, build_image, argv)


if __name__ == "__main__":
    raise SystemExit(main())
