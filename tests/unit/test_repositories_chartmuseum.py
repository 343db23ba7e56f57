"""ChartMuseum's own traps, against its double: what lags, what is left behind, whose words count as
absent.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.repositories.chartmuseum import ChartmuseumRepository
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from tests.support.chartmuseum import Museum, chartmuseum
from tests.support.charts import packed, signed
from tests.support.scripted import Answer, Request, scripted


@pytest.fixture
def museum() -> Iterator[Museum]:
    with chartmuseum() as running:
        yield running


def opened(museum: Museum, budget: float = 5) -> ChartmuseumRepository:
    return ChartmuseumRepository(museum.url, {}, timeout=5, budget=budget)


def asked(museum: Museum, method: str = "POST") -> list[str]:
    return [request.path for request in museum.requests if request.method == method]


def test_one_request_brings_chart_and_provenance(museum: Museum) -> None:
    chart = packed()
    opened(museum).publish(chart, signed(chart))
    assert asked(museum) == ["/api/charts"], "never with ?force"
    assert museum.files == {"hello-1.0.0.tgz": chart.tgz, "hello-1.0.0.tgz.prov": signed(chart)}


def test_tenants_are_paths(museum: Museum) -> None:
    museum.depth = 2
    chart = packed()
    repository = open_writable(f"{museum.url}/team/stable", {})
    published = repository.publish(chart)
    assert list(museum.files) == ["team/stable/hello-1.0.0.tgz"]
    assert published.reference.startswith(
        f"{museum.url}/team/stable/charts/hello-1.0.0.tgz@sha256:"
    )
    assert open_repository(f"{museum.url}/team/other", {}).find("hello", "1.0.0") is None
    with pytest.raises(MachineError, match="ChartMuseum serves nothing there"):
        open_repository(museum.url, {}).find("hello", "1.0.0")


def test_a_context_path_is_found(museum: Museum) -> None:
    museum.depth, museum.context = 1, "/museum"
    published = open_writable(f"{museum.url}/museum/stable", {}).publish(packed())
    assert list(museum.files) == ["stable/hello-1.0.0.tgz"]
    assert published.reference.startswith(
        f"{museum.url}/museum/stable/charts/hello-1.0.0.tgz@sha256:"
    )
    assert asked(museum) == ["/museum/api/stable/charts"]


def test_version_in_storage_but_not_in_the_index_is_found(museum: Museum) -> None:
    museum.lag = 4
    repository, chart = opened(museum), packed()
    published = repository.publish(chart)
    assert museum._hidden == 0, "publishing waited until the index showed it"
    museum._hidden = 9
    assert repository.find("hello", "1.0.0") == published
    assert repository.resolve("hello", "1.0.0") == published.reference
    with pytest.raises(Conflict):
        repository.publish(packed(more="description: other\n"))


def test_a_version_is_no_range(museum: Museum) -> None:
    """Asked for 1.0.0 it answers with 1.0.0+b, as helm would resolve it."""
    repository = opened(museum)
    repository.publish(packed(version="1.0.0+b"))
    assert (
        repository.resolve("hello", "1.0.0") is None and repository.find("hello", "1.0.0") is None
    )
    assert repository.resolve("hello", "1.0.0+b") is not None


def test_publish_raises_temporary_when_the_index_never_shows_it(museum: Museum) -> None:
    museum.lag = 10**6
    with pytest.raises(Temporary, match=r"hello-1\.0\.0\.tgz is there, but not in the index"):
        opened(museum, budget=0.2).publish(packed())
    museum._hidden = 0
    assert opened(museum).publish(packed()).tar_digest == packed().tar_digest


def test_an_archive_that_only_the_index_has_is_given_back_with_the_very_bytes(
    museum: Museum,
) -> None:
    """Its file server says "object not found" to every failure of its storage, and would overwrite
    then: other bytes are never published.
    """
    repository = opened(museum)
    published = repository.publish(packed())
    lost = museum.files.pop("hello-1.0.0.tgz")
    with pytest.raises(EvidenceError, match="the index names this archive, which is missing"):
        repository.publish(packed(more="description: of other bytes\n"))
    with pytest.raises(EvidenceError, match="the index names this archive, which is missing"):
        repository.find("hello", "1.0.0")
    assert len(asked(museum)) == 1
    assert repository.publish(packed()) == published
    assert museum.files["hello-1.0.0.tgz"] == lost and len(asked(museum)) == 2


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((404, {}, b"<html>not found</html>"), MachineError, "answered 404 to [A-Z]+: <html>"),
        ((404, {}, b'{"error": "not found"}'), MachineError, "ChartMuseum serves nothing there"),
        ((404, {}, b'{"message": "no such host"}'), MachineError, "answered 404"),
        ((200, {}, b"<html>please log in</html>"), MachineError, "the answer is not ChartMuseum's"),
        ((200, {}, b'["hello"]'), MachineError, "the answer is not ChartMuseum's"),
        ((401, {}, b""), AccessRefused, "answered 401"),
        ((403, {}, b""), AccessRefused, "answered 403"),
        ((503, {}, b""), Temporary, "answered 503"),
    ],
)
def test_only_chartmuseums_own_404_means_absent(
    museum: Museum, answer: Answer, error: type[Exception], words: str
) -> None:
    museum.fault = lambda request: answer
    repository = opened(museum, budget=0.1)
    for work in (
        lambda: repository.find("hello", "1.0.0"),
        lambda: repository.resolve("hello", "1.0.0"),
        lambda: repository.versions("hello"),
        lambda: repository.publish(packed()),
    ):
        with pytest.raises(error, match=words):
            work()
    assert not museum.files


def test_an_upload_whose_answer_is_lost_is_read_back(museum: Museum) -> None:
    def lose(request: Request) -> Answer | None:
        if request.method == "POST" and not museum.files:
            museum.fault = lambda _: None
            assert museum.answer(request)[0] == 201
            return 503, {"Retry-After": "0"}, b""
        return None

    museum.fault = lose
    opened(museum).publish(packed())
    assert len(asked(museum)) == 2, "the second one was told 409, and what stands there is ours"


LATER = {"Retry-After": "0"}
#: What is answered instead; those who call `work` let the server do it all the same.
FAULTS: dict[str, Callable[[Callable[[], Answer]], Answer]] = {
    "busy": lambda _: (503, LATER, b""),
    "too often": lambda _: (429, LATER, b""),
    "done, and no word of it": lambda work: (500, {**LATER, "X-Done": str(work()[0])}, b""),
    "cut": lambda work: (work()[0], {"Content-Length": "99999"}, b"{"),
    "refused": lambda _: (401, {}, b'{"error":"unauthorized"}'),
    "no such page": lambda _: (404, {}, b"<html>"),
    "a page": lambda _: (200, {}, b"<html>"),
    "empty": lambda _: (200, {}, b""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_publishing_broken_at_every_request(museum: Museum, fault: str) -> None:
    """One fault at each request in turn: published or a named error, and as if nothing had been the
    next time.
    """
    chart, signature = packed(), signed(packed())
    for number in itertools.count():
        museum.files.clear()
        museum.index.clear()
        count = itertools.count()

        def break_it(
            request: Request, at: int = number, count: Iterator[int] = count
        ) -> Answer | None:
            return FAULTS[fault](lambda: museum._route(request)) if next(count) == at else None

        museum.fault = break_it
        with contextlib.suppress(PipelineError):
            published = opened(museum, budget=0.3).publish(chart, signature)
            assert published.tar_digest == chart.tar_digest
        museum.fault = lambda _: None
        assert set(museum.files) <= {chart.file_name, f"{chart.file_name}.prov"}
        again = opened(museum).publish(chart, signature)
        assert (again.archive.tgz, opened(museum).provenance(again)) == (chart.tgz, signature)
        assert len(museum.files) == 2
        if next(count) <= number:
            break
    assert number >= 6, "the requests of one publication"


def test_second_publisher_gets_a_conflict(museum: Museum) -> None:
    """Both looked when nothing was there; the server takes the second one, too."""
    mine, other = packed(), packed(more="description: other\n")

    def race(request: Request) -> Answer | None:
        if request.method == "POST":
            museum.fault = lambda _: None
            museum.answer(request)
            museum.files.clear()
            museum.files[other.file_name] = other.tgz
            return 201, {}, b'{"saved":true}'
        return None

    museum.fault = race
    with pytest.raises(Conflict) as raised:
        opened(museum).publish(mine)
    assert other.tar_digest in str(raised.value) and mine.tar_digest in str(raised.value)


def test_a_provenance_left_without_its_chart_is_completed(museum: Museum) -> None:
    """The server stores the two one after the other, in any order; dying in between it refuses both
    for ever.
    """
    chart = packed()
    museum.files["hello-1.0.0.tgz.prov"] = left = signed(chart, by="a signature of another second")
    published = opened(museum).publish(chart, signed(chart))
    assert opened(museum).provenance(published) == left
    assert museum.files["hello-1.0.0.tgz"] == chart.tgz


def test_a_provenance_left_of_another_chart_is_refused(museum: Museum) -> None:
    museum.files["hello-1.0.0.tgz.prov"] = signed(packed(more="description: other\n"))
    with pytest.raises(EvidenceError, match=r"a \.prov of another archive is there, and no chart"):
        opened(museum).publish(packed(), signed(packed()))
    assert list(museum.files) == ["hello-1.0.0.tgz.prov"]


def test_a_chart_left_without_its_provenance_is_completed(museum: Museum) -> None:
    repository, chart = opened(museum), packed()
    published = repository.publish(chart)
    assert repository.provenance(published) is None
    assert repository.publish(chart, signed(chart)) == published
    assert repository.provenance(published) == signed(chart)
    assert repository.publish(chart, signed(chart, by="me again")) == published
    assert repository.provenance(published) == signed(chart), "the first one stays"


def test_errors_contain_the_servers_message(museum: Museum) -> None:
    with pytest.raises(MachineError, match=r"answered 400 to POST: .*invalid provenance file"):
        opened(museum).publish(packed(), b"no signature")
    assert not museum.files
    assert opened(museum).files() is None  # type: ignore[func-returns-value]


def test_invalid_digest_in_the_index_is_refused(museum: Museum) -> None:
    opened(museum).publish(packed())
    museum.index["hello-1.0.0.tgz"]["digest"] = "sha1:00"
    with pytest.raises(EvidenceError, match="has the digest 'sha1:00', which is no sha256"):
        opened(museum).resolve("hello", "1.0.0")


def test_index_that_differs_from_the_storage_is_an_error(museum: Museum) -> None:
    opened(museum).publish(packed())
    museum.files["hello-1.0.0.tgz"] = packed(more="description: other\n").tgz
    with pytest.raises(
        EvidenceError, match=r"the archive has the digest sha256:\w+, the index says sha256:"
    ):
        opened(museum).find("hello", "1.0.0")


def test_login_comes_from_hosts(museum: Museum) -> None:
    museum.login = ("ci", "secret")
    with pytest.raises(AccessRefused, match="unauthorized"):
        opened(museum).publish(packed())
    hosts = {museum.host: Host(username="ci", password="secret")}
    assert open_writable(museum.url, hosts).publish(packed())
    with pytest.raises(AccessRefused):
        open_repository(
            museum.url, {museum.host: Host(username="ci", password="not-this-one")}
        ).find("hello", "1.0.0")


def test_token_is_fetched_from_the_server_in_the_challenge(museum: Museum) -> None:
    """As chartmuseum/auth wants them: artifact-repository:TENANT:pull or push."""
    bought: list[str] = []

    def sell(request: Request) -> Answer:
        scope = parse_qs(urlsplit(request.path).query)["scope"][0]
        bought.append(scope)
        good = (
            request.headers.get("Authorization")
            == f"Basic {base64.b64encode(b'ci:secret').decode()}"
        )
        return (200, {}, json.dumps({"token": scope}).encode()) if good else (401, {}, b"")

    with scripted(sell) as seller:
        museum.realm = f"http://{seller.host}/token"
        hosts = {museum.host: Host(username="ci", password="secret")}
        assert open_writable(museum.url, hosts).publish(packed())
        assert bought == ["artifact-repository:repo:pull", "artifact-repository:repo:push"]


@pytest.mark.parametrize(
    "url", ["chartmuseum+https://", "chartmuseum+https://ci:pw@host", "chartmuseum+https://h/?a=b"]
)
def test_invalid_chartmuseum_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        open_repository(url, {})
    assert "pw" not in str(raised.value)
