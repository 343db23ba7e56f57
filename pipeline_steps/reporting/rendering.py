"""Render pages from `templates/` and format values for people.

Texts of records and programs are untrusted: templates escape every value, and `printable` removes
secrets and control characters first. A name that a template uses but does not get is an error.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline_steps.toolbox.redact import printable

#: Results, verdicts and states of a chain → the colour and mark they are shown with; all others are
#: "odd".
KINDS = {
    **dict.fromkeys(("passed", "released", "tested", "positive", "recorded"), "good"),
    **dict.fromkeys(("failed", "refused", "contradictory", "negative", "changed"), "bad"),
}


def render(template: str, **values: object) -> str:
    """Render a file of `templates/` with these values."""
    return environment().get_template(template).render(values)


@functools.cache
def environment() -> Environment:
    """The jinja2 environment of all pages."""
    pages = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        # Without, a misspelled name would render as nothing.
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(kind=kind, short=short, utc=utc, sha256=_sha256)
    return pages


def _finalize(value: object) -> object:
    """Make the value of a template expression printable, before jinja2 escapes it.

    Markup returned by macros is left as it is: it was made of printable values.
    """
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def kind(word: str) -> str:
    """good, bad or odd: how a result is coloured and marked."""
    return KINDS.get(word, "odd")


def _sha256(text: str) -> str:
    """The source of a Content-Security-Policy that allows the inline script or style `text` and no
    other.
    """
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def utc(time: str) -> str:
    """A time of a record for people, to the second.

    >>> utc("2026-11-20T10:03:03.400Z"), utc("soon")
    ('2026-11-20 10:03:03 UTC', 'soon')
    """
    return re.sub(r"T(\d\d:\d\d:\d\d)(\.\d+)?Z$", r" \1 UTC", time)


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(1.44), duration(200)
    ('1.4 s', '3 min 20 s')
    """
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    )


def short(value: str) -> str:
    """A digest or a reference as people recognize it: the last part of the name, 12 digits of the
    digest.

    >>> short("oci://r.example.com/charts/hello:1.0.0@sha256:" + "a" * 64)
    'hello:1.0.0 @aaaaaaaaaaaa'
    >>> short("sha256:" + "b" * 64), short("hello-1.0.0@" + "c" * 40)
    ('bbbbbbbbbbbb', 'hello-1.0.0 @cccccccccccc')
    """
    name, _, digest = value.rpartition("@")
    digits = digest.rpartition(":")[2]
    if not re.fullmatch(r"(\w+:)?[0-9a-f]{40,}", digest):
        return value
    return f"{name.rpartition('/')[2]} @{digits[:12]}" if name else digits[:12]
