"""Texts of others that are shaped to mislead: JSON, terminals, patterns, secrets in disguise."""

from __future__ import annotations

import base64
import io
import itertools
import json
import logging
import re
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.auth import token
from pipeline_steps.auth.credentials import Login
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import diff, ranges
from pipeline_steps.charts import ignore as helmignore
from pipeline_steps.charts.version import Version
from pipeline_steps.cli import boundary
from pipeline_steps.clusters import crds
from pipeline_steps.deployments.changes import hide_secrets
from pipeline_steps.images import dockerfile, image_layers
from pipeline_steps.images import ignore as dockerignore
from pipeline_steps.oci.manifest import OCI_MANIFEST
from pipeline_steps.oci.registry import Registry
from pipeline_steps.oci.registry import error_message as registry_message
from pipeline_steps.reviews import gerrit_changes
from pipeline_steps.reviews import gitea as gitea_reviews
from pipeline_steps.services import gerrit, gitea, github, gitlab
from pipeline_steps.sources import svn_externals
from pipeline_steps.state import record
from pipeline_steps.toolbox import files, http, junit, process, redact
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ChartFailed,
    ConfigurationError,
    EvidenceError,
    MachineError,
)
from pipeline_steps.toolbox.proxy import proxy_for
from pipeline_steps.toolbox.wildcards import ANY, FOLDERS, IN_NAME, Pattern
from tests.support.scripted import Answer, Request, scripted

#: Sets the title of a terminal, in seven and in eight bits.
ESCAPES = "\x1b]0;owned\x07 \x9b31m"


@pytest.mark.parametrize("name", [r"1.0.0\ud800", r"\udc00", r"\ud800\ud800", r"a\udfffb"])
def test_half_a_surrogate_pair_in_a_tag_is_refused(name: str) -> None:
    body = b'{"name": "web", "tags": ["1.0.0", "%s"]}' % name.encode()
    with scripted(lambda _: (200, {}, body)) as server:
        registry = Registry(server.host, plain_http=True)
        with pytest.raises(MachineError, match="answer is not JSON"):
            registry.tags("web")


@pytest.mark.parametrize("opening", ["[", '{"errors":[', '{"errors":{"a":'])
@pytest.mark.parametrize("status", [403, 404, 418])
def test_a_nested_error_body_does_not_hide_the_error(opening: str, status: int) -> None:
    body = opening.encode() * 20_000
    with scripted(lambda _: (status, {}, body)) as server:
        registry = Registry(server.host, plain_http=True)
        with pytest.raises(MachineError, match=f"answered {status}"):
            registry.manifest("web", "1.0.0")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (b"{", "is not JSON"),
        (b"[" * 20_000, "is not JSON"),
        (b'{"os": "\\ud800"}', "is not JSON"),
        (b"[]", "is not a JSON object"),
        (None, "has a part without a valid digest"),
    ],
    ids=["cut", "nested", "half a surrogate pair", "a list", "none named"],
)
def test_a_malformed_configuration_of_an_image_is_an_error_of_ours(
    config: bytes | None, problem: str, tmp_path: Path
) -> None:
    parts = [] if config is None else [{"digest": files.sha256(config), "size": len(config)}]
    manifest = json.dumps({"config": parts[0] if parts else None, "layers": []}).encode()
    with scripted(lambda asked: (200, {"Content-Type": OCI_MANIFEST},
                                 manifest if "/manifests/" in asked.path else config or b"")) as server:  # fmt: skip
        image = Reference(server.host, "web", "1", files.sha256(manifest))
        with pytest.raises(MachineError, match=problem) as raised:
            image_layers.from_registry(image, {server.host: Host(plain_http=True)}, tmp_path)
    assert raised.value.exit_code == 7


PERSON = {"_account_id": 1, "username": "a"}
CHANGE = {
    "project": "a", "branch": "main", "_number": 7, "subject": "b", "status": "NEW", "owner": PERSON,
    "revisions": {"0" * 40: {"_number": 1, "ref": "refs/changes/07/7/1", "uploader": PERSON}},
}  # fmt: skip
OPINION = {"state": "APPROVED", "commit_id": "0" * 40, "official": True}
DIGITS = "9" * 5000


