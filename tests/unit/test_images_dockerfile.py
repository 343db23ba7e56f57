"""Bases of Dockerfiles, their pinning, and what only BuildKit can build."""

from __future__ import annotations

import pytest

from pipeline_steps.images.dockerfile import parse
from pipeline_steps.toolbox.errors import ConfigurationError, ToolMissing

D = "sha256:" + "d" * 64
LATEST = "r.example.com/t:latest"


def bases(text: str, target: str | None = None, **args: str) -> list[str]:
    return [
        str(base.reference)
        for base in parse(text.encode(), "Dockerfile", args=args, build_stage=target).bases
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM busybox", ["docker.io/library/busybox:latest"]),
        ("FROM scratch\nCOPY . /", []),
        ("from r.example.com/a/b:1 as x\nFROM x\nCOPY --from=x /a /b", ["r.example.com/a/b:1"]),
        (f"FROM r.example.com/a@{D}", [f"r.example.com/a@{D}"]),
        ("ARG V=1.2\nFROM r.example.com/a:${V}", ["r.example.com/a:1.2"]),
        ("ARG V\nFROM r.example.com/a:${V:-9}", ["r.example.com/a:9"]),
        ("ARG R=r.example.com\nARG N=$R/web\nFROM --platform=$BUILDPLATFORM $N:1", ["r.example.com/web:1"]),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=0 / /\nCOPY --from=r.example.com/t / /", [LATEST]),
        ("FROM scratch\nRUN --mount=type=bind,from=r.example.com/t:1,target=/t x", ["r.example.com/t:1"]),
        ("FROM \\\n# comment\n  r.example.com/a:1 \\\n AS x", ["r.example.com/a:1"]),
        ("# escape=`\nFROM `\nr.example.com/a:1", ["r.example.com/a:1"]),
        ("FROM scratch\nRUN <<EOF\nFROM r.example.com/not\nEOF\nCOPY --from=r.example.com/t a b", [LATEST]),
        # As `docker buildx build --check` reads them: what begins a here-document is a whole word.
        ("FROM scratch\nRUN echo $((1<<A))\nCOPY --from=r.example.com/t a b\nA", [LATEST]),
        ("FROM scratch\nRUN echo 'x <<A'\nCOPY --from=r.example.com/t a b\nA", [LATEST]),
        ('FROM scratch\nRUN cat <<"A B"\nFROM r.example.com/not\nA B\nCOPY --from=r.example.com/t a b', [LATEST]),
        ("FROM scratch\nRUN cat << A\nFROM r.example.com/not\nA\nCOPY --from=r.example.com/t a b", [LATEST]),
        ("FROM scratch\nRUN <<A\n\tA\nFROM r.example.com/not\nA\nCOPY --from=r.example.com/t a b", [LATEST]),
        ("FROM scratch\nONBUILD RUN <<A\nFROM r.example.com/not\nA\nCOPY --from=r.example.com/t a b", [LATEST]),
        ("FROM scratch\nFROM 0", ["docker.io/library/0:latest"]),
        ("FROM scratch AS build-amd64\nFROM build-${TARGETARCH}", []),
        ("# syntax=r.example.com/dockerfile:1\nFROM scratch", ["r.example.com/dockerfile:1"]),
        ('FROM "r.example.com/a:1"', ["r.example.com/a:1"]),
        ("FROM 'r.example.com/a:1' AS x", ["r.example.com/a:1"]),
        ('ARG B\nFROM ${B:-"r.example.com/a:1"}', ["r.example.com/a:1"]),
        ('ARG B="r.example.com/a" V=1\nFROM ${B}:"$V"', ["r.example.com/a:1"]),
        ("ARG V=1.2-alpine\nFROM r.example.com/a:${V%-*}", ["r.example.com/a:1.2"]),
        ("ARG V=v1.2\nFROM r.example.com/a:${V#v}", ["r.example.com/a:1.2"]),
        ("ARG V=1/2/3\nFROM r.example.com/a:${V//\\//.}", ["r.example.com/a:1.2.3"]),
        ("ARG V=1\nFROM r.example.com/a:${V+2}", ["r.example.com/a:2"]),
        ("FROM\tr.example.com/a:1\nCOPY\t--from=r.example.com/b:1\t/ /", ["r.example.com/a:1", "r.example.com/b:1"]),
        # As BuildKit builds them, with a warning.
        ("ARG S\nFROM r.example.com/a:1$S", ["r.example.com/a:1"]),
        ("ARG A=$TARGETARCH\nARG A=2\nFROM r.example.com/a:1$A", ["r.example.com/a:12"]),
        ("ARG V=1${S}\nFROM r.example.com/a:$V", ["r.example.com/a:1"]),
        ("ARG A=\nARG V=${A:-3}\nFROM r.example.com/a:${V:-$NONE}", ["r.example.com/a:3"]),
    ],
)  # fmt: skip
def test_bases(text: str, expected: list[str]) -> None:
    assert bases(text) == expected


