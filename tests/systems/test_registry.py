"""The registry client against Debian's docker-registry: open, with htpasswd, with tokens, over TLS."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.auth.credentials import Login
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.oci.copy import copy
from pipeline_steps.oci.manifest import OCI_INDEX, OCI_MANIFEST
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    EvidenceError,
    MachineError,
    Unreachable,
)
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.redact import redact
from tests.support.gits import Repo
from tests.support.registries import (
    Running,
    TokenServer,
    certificate,
    free_port,
    htpasswd,
    registry,
)
from tests.support.scripted import Answer, Request, scripted

ABSENT = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def other_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry(tmp_path_factory.mktemp("other")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HELM_REGISTRY_CONFIG", str(tmp_path / "helm.json"))


def to(running: Running, path: str = "x", **host: Any) -> Registry:
    return connect(Reference(running.host, path), {running.host: Host(plain_http=True, **host)})


def manifest(*layers: bytes, config: bytes = b"{}") -> bytes:
    def part(data: bytes, kind: str) -> dict[str, object]:
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": sha256(data),
            "size": len(data),
        }

    return json.dumps({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part(config, "config.v1+json"),
        "layers": [part(layer, "layer.v1.tar") for layer in layers],
    }).encode()  # fmt: skip


def push(to: Registry, path: str, *layers: bytes, tag: str = "") -> str:
    body = manifest(*layers)
    for blob in (b"{}", *layers):
        to.push_blob(path, blob, sha256(blob))
    return to.put_manifest(path, tag or sha256(body), body, OCI_MANIFEST)


def push_index(to: Registry, path: str, *digests: str, tag: str = "") -> str:
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(manifest(b""))}
        for digest in digests
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    return to.put_manifest(path, tag or sha256(body), body, OCI_INDEX)


class TestManifestsAndBlobs:
    def test_what_is_pushed_is_found_by_tag_and_by_digest(self, open_registry: Running) -> None:
        client = to(open_registry)
        digest = push(client, "team/web", b"layer", tag="1.0")
        by_tag, by_digest = client.manifest("team/web", "1.0"), client.head("team/web", digest)
        assert by_tag is not None and by_digest is not None
        assert by_tag.digest == by_digest.digest == digest == sha256(by_tag.body)
        assert by_tag.media_type == by_digest.media_type == OCI_MANIFEST
        assert client.blob("team/web", sha256(b"layer")) == b"layer"

    def test_an_absent_manifest_or_blob_is_none(self, open_registry: Running) -> None:
        client = to(open_registry)
        push(client, "team/web", b"layer", tag="1.0")
        assert client.manifest("team/web", "9.9") is None and client.head("team/web", "9.9") is None
        assert client.head("nobody/nothing", "1") is None and client.tags("nobody/nothing") == []
        assert client.blob("team/web", ABSENT) is None and not client.has_blob("team/web", ABSENT)

    def test_a_404_that_no_registry_said_is_an_error(self) -> None:
        with scripted(
            lambda _: (404, {"Content-Type": "text/html"}, b"<h1>nothing here</h1>")
        ) as web:
            client = Registry(web.host, plain_http=True)
            for ask in (client.manifest, client.head, lambda path, _: client.tags(path)):
                with pytest.raises(
                    MachineError, match=rf"http://{web.host}/v2/x/.*answered 404.*nothing here"
                ):
                    ask("x", "1")

    def test_a_large_blob_is_pushed_from_and_saved_to_a_file(
        self, open_registry: Running, tmp_path: Path
    ) -> None:
        data = b"0123456789" * 1_000_000
        (tmp_path / "layer").write_bytes(data)
        client = to(open_registry)
        client.push_blob("big", tmp_path / "layer", sha256(data))
        with (tmp_path / "back").open("w+b") as sink:
            client.save_blob("big", sha256(data), sink)
        assert (tmp_path / "back").read_bytes() == data

    def test_changed_bytes_are_not_taken(self, open_registry: Running, tmp_path: Path) -> None:
        client = to(open_registry)
        client.push_blob("bad", b"good bytes", sha256(b"good bytes"))
        hexes = sha256(b"good bytes").removeprefix("sha256:")
        stored = (
            open_registry.folder / f"data/docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"
        )
        stored.write_bytes(b"evil bytes")
        with pytest.raises(MachineError, match=f"expected sha256:{hexes}"):
            client.blob("bad", sha256(b"good bytes"))
        with (
            (tmp_path / "back").open("w+b") as sink,
            pytest.raises(MachineError, match=f"expected sha256:{hexes}"),
        ):
            client.save_blob("bad", sha256(b"good bytes"), sink)

    def test_all_pages_of_tags_are_read(
        self, open_registry: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = to(open_registry)
        for number in range(7):
            push(client, "paged", b"layer", tag=f"t{number}")
        plain = client._url
        monkeypatch.setattr(
            client, "_url", lambda path, rest: plain(path, rest.replace("n=1000", "n=2"))
        )
        assert sorted(client.tags("paged")) == [f"t{number}" for number in range(7)]

    def test_a_lost_blob_is_uploaded_again(self, open_registry: Running) -> None:
        client, body = to(open_registry), manifest(b"lost layer")
        client.push_blob("lossy", b"{}", sha256(b"{}"))
        refilled: list[str] = []

        def refill(digest: str) -> None:
            refilled.append(digest)
            client.push_blob("lossy", b"lost layer", digest)

        assert client.put_manifest("lossy", "1", body, OCI_MANIFEST, refill) == sha256(body)
        assert refilled == [sha256(b"lost layer")]

    def test_the_error_has_url_status_code_and_words(self, open_registry: Running) -> None:
        with pytest.raises(MachineError) as caught:
            to(open_registry).put_manifest("x", "1", b"no json", OCI_MANIFEST)
        for part in (f"http://{open_registry.host}/v2/x/manifests/1", "400", "MANIFEST_INVALID"):
            assert part in str(caught.value)

    def test_a_registry_that_does_not_answer_is_unreachable(self) -> None:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer"):
            connect(Reference(f"127.0.0.1:{free_port()}", "x"), {}).head("x", "1")
        with pytest.raises(Unreachable, match="host of the server is unknown"):
            connect(Reference("no-such-host.invalid", "x"), {}).head("x", "1")
        assert time.monotonic() - began < 30, "nothing is tried again"


class TestCopy:
    def test_an_index_comes_whole_and_again_is_nothing(
        self, open_registry: Running, other_registry: Running
    ) -> None:
        source, target = to(open_registry), to(other_registry)
        children = [push(source, "snap/multi", name) for name in (b"amd64", b"arm64")]
        index = push_index(source, "snap/multi", *children)
        push(source, "snap/multi", b"signature", tag=index.replace(":", "-") + ".sig")
        destination = Reference(other_registry.host, "prod/multi", "1.0")
        hosts = {
            open_registry.host: Host(plain_http=True),
            other_registry.host: Host(plain_http=True),
        }
        for _ in range(2):
            assert (
                copy(
                    Reference(open_registry.host, "snap/multi", None, index),
                    destination,
                    hosts=hosts,
                )
                == index
            )
        assert {
            target.head("prod/multi", name) is not None for name in (*children, index, "1.0")
        } == {True}
        assert target.head("prod/multi", index.replace(":", "-") + ".sig")
        assert target.blob("prod/multi", sha256(b"arm64")) == b"arm64"

    def test_within_a_registry_blobs_are_mounted(
        self, open_registry: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest = push(to(open_registry), "snap/mounted", b"some layer", tag="k-1")
        monkeypatch.setattr(Registry, "push_blob", lambda *_: pytest.fail("bytes moved"))
        destination = Reference(open_registry.host, "prod/mounted", "1.0")
        assert (
            copy(
                Reference(open_registry.host, "snap/mounted", "k-1", digest), destination, hosts={}
            )
            == digest
        )
        assert to(open_registry).blob("prod/mounted", sha256(b"some layer")) == b"some layer"

    def test_a_tag_is_never_moved(self, open_registry: Running) -> None:
        client = to(open_registry)
        theirs, ours = (
            push(client, "prod/taken", b"theirs", tag="1.0"),
            push(client, "snap/taken", b"ours"),
        )
        with pytest.raises(Conflict) as caught:
            copy(Reference(open_registry.host, "snap/taken", None, ours),
                 Reference(open_registry.host, "prod/taken", "1.0"), hosts={})  # fmt: skip
        assert (
            theirs in str(caught.value)
            and ours in str(caught.value)
            and "prod/taken:1.0" in str(caught.value)
        )
        assert caught.value.exit_code == 5
        descriptor = client.head("prod/taken", "1.0")
        assert descriptor and descriptor.digest == theirs

    def test_of_several_images_at_once_none_moves_the_tag_of_another(
        self, open_registry: Running
    ) -> None:
        client = to(open_registry)
        ours = [push(client, "snap/race", f"image {number}".encode()) for number in range(8)]
        destination = Reference(open_registry.host, "prod/race", "1.0")

        def promoted(digest: str) -> bool:
            try:
                copy(
                    Reference(open_registry.host, "snap/race", None, digest), destination, hosts={}
                )
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [
                digest for digest, done in zip(ours, pool.map(promoted, ours), strict=True) if done
            ]
        descriptor = client.head("prod/race", "1.0")
        assert ([descriptor.digest] if descriptor else []) == won

    def test_a_claim_is_taken_up_by_the_same_digest_only(self, open_registry: Running) -> None:
        client = to(open_registry)
        first, second = (push(client, "snap/claimed", data) for data in (b"first", b"second"))
        for path in ("prod/claimed", "prod/taken-up"):
            push(client, path, b"first", tag=f"claim-1.0-{first[7:19]}")  # and then it was killed
        said = rf"prod/claimed:1\.0: another publisher claims the tag 1\.0 .*{first[7:19]}"
        with pytest.raises(Conflict, match=said):
            copy(Reference(open_registry.host, "snap/claimed", None, second),
                 Reference(open_registry.host, "prod/claimed", "1.0"), hosts={})  # fmt: skip
        assert client.head("prod/claimed", "1.0") is None
        destination = Reference(open_registry.host, "prod/taken-up", "1.0")
        assert (
            copy(Reference(open_registry.host, "snap/claimed", None, first), destination, hosts={})
            == first
        )

    def test_a_tag_that_stands_is_not_claimed_again(
        self, open_registry: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, path, tag = to(open_registry), "prod/stands", "v" * 128
        digest = push(client, "snap/stands", b"image")
        for _ in range(2):
            assert copy(Reference(open_registry.host, "snap/stands", None, digest),
                        Reference(open_registry.host, path, tag), hosts={}) == digest  # fmt: skip
            monkeypatch.setattr(
                Registry, "put_manifest", lambda *_, **__: pytest.fail("written again")
            )
            monkeypatch.setattr(Registry, "tags", lambda *_: pytest.fail("listed again"))

    def test_what_is_gone_is_missing_evidence(self, open_registry: Running) -> None:
        push(to(open_registry), "snap/some", b"x")
        gone = Reference(open_registry.host, "snap/some", None, ABSENT)
        with pytest.raises(EvidenceError, match=ABSENT):
            copy(gone, Reference(open_registry.host, "prod/gone", "1"), hosts={})

    def test_referrers_are_merged_into_the_targets_fallback_tag(
        self, open_registry: Running, other_registry: Running
    ) -> None:
        source, target = to(open_registry), to(other_registry)
        image = push(source, "snap/ref", b"image")
        assert push(target, "prod/ref", b"image") == image
        fallback = image.replace(":", "-")
        ours, theirs = push(source, "snap/ref", b"sbom"), push(target, "prod/ref", b"scan")
        push_index(source, "snap/ref", ours, tag=fallback)
        push_index(target, "prod/ref", theirs, tag=fallback)
        hosts = {
            open_registry.host: Host(plain_http=True),
            other_registry.host: Host(plain_http=True),
        }
        for _ in range(2):
            copy(Reference(open_registry.host, "snap/ref", None, image),
                 Reference(other_registry.host, "prod/ref", "1"), hosts=hosts)  # fmt: skip
        merged = target.manifest("prod/ref", fallback)
        assert merged and [child.digest for child in merged.children] == [theirs, ours]
        assert target.head("prod/ref", ours)


class TestLogins:
    def test_basic_login_uses_the_password_of_hosts(self, tmp_path: Path) -> None:
        (tmp_path / "pw").write_text("hunter2-of-ci\n")
        with registry(
            tmp_path / "r", auth=htpasswd(tmp_path / "r", "ci", "hunter2-of-ci")
        ) as running:
            push(
                to(running, username="ci", password=f"file:{tmp_path}/pw"), "web", b"layer", tag="1"
            )
            with pytest.raises(AccessRefused, match="wants a login") as nobody:
                to(running).head("web", "1")
            with pytest.raises(AccessRefused, match="401") as wrong:
                to(running, username="ci", password="wrong-one").head("web", "1")
        assert nobody.value.exit_code == wrong.value.exit_code == 7
        assert "wrong-one" not in str(wrong.value) and redact("x hunter2-of-ci") == "x [redacted]"

    def test_logins_come_from_dockers_config_and_its_helper(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker = tmp_path / "docker"
        docker.mkdir()
        with registry(
            tmp_path / "r", auth=htpasswd(tmp_path / "r", "ci", "hunter2-of-ci")
        ) as running:
            auth = base64.b64encode(b"ci:hunter2-of-ci").decode()
            (docker / "config.json").write_text(
                json.dumps({"auths": {running.host: {"auth": auth}}})
            )
            assert to(running).head("web", "1") is None
            helper = tmp_path / "bin" / "docker-credential-test"
            helper.parent.mkdir()
            helper.write_text(
                '#!/bin/sh\nread server\necho "$server $*" >>"$0.log"\n'
                'echo \'{"Username": "ci", "Secret": "hunter2-of-ci"}\'\n'
            )
            helper.chmod(0o755)
            monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
            (docker / "config.json").write_text(json.dumps({"credHelpers": {running.host: "test"}}))
            assert to(running).head("web", "1") is None
            assert (
                tmp_path / "bin/docker-credential-test.log"
            ).read_text() == f"{running.host} get\n"
            (docker / "config.json").write_text(json.dumps({"credsStore": "missing"}))
            with pytest.raises(
                MachineError, match="docker-credential-missing is not installed"
            ) as caught:
                to(running).head("web", "1")
            assert f"{docker}/config.json names it" in str(caught.value)
            (docker / "config.json").unlink()
            (tmp_path / "helm.json").write_text(
                json.dumps({"auths": {running.host: {"auth": auth}}})
            )
            assert to(running).head("web", "1") is None

    def test_bearer_tokens_with_the_scopes_a_request_needs(self, tmp_path: Path) -> None:
        with (
            TokenServer(tmp_path / "t", {"ci": "hunter2-of-ci"}) as server,
            registry(tmp_path / "r", auth=server.auth) as running,
        ):
            client = to(running, username="ci", password="hunter2-of-ci")
            digest = push(client, "snap/web", b"layer", tag="1")
            asked = len(server.asked)
            assert client.head("snap/web", "1") and client.manifest("snap/web", digest)
            assert len(server.asked) == asked, "a token is used until it expires"
            source = Reference(running.host, "snap/web", None, digest)
            hosts = {running.host: Host("ci", "hunter2-of-ci", plain_http=True)}
            assert copy(source, Reference(running.host, "prod/web", "1"), hosts=hosts) == digest
            assert ["repository:prod/web:pull,push", "repository:snap/web:pull"] in server.asked
            server.readable_by_anyone.add("snap/web")
            assert to(running).head("snap/web", "1"), "an anonymous token reads what is public"
            with pytest.raises(AccessRefused, match="answered 401 to HEAD"):
                to(running).head("prod/web", "1")
            with pytest.raises(AccessRefused, match=r"token server .* answered 401 to ci for"):
                to(running, username="ci", password="wrong-one").head("snap/web", "1")

    def test_a_token_that_dies_is_fetched_again(self, tmp_path: Path) -> None:
        with (
            TokenServer(tmp_path / "t", {"ci": "hunter2-of-ci"}) as server,
            registry(tmp_path / "r", auth=server.auth) as running,
        ):
            client = to(running, username="ci", password="hunter2-of-ci")
            push(client, "web", b"layer", tag="1")
            asked, server.lifetime = len(server.asked), -100  # distribution allows 60 s of leeway
            tokens = client._authorizer._tokens
            tokens.update({scopes: server.token("ci", scopes.split()) for scopes in tokens})
            server.lifetime = 300
            assert client.head("web", "1"), "401 in the middle: a new token, then the same request"
            assert len(server.asked) == asked + 1

    def test_an_identity_token_is_exchanged_for_access_tokens(self, tmp_path: Path) -> None:
        (tmp_path / "docker").mkdir()
        with (
            TokenServer(tmp_path / "t", {"ci": "x"}) as server,
            registry(tmp_path / "r", auth=server.auth) as running,
        ):
            stored = {"auths": {running.host: {"identitytoken": server.identity}}}
            (tmp_path / "docker/config.json").write_text(json.dumps(stored))
            push(to(running), "web", b"layer", tag="1")
            assert redact(server.identity) == "[redacted]"

    def test_tls_is_trusted_by_ca_file_only(self, tmp_path: Path) -> None:
        crt, key = certificate(tmp_path / "c")
        with registry(tmp_path / "r", tls=(crt, key)) as running:
            reference = Reference(running.host, "x")
            trusted = connect(reference, {running.host: Host(ca_file=str(crt))})
            assert trusted.head("x", "1") is None
            untrusted = Registry(running.host)
            with pytest.raises(MachineError, match=r"is not trusted.*ca_file"):
                untrusted.head("x", "1")
            with pytest.raises(MachineError, match="cannot be used as ca_file"):
                connect(reference, {running.host: Host(ca_file="/no/such.pem")}).head("x", "1")
        with (
            registry(tmp_path / "p") as plain,
            pytest.raises(MachineError, match="plain_http: true"),
        ):
            Registry(plain.host).head("x", "1")


def test_parallel_pushes_of_one_blob_all_arrive(open_registry: Running) -> None:
    """docker-registry acknowledges blobs that are not there yet when many push the same one
    (reliability.md R4).
    """
    client, failures = to(open_registry), []

    def one(number: int) -> None:
        try:
            push(client, "parallel", b"own layer %d" % number, tag=f"v{number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(client.tags("parallel")) == 40


def test_an_upload_location_on_another_host_does_not_get_our_login() -> None:
    with scripted(lambda _: (201, {}, b"")) as storage:

        def answer(request: Request) -> Answer:
            if "Authorization" not in request.headers:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            if request.method == "POST":
                return 202, {"Location": f"http://{storage.host}/upload?signature=abc"}, b""
            return 404 if request.method == "HEAD" and not storage.requests else 200, {}, b""

        with scripted(answer) as web:
            Registry(
                web.host, plain_http=True, login=lambda: Login("ci", "hunter2-of-ci")
            ).push_blob("x", b"data", sha256(b"data"))
    (upload,) = storage.requests
    assert (upload.method, upload.body) == (
        "PUT",
        b"data",
    ) and "Authorization" not in upload.headers
    assert upload.path == f"/upload?signature=abc&digest={sha256(b'data').replace(':', '%3A')}"


CANARY = "canary-in-an-answer-5d0b7e"
#: What a registry, or a proxy in front of it, answers to a request that has a login: of its host and
#: the Authorization header.
REPEATING: dict[str, Callable[[str, str], Answer]] = {
    "error": lambda host, sent: (
        400, {}, json.dumps({"errors": [{"code": "DENIED", "message": f"{sent} {CANARY}"}]}).encode()
    ),
    "page": lambda host, sent: (403, {}, f"<pre>{'-' * 260}{sent}\n{CANARY}</pre>".encode()),
    "scheme": lambda host, sent: (401, {"WWW-Authenticate": f"Negotiate {sent} {CANARY}"}, b""),
    "realm": lambda host, sent: (
        401,
        {
            "WWW-Authenticate": f'Bearer realm="http://ci:{CANARY}@{host}/token/{CANARY}?key={CANARY}"'
        },
        b"",
    ),
    "header": lambda host, sent: (200, {"Docker-Content-Digest": f"{sent} {CANARY}"}, b"{}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REPEATING)
def test_what_a_registry_repeats_of_a_login_is_shown_nowhere(tmp_path: Path, kind: str) -> None:
    """Not in what the step prints, and not in what it keeps."""
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")

    def answer(request: Request) -> Answer:
        sent = request.headers.get("Authorization", "")
        if request.path.startswith("/token"):
            return 403, {}, f"{sent} {CANARY}".encode()
        if not sent and kind not in ("scheme", "realm"):
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        return REPEATING[kind](request.headers["Host"], sent)

    with scripted(answer) as web:
        login = f'{{"{web.host}": {{username: ci, password: "${{CANARY}}"}}}}'
        channels = f"channels: {{snapshot: {{charts: 'oci://{web.host}/charts'}}}}"
        repo.put("pipeline.yaml", f"charts: [{{path: charts/*}}]\nhosts: {login}\n{channels}\n")
        repo.commit()
        completed = subprocess.run(
            [sys.executable, "-m", "pipeline_steps", "snapshot", "--verbose"],
            cwd=repo.root, env={**os.environ, "CANARY": CANARY}, capture_output=True, text=True,
        )  # fmt: skip
    said = completed.stdout + completed.stderr
    assert completed.returncode == 7 and "[reda" in said, said
    kept = [path.read_text() for path in (repo.root / ".pipeline").rglob("*") if path.is_file()]
    assert any(web.host in text for text in kept)
    encoded = base64.b64encode(f"ci:{CANARY}".encode()).decode()[4:-4]
    parts = {form[at : at + 8] for form in (CANARY, encoded) for at in range(len(form) - 7)}
    assert not [part for part in parts for text in (said, *kept) if part in text], said