def _votes_on(answer: http.Response) -> object:
    change = gerrit.decode(answer, gerrit_changes.Change)
    return change.head, [vote.value for vote in gerrit_changes.cast_votes(change)]


def _vote_of(answer: http.Response) -> object:
    return gitea_reviews._vote("a", gitea.decode(answer, gitea_reviews._Opinion))


def _push_of(answer: http.Response) -> object:
    return gitea_reviews._push_of(gitea.decode(answer, gitea_reviews._Event))


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (_votes_on, {**CHANGE, "revisions": {}}),
        (_votes_on, {**CHANGE, "labels": {"x": {"values": {"a": "b"}}}}),
        (_vote_of, {**OPINION, "submitted_at": "0001-01-01T00:00:00+05:00"}),
    ],
    ids=["no patch set", "a vote that is no number", "a time before the year 1"],
)
def test_what_no_review_system_tells_is_an_error_of_ours(
    read: Callable[[http.Response], object], fields: object
) -> None:
    body = b")]}'" * (read is _votes_on) + json.dumps(fields).encode()
    with pytest.raises(MachineError):
        read(http.Response("GET", "https://example.com/", 200, {}, body))


@pytest.mark.parametrize(
    ("read", "fields", "expected"),
    [
        (
            _votes_on,
            {**CHANGE, "messages": [{"message": f"Patch Set {DIGITS}: Verified+1", "date": "", "author": PERSON}]},
            ("0" * 40, []),
        ),
        (
            _votes_on,
            {**CHANGE, "messages": [{"message": f"Removed Verified+1 by <GERRIT_ACCOUNT_{DIGITS}>", "date": ""}]},
            ("0" * 40, []),
        ),
        (_push_of, {"type": "pull_push", "body": '{"x":' + "[" * 200_000}, None),
    ],
    ids=["a patch set of 5000 digits", "an account of 5000 digits", "a nested push"],
)  # fmt: skip
def test_what_looks_like_a_vote_or_a_push_is_none(
    read: Callable[[http.Response], object], fields: object, expected: object
) -> None:
    body = b")]}'" * (read is _votes_on) + json.dumps(fields).encode()
    assert read(http.Response("GET", "https://example.com/", 200, {}, body)) == expected


@pytest.mark.parametrize("read", [_votes_on, _vote_of, _push_of])
@pytest.mark.parametrize("body", [b'{"state": "\x80"}', b'{"\xff": 1}', b'{"a": ' + b"[" * 20_000])
def test_an_answer_that_is_no_json_is_an_error_of_ours(
    read: Callable[[http.Response], object], body: bytes
) -> None:
    body = b")]}'" * (read is _votes_on) + body.replace(
        b"state", b"project" if read is _votes_on else b"type"
    )
    with pytest.raises(MachineError, match="documents"):
        read(http.Response("GET", "https://example.com/", 200, {}, body))


def test_a_nested_record_is_an_error_of_ours() -> None:
    with pytest.raises(EvidenceError, match="not a record"):
        record.decode(b'{"parameters": {"a": ' + b"[" * 20_000, where="state.jsonl:1")


def repeated(twice: str) -> str:
    """YAML of 40 lines that stands for 2**39 values. twice: the former line, {0}, two times."""
    lines = (f"a{n}: &a{n} {twice.format(n - 1)}" for n in range(1, 40))
    return "\n".join(["a0: &a0 {x: y}", *lines])


def test_a_nested_error_body_of_gerrit_is_shown_as_text() -> None:
    answer = http.Response("POST", "https://example.com/", 409, {}, b")]}'" + b"[" * 20_000)
    assert gerrit.words(answer) == "[" * 500


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: " + "[" * 200_000, f"a: {'9' * 5000}", "a: &a [*a]", "a: !!python/name:os.system",
     repeated("[*a{0}, *a{0}]"), repeated("{{<<: [*a{0}, *a{0}]}}")],
    ids=["cut", "nested", "5000 digits", "in itself", "a tag of Python", "2**39 values", "merged"],
)  # fmt: skip
def test_a_definition_that_is_no_yaml_is_the_charts_failure(text: str) -> None:
    with pytest.raises(ChartFailed, match=r"web/crds/a\.yaml: no CustomResourceDefinition"):
        crds.definitions(f"---\n# Source: web/crds/a.yaml\n{text}\n")


