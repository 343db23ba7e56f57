"""A state as weeks of work leave it: released content, a failed test, tries in vain, names that
want to be markup.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State

HOSTILE = '<img src=x onerror="document.title=`taken`"><script>document.title="taken"</script>'
REASON = (
    "the pod hello-7d9f never became ready: CrashLoopBackOff\n  exit code 1: cannot bind "
    f":80 {HOSTILE}\n" + "x" * 300
)


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Story:
    """Records of one chart's contents, a minute after the other."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.hour = "2026-11-20T10"
        self.minute = 0

    def add(
        self, step: str, subject: str, content: str, result: str = "passed", **more: Any
    ) -> Record:
        self.minute += 1
        fields = {
            "step": step, "subject": subject, "key": digest(f"{step}{subject}{content}{more.pop('by', '')}"),
            "content": digest(content), "revision": digest(content)[7:47], "result": result,
            "started": f"{self.hour}:{self.minute:02d}:00.000Z", "finished": f"{self.hour}:{self.minute:02d}:03.400Z",
            "actor": "ada", "ci": {"system": "jenkins", "url": "https://ci.example.com/job/hello/7/"}, "run": "hello-7",
            "tools": {"helm": "4.3.1"}, **more,
        }  # fmt: skip
        return self.state.add(fields)

    def chain(
        self, chart: str, content: str, *, fails: bool = False, released: bool = False
    ) -> None:
        """A chart from check to, when it is released, production; of its two tests one may fail,
        twice.
        """
        host = "registry.example.com"
        image = self.add(
            "build_image", "web", content, outputs={"image": f"{host}/snap/web:k-1@{digest('web')}"}
        )
        self.add("check", chart, content, outputs={})
        records = {
            "chart": f"oci://{host}/snapshot-charts/{chart}:1.4.1-0.12.t06b78bbaa208@{digest(content + 'chart')}"
        }
        inputs = {"image:web": digest("web")}
        snapshot = self.add(
            "snapshot", chart, content, outputs={**records, "tar": digest(content + "tar")}, uses=[image.id],
            inputs=inputs, parameters={"version": "1.4.1-0.12.t06b78bbaa208", "modified": []},
        )  # fmt: skip
        tests = [self.test(chart, content, snapshot, "ci/default-values.yaml")]
        if fails:
            first = self.test(
                chart, content, snapshot, "ci/tls-values.yaml", "failed", reason=REASON
            )
            self.test(
                chart,
                content,
                snapshot,
                "ci/tls-values.yaml",
                "failed",
                reason=REASON,
                supersedes=[first.id],
            )
            return
        lost = "the node went away"
        self.test(chart, content, snapshot, "ci/tls-values.yaml", "infrastructure", reason=lost)
        tests.append(self.test(chart, content, snapshot, "ci/tls-values.yaml"))
        if released:
            uses = [snapshot.id, *(test.id for test in tests)]
            self.add(
                "tag_release",
                chart,
                content,
                outputs={"tag": f"{chart}-1.4.1@{digest(content)[7:47]}"},
                uses=uses,
            )
            reference = f"oci://{host}/charts/{chart}:1.4.1@{digest(content + 'production')}"
            self.add(
                "promote",
                chart,
                content,
                outputs={"chart": reference, "tar": digest("p" + content)},
                uses=uses,
            )

    def test(
        self,
        chart: str,
        content: str,
        snapshot: Record,
        values: str,
        result: str = "passed",
        **more: Any,
    ) -> Record:
        return self.add(
            "integration_test", chart, content, result, by=values, uses=[snapshot.id], inputs=snapshot.inputs,
            parameters={"scenario": "install", "values": values, "cluster": "k131"},
            evidence={f"junit/integration_test-{chart}.xml": digest("junit")},
            outputs={"ran.web": digest("web")} if result == "passed" else {}, **more,
        )  # fmt: skip


def story(state: State) -> State:
    """hello: an older content that failed, the newest released. A chart whose name is hostile,
    failed.
    """
    story_ = Story(state)
    story_.chain("hello", "first", fails=True)
    story_.chain("hello", "second", released=True)
    story_.chain(HOSTILE, "third", fails=True)
    story_.add("snapshot", "worker", "fourth", "started", finished=None, outputs={})
    return state
