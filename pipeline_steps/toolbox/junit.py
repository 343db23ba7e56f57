"""JUnit XML as CI systems read it (Jenkins' junit plugin, GitLab, GitHub reporters).

Suites with flat cases. Written with the standard library, because junitparser lets characters pass
that XML cannot carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree import ElementTree as xml

from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.redact import printable

Outcome = Literal["passed", "failure", "error", "skipped"]

#: What XML 1.0 cannot carry, not even escaped, and `printable` lets pass.
_FORBIDDEN = re.compile("[\ufffe\uffff]")


class Case(NamedTuple):
    """One test case. outcome: "failure" blames the chart, "error" the machinery. text: reason or
    log; of a passed case a notice.
    """

    name: str
    seconds: float = 0.0
    outcome: Outcome = "passed"
    text: str = ""


def write(
    path: Path,
    suite: str,
    cases: Iterable[Case],
    *,
    started: str,
    properties: dict[str, str],
    durable: bool = True,
) -> Path:
    """Write one suite to `path` and create its folder when missing.

    started: RFC 3339. durable: False for a report that is no evidence of a record. Raises
    MachineError.
    """
    case_list = list(cases)
    counts = {
        f"{key}s": sum(case.outcome == key for case in case_list) for key in ("failure", "error")
    }
    attributes = {
        "name": suite,
        "tests": str(len(case_list)),
        **{key: str(count) for key, count in counts.items()},
        "skipped": str(sum(case.outcome == "skipped" for case in case_list)),
        "time": f"{sum(case.seconds for case in case_list):.3f}",
        "timestamp": started,
    }
    root = xml.Element("testsuites")
    element = xml.SubElement(
        root, "testsuite", {key: _text(value) for key, value in attributes.items()}
    )
    if properties:
        property_list = xml.SubElement(element, "properties")
        for name, value in properties.items():
            xml.SubElement(property_list, "property", {"name": _text(name), "value": _text(value)})
    for case in case_list:
        testcase = xml.SubElement(
            element,
            "testcase",
            {"classname": _text(suite), "name": _text(case.name), "time": f"{case.seconds:.3f}"},
        )
        if case.outcome == "passed" and case.text:
            xml.SubElement(testcase, "system-out").text = _text(case.text)
        if case.outcome != "passed":
            # CI systems show the message in lists and the text on demand.
            first = _text(case.text).strip().partition("\n")[0]
            xml.SubElement(testcase, case.outcome, {"message": first}).text = _text(case.text)
    files.created_folder(path.parent)
    data = xml.tostring(root, encoding="utf-8", xml_declaration=True)
    files.write(path, data, mode=0o644, durable=durable)
    return path


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", printable(text))