@pytest.mark.parametrize(
    "data", ["[" * 200_000, repeated("[*a{0}, *a{0}]"), repeated("{{<<: [*a{0}, *a{0}]}}"), "&a [*a]"],
    ids=["nested", "2**39 values", "merged", "in itself"],
)  # fmt: skip
def test_a_secret_that_cannot_be_read_is_hidden_whole(data: str) -> None:
    hidden = hide_secrets(
        f"---\n# Source: web/a.yaml\nkind: Secret\ndata: s3cret\nmore:\n {data}\n", b"k"
    )
    assert "unreadable: hidden:" in hidden and "s3cret" not in hidden


@pytest.mark.parametrize("date", ["2026-01-31", "2026-13-45", "0001-01-01T00:00:00+23:59"])
def test_a_date_in_a_definition_is_a_text(date: str) -> None:
    text = f"---\n# Source: web/crds/a.yaml\nkind: {crds.KIND}\ndefault: {date}\n"
    assert crds.definitions(text) == [{"kind": crds.KIND, "default": date}]


@pytest.mark.parametrize("digits", ["²", DIGITS])
def test_what_only_looks_like_a_number_is_none(digits: str) -> None:
    (external,) = svn_externals.parse(f"-r {DIGITS} ^/lib@{digits} lib")
    assert (external.peg, external.revision) == (None, None)
    assert http.number({"x-total-count": digits}, "x-total-count") is None
    text = f"FROM a AS b\nCOPY --from={digits} x y\n"
    with pytest.raises(ConfigurationError, match="Dockerfile:2: this is not an image"):
        dockerfile.parse(text.encode(), "Dockerfile", args={})


def test_a_layers_digest_leads_to_no_other_file(tmp_path: Path) -> None:
    config = b"{}"
    parts = {"config": {"digest": files.sha256(config)}, "layers": [{"digest": "sha256:../x"}]}
    manifest = json.dumps(parts).encode()
    with scripted(lambda asked: (200, {"Content-Type": OCI_MANIFEST},
                                 manifest if "/manifests/" in asked.path else config)) as server:  # fmt: skip
        image = Reference(server.host, "web", "1", files.sha256(manifest))
        (tmp_path / "x").write_text("not a layer")
        (tmp_path / "layers").mkdir()
        with pytest.raises(MachineError, match="is no sha256"):
            image_layers.from_registry(
                image, {server.host: Host(plain_http=True)}, tmp_path / "layers"
            )
    assert (tmp_path / "x").read_text() == "not a layer"


def test_an_error_body_without_errors_is_an_error() -> None:
    with scripted(lambda _: (404, {}, b'{"message": "no such page"}')) as server:
        registry = Registry(server.host, plain_http=True)
        with pytest.raises(MachineError, match="answered 404"):
            registry.manifest("web", "1.0.0")


def test_registry_text_does_not_reach_the_terminal_raw(capfd: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": ESCAPES}]}).encode()
    boundary.setup_logging()
    with scripted(lambda _: (403, {}, body)) as server, pytest.raises(AccessRefused) as caught:
        Registry(server.host, plain_http=True).manifest("web", "1.0.0")
    boundary.report_error(caught.value)
    logging.getLogger("pipeline_steps.x").info("tag %s\rhides the start", ESCAPES)
    boundary.report_error(RuntimeError(ESCAPES))
    shown = capfd.readouterr().err
    assert shown.count("�]0;owned� �31m") == 3 and "�hides the start" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)


@pytest.mark.parametrize(
    "argv", [["x\x1b[2J"], ["check", "--no-such\x1b[2J"], ["check", "--shard", "\x1b[2J"]]
)
def test_typed_text_is_not_sent_to_the_terminal_raw(argv: list[str], tmp_path: Path) -> None:
    program = [sys.executable, "-m", "pipeline_steps", *argv]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert "[2J" in done.stderr and "\x1b" not in done.stderr