def test_args_and_target_decide() -> None:
    text = "ARG V=1\nFROM r.example.com/a:$V AS one\nFROM r.example.com/b:1 AS two\nCOPY --from=r.example.com/c:1 / /"
    assert bases(text, V="7") == ["r.example.com/a:7", "r.example.com/b:1", "r.example.com/c:1"]
    assert bases(text, target="ONE") == ["r.example.com/a:1"]
    depends = "ARG A=$TARGETARCH\nARG V=1$A\nFROM r.example.com/a:$V"
    assert bases(depends, V="7") == ["r.example.com/a:7"]


def test_the_recorded_digest_is_what_is_built() -> None:
    text = (
        "# like FROM r.example.com/a:1\nARG V=1\nFROM r.example.com/a:$V AS r.example.com\n"
        f"FROM r.example.com/b@{D}\nCOPY --from=r.example.com/a:1 /a /a\n"
        "RUN --mount=type=bind,from=r.example.com/a:1,target=/x true # r.example.com/a:1x\n"
    )
    bases_found = parse(text.encode(), "Dockerfile", args={})
    assert bases_found.pin_bases({"r.example.com/a:1": D}) == text.replace(
        "a:$V", f"a:1@{D}"
    ).replace("from=r.example.com/a:1", f"from=r.example.com/a:1@{D}")


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("RUN x", "", "has no FROM"),
        ("ARG V\nFROM r.example.com/a:$V", ":2", "has no value"),
        ("FROM r.example.com/a:1$TARGETARCH", ":1", "has no value"),
        ("ARG V=1$TARGETARCH\nFROM r.example.com/a:$V", ":2", "has no value"),
        ("ARG A=$TARGETARCH\nARG V=1$A\nFROM r.example.com/a:$V", ":3", "has no value"),
        ("ARG A=$TARGETARCH\nFROM r.example.com/a:1$A", ":2", "has no value"),
        ("ARG A=$TARGETARCH\nFROM r.example.com/a:1$S$A", ":2", "has no value"),
        ("ARG A=$TARGETARCH\nFROM r.example.com/a:${A:-1}", ":2", "has no value"),
        ("ARG A=1\nARG A=$TARGETARCH\nFROM r.example.com/a:$A", ":3", "has no value"),
        ("FROM a b", ":1", "cannot read FROM a b"),
        ('FROM "r.example.com/a:1', ":1", "no closing"),
        ("FROM r.example.com/a:${V", ":1", "no end"),
        ("ARG V=1\nFROM r.example.com/a:${V^^}", ":2", "expansion that is unknown"),
        ("# syntax=$BUILDPLATFORM/a:${}", ":1", "without the name of a variable"),
        ("FROM $BUILDPLATFORM/a:${V^^}", ":1", "expansion that is unknown"),
        ("FROM r.example.com/a:${V:?missing}", ":1", "V: missing"),
        ("\nFROM Bad/NAME:1", ":2", "not an image"),
    ],
)
def test_what_cannot_be_known_is_refused(text: str, line: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong) as caught:
        bases(text)
    assert str(caught.value).startswith(f"Dockerfile{line}: ")


def test_an_unknown_target_names_the_stages() -> None:
    with pytest.raises(ConfigurationError, match=r"no stage 'run'.*stages: build, test"):
        bases("FROM scratch AS build\nFROM scratch AS test", target="run")


@pytest.mark.parametrize(
    "line",
    ["RUN --mount=type=cache,target=/c x", "COPY --link a b", "COPY --chmod=755 a b", "RUN <<EOF\nx\nEOF",
     "COPY <<-'E' /x\n\tx\n\tE", "ADD --checksum=sha256:aa http://x /x"],
)  # fmt: skip
def test_buildkits_own_syntax_is_refused_for_the_classic_builder(line: str) -> None:
    bases_found = parse(f"FROM scratch\n{line}\n".encode(), "app/Dockerfile", args={})
    with pytest.raises(ToolMissing, match=r"line 2: .*buildx") as caught:
        bases_found.refuse_buildkit_features()
    assert str(caught.value).startswith("app/Dockerfile: ") and caught.value.exit_code == 7


def test_what_the_classic_builder_can_is_not_refused() -> None:
    text = "FROM scratch AS a\nRUN x <<<y\nCOPY --chown=1:1 --from=a /a /b\nRUN echo --mount\nADD a b\n# COPY --link"
    parse(text.encode(), "Dockerfile", args={}).refuse_buildkit_features()
