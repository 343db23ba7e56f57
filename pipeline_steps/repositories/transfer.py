"""Many charts into one repository: in groups where it has an index, several at once where every name is its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline_steps.repositories.repository import Publication, Published, Repository, one_by_one
from pipeline_steps.toolbox.errors import PipelineError

#: Publishers at once into a registry: each waits for answers most of the time.
PUBLISHERS = 8


def publish_many(repository: Repository, publications: Iterable[Publication]) -> Iterator[Published | PipelineError]:
    """An outcome for each publication, in their order, as `Repository.publish_all` gives it."""
    if not repository.url.startswith("oci://"):
        yield from repository.publish_all(publications)
        return

    def publish(one: Publication) -> Published | PipelineError:
        return next(one_by_one(repository, [one]))

    waiting: deque[Future[Published | PipelineError]] = deque()
    with ThreadPoolExecutor(PUBLISHERS) as pool:
        for one in publications:
            waiting.append(pool.submit(publish, one))
            if len(waiting) > 2 * PUBLISHERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