def test_json_on_stdout_is_ascii(capfd: pytest.CaptureFixture[str]) -> None:
    value = {"subject": "é\x9b\x7f\u202e😀"}
    boundary.print_json(value)
    line = capfd.readouterr().out
    assert line.isascii() and line.rstrip("\n").isprintable() and json.loads(line) == value


def test_output_fits_a_locale_without_the_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))

    def work() -> int:
        print("tag → digest", flush=True)
        return 0

    assert boundary.run_main(work) == 0
    assert raw.getvalue() == b"tag \\u2192 digest\n"


@pytest.mark.parametrize("stars", ["a*" * 30, "a*" * 300, "?*" * 30])
def test_many_wildcards_take_linear_time(stars: str) -> None:
    path = "a" * 4000
    began = time.process_time()
    for pattern in (stars + "b", f"x/{stars}b", f"{stars}/b"):
        assert not helmignore.parse(pattern.encode(), ".helmignore").left_out(path)
        rules = dockerignore.parse(pattern.encode(), ".dockerignore")
        assert list(dockerignore.not_ignored([path], rules)) == [path]
    rules = dockerignore.parse(b"**/a" * 100 + b"/b", ".dockerignore")
    assert list(dockerignore.not_ignored(["a/" * 1100 + "c"], rules))
    assert time.process_time() - began < 5


PIECES = st.sampled_from(["a", "b", "/", "[^/]", "[^a]", IN_NAME, FOLDERS, ANY])


@given(st.lists(PIECES, max_size=8), st.text("ab/", max_size=10))
def test_a_pattern_matches_what_its_regular_expression_matches(
    pieces: list[str], text: str
) -> None:
    expected = re.fullmatch("".join(pieces), text, re.DOTALL) is not None
    assert Pattern(pieces).matches(text) == expected


@pytest.mark.parametrize("width", [1, 3, 4, 19, 64, 76])
def test_a_secret_that_goes_on_in_the_next_line_of_a_program_is_masked(width: int) -> None:
    """Each line was masked alone: what `base64` prints of a secret was readable in the log."""
    secret = redact.register(f"streamed in {width} columns: a rather long secret")
    pem = redact.register(f"-----BEGIN {width}-----\nsecret-line\n-----END-----")
    encoded = [
        base64.b64encode(f"{before}{secret}\n{pem}".encode()).decode() for before in ("", "x", "xy")
    ]
    program = "\n".join(
        ["begin", *("\n".join(textwrap.wrap(text, width)) for text in encoded), pem, "end"]
    )
    command = [sys.executable, "-c", f"import sys; sys.stderr.write({program!r})"]
    lines: list[str] = []
    completed = process.run(command, on_line=lines.append)
    assert completed.stderr.decode() == program, "the bytes themselves are kept"
    shown = "".join(lines)
    assert (lines[0], lines[-1]) == ("begin", "end") and "secret-line" not in shown
    for text in encoded:
        whole = text.replace("\n", "")
        middle = len(whole) // 2
        assert whole[middle - 8 : middle + 8] not in shown
        assert not set(textwrap.wrap(text, 19)[1:-1]) & set(lines)


def test_lines_are_shown_as_soon_as_they_cannot_be_a_secrets_beginning() -> None:
    secret = redact.register("kept back only as long as it may go on")
    encoded = base64.b64encode(secret.encode()).decode()
    redactor = redact.LineRedactor()
    assert redactor.feed("nothing!") == ["nothing!"]
    assert redactor.feed(f"x: {encoded[:9]}") == []
    assert redactor.feed("else!") == [f"x: {encoded[:9]}", "else!"]
    assert redactor.feed(f"x: {encoded[:9]}") == []
    assert redactor.feed(f"{encoded[9:]}!")[0].startswith(f"x: {redact.MASK}")
    assert redactor.feed(encoded[:9]) == []
    assert (redactor.end(), redactor.end()) == ([encoded[:9]], [])


def test_what_is_kept_back_has_an_end() -> None:
    secret = redact.register("a secret of which the rest never comes")
    begin = base64.b64encode(secret.encode()).decode()[:9]
    redactor = redact.LineRedactor()
    assert redactor.feed(begin) == []
    shown = [line for _ in range(redactor.MOST + 9) for line in redactor.feed("")]
    assert shown[0] == redact.MASK and set(shown[1:]) == {""}


def test_a_junit_report_has_no_character_that_a_terminal_obeys(tmp_path: Path) -> None:
    """C1 controls are valid in XML, and went through to whoever prints a report."""
    c1 = "".join(map(chr, range(0x80, 0xA0)))
    hostile = f"a{c1}{ESCAPES}\u202e\ufffe\ud800\tb\nc"
    case = junit.Case(hostile, 1.0, "failure", hostile)
    path = junit.write(
        tmp_path / "x.xml", hostile, [case], started="2026-01-02T03:04:05Z",
        properties={hostile: hostile},
    )  # fmt: skip
    written = path.read_text()
    assert [c for c in written if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"] == []
    [failure] = ElementTree.parse(path).iter("failure")
    assert failure.text and failure.text.startswith("a�") and failure.text.endswith("\tb\nc")


@pytest.mark.parametrize("width", [1, 4, 19, 60, 64, 76])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n    ", "\\n"])
def test_a_secret_in_wrapped_base64_is_masked(width: int, end: str) -> None:
    secret = redact.register("a-Password/of~56-characters+with.marks_and-more:letters!")
    for before in ("", "u", "us"):
        encoded = base64.b64encode(f"{before}{secret}".encode()).decode()
        masked = redact.redact(end.join(textwrap.wrap(encoded, width)))
        assert sum(c.isalnum() for c in masked.replace(redact.MASK, "")) <= 5 + masked.count("n")


@pytest.mark.parametrize(
    "name", ["private_token", "access_token", "X-Amz-Signature", "sig", "api_key", "job-token"]
)
def test_a_token_in_the_query_of_a_url_is_masked(name: str) -> None:
    text = f"unable to access 'https://git.example.com/web.git?ref=main&{name}=s3cr3t/'"
    assert "s3cr3t" not in redact.redact(text) and "?ref=main&" in redact.redact(text)


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (http.excerpt, b""),
        (registry_message, b""),
        (registry_message, b'{"errors": [{"code": "DENIED", "message": "'),
        (gitea.error_message, b'{"message": "'),
        (github.error_message, b'{"message": "'),
        (gitlab.error_message, b'{"message": "'),
        (lambda body: gerrit.words(http.Response("GET", "", 400, {}, body)), b""),
    ],
)
def test_no_part_of_a_secret_is_left_where_a_message_ends(
    words: Callable[[bytes], str], begin: bytes
) -> None:
    """Of one that was cut before it was looked for, the beginning was shown."""
    secret = redact.register("cut-in-the-middle-8e0f")
    # The characters at both ends of base64 also carry bits of what is no secret.
    in_base64 = http.basic("ci", secret)[len("Basic Y2k6") : -4]
    parts = {form[at : at + 4] for form in (secret, in_base64) for at in range(len(form) - 3)}
    end = '"}]}' if b"[" in begin else '"}' if begin else ""
    for length, text in itertools.product(range(250, 520), (secret, http.basic("ci", secret))):
        shown = words(begin + f"{'x' * length} {text}{end}".encode())
        assert not [part for part in parts if part in shown], shown


def test_a_long_text_without_a_secret_is_searched_in_time() -> None:
    began = time.process_time()
    redact.redact("?=" + "token" * 100_000 + "&" * 100_000)
    redact.redact("a" * 500_000 + "@")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", [f">={DIGITS}", f">1{' ' * 40_000}!", "1-1" * 20_000])
def test_a_range_that_nobody_wrote_is_an_error_of_ours(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigurationError, match=r"^a/Chart\.yaml: .* is not a version or range"):
        ranges.is_in_range(Version(1, 0, 0), text, "a/Chart.yaml")
    assert time.process_time() - began < 2


def test_long_words_of_a_rendering_and_a_registry_are_searched_in_time() -> None:
    began = time.process_time()
    word = "QUFB" * 100_000
    rendered = f"---\n# Source: a/templates/a.yaml\nkind: ConfigMap\ndata: {word}\n"
    [found] = diff.differences(
        diff.Side(rendered, rendered), diff.Side(f"{rendered}b: c\n", f"{rendered}b: c\n")
    )
    assert "+b: c" in found.text
    assert token.Challenge.parse(f"Bearer {word},realm=https://a.example").realm
    assert time.process_time() - began < 3


def test_a_secret_that_is_not_utf8_is_masked() -> None:
    assert redact.redact(redact.register("p\udcffssword")) == redact.MASK


NO_PROXY = (
    "intern.example, .dotted.example,*.starred.example,ported.example:8080,10.0.0.0/8 ,"
    "192.168.1.1,192.168.1.2:81,[fd00::1]:82,fd00::/16,:83,*stuck.example,7.8.9,[fd02::1],"
    "172.16.0.0/255.240.0.0,::ffff:172.20.0.0/112,münchen.example,.zürich.example"
)


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("http://localhost/", True),
        ("http://LOCALHOST:99/", True),
        ("http://127.0.0.9:5000/", True),
        ("http://[::1]:5000/", True),
        ("http://localhost.example/", False),
        ("http://127.0.0.1.example/", False),
        ("http://intern.example/", True),
        ("https://a.intern.example/", True),
        ("http://xintern.example/", False),
        ("http://a.dotted.example/", True),
        ("http://dotted.example/", False),
        ("http://a.starred.example/", True),
        ("http://starred.example/", False),
        ("http://ported.example:8080/", True),
        ("http://ported.example/", False),
        ("http://10.255.0.1/", True),
        ("http://11.0.0.1/", False),
        ("http://192.168.1.1:9/", True),
        ("http://192.168.1.2:81/", True),
        ("http://192.168.1.2/", False),
        ("http://[fd00::2]/", True),
        ("http://[fd01::1]:82/", False),
        ("http://[::ffff:10.0.0.1]/", True),
        ("http://other.example:83/", False),
        ("http://stuck.example/", False),
        ("http://a.stuck.example/", False),
        ("http://6.7.8.9/", False),
        ("http://[fd02::1]/", False),
        ("http://172.17.0.1/", False),
        ("http://172.20.0.1/", True),
        ("http://xn--mnchen-3ya.example/", True),
        ("http://a.xn--zrich-kva.example/", True),
        ("http://xn--zrich-kva.example/", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(url: str, direct: bool) -> None:
    environ = {"HTTP_PROXY": "p:1", "https_proxy": "https://p:2", "NO_PROXY": NO_PROXY}
    proxy = "https://p:2" if url.startswith("https") else "http://p:1"
    assert proxy_for(url, environ) == (None if direct else proxy)


def test_no_proxy_may_name_every_host_and_upper_case_counts_first() -> None:
    environ = {"http_proxy": "low:1", "HTTP_PROXY": "high:1"}
    assert proxy_for("http://a.example/", environ) == "http://high:1"
    assert proxy_for("http://a.example/", {**environ, "no_proxy": "b, * ,c"}) is None
    cgi = {"HTTP_PROXY": "high:1", "REQUEST_METHOD": "GET"}
    assert proxy_for("http://a.example/", cgi) is None


@pytest.mark.parametrize(
    "realm", ["http://tokens.example.com/token", "http://[::1", "//other.example"]
)
def test_a_plain_http_realm_on_another_host_gets_no_login(realm: str) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="r"'}, b""

    with scripted(answer) as server:
        registry = Registry(server.host, plain_http=True, login=lambda: Login("ci", "hunter2"))
        with pytest.raises(AccessRefused, match=r"on another host|an invalid URL"):
            registry.head("web", "1.0.0")
    assert [request.headers.get("Authorization") for request in asked] == [None]


def test_a_realm_on_this_machine_gets_the_login() -> None:
    def answer(request: Request) -> Answer:
        if request.path.startswith("/token"):
            return 200, {}, b'{"token": "t-o-k-e-n"}'
        if "Authorization" in request.headers:
            return 200, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, b""
        host = server.host.replace("127.0.0.1", "localhost")
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{host}/token"'}, b""

    with scripted(answer) as server:
        registry = Registry(server.host, plain_http=True, login=lambda: Login("ci", "hunter2"))
        assert registry.head("web", "1.0.0")
    sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [None, http.basic("ci", "hunter2"), "Bearer t-o-k-e-n"]
