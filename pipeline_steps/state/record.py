"""One record: what a step leaves behind, immutable, named by the hash of its own canonical JSON.

Records are written once and never encoded again: unknown fields of a newer version survive because
lines are copied, not rebuilt. Lines of schema 1 that every later version must read are in
tests/unit/golden.
"""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline_steps.toolbox.errors import EvidenceError, Result
from pipeline_steps.toolbox.redact import redact

SCHEMA = 1
#: Results that say something about the content; the others are attempts.
VERDICTS = frozenset({"passed", "failed", "refused"})


# Without the cycle collector: what JSON holds cannot lead back to itself.
class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a state file. Digests are "sha256:" + 64 hex digits.

    The text below a field is its meaning, and an example, for docs/reference/records.md.
    """

    schema: int
    """Version of this format. Example: `1`"""

    id: str
    """Digest of the record's canonical JSON without this field. Example: `"sha256:2f81…"`"""

    step: str
    """The step, or the name given to `record`. Example: `"snapshot"`"""

    subject: str
    """What the step was called for: a chart, an image, or the step itself. Example: `"hello"`"""

    key: str
    """Digest over what makes two runs the same work. Example: `"sha256:6c0d…"`"""

    content: str | None = None
    """The content that the record is about. Example: `"sha256:9b2f…"`"""

    revision: str | None = None
    """The source's revision at which the content was seen. Example: `"b4bd1c2f…"`"""

    parameters: dict[str, Any] = {}
    """What the step was told, redacted.
    Example: `{"modified":[],"version":"1.4.0-0.17.t0123456789ab"}`"""

    inputs: dict[str, str] = {}
    """Name → digest of what the step consumed. Example: `{"image:web":"sha256:4b6f…"}`"""

    uses: tuple[str, ...] = ()
    """Ids of the records that the step relied on. Example: `["sha256:77aa…"]`"""

    supersedes: tuple[str, ...] = ()
    """Ids of the records that this one replaces. Example: `["sha256:1f0e…"]`"""

    outputs: dict[str, str] = {}
    """Name → reference with digest of what the step wrote, or a digest alone.
    Example: `{"chart":"oci://registry.example.com/hello:1.4.0@sha256:7d0e…"}`"""

    result: Result
    """What came of it. Example: `"passed"`"""

    reason: str | None = None
    """Why, where it did not pass. Example: `"the pod web-0 crashed"`"""

    evidence: dict[str, str] = {}
    """File relative to the state file's folder → digest.
    Example: `{"junit/check-hello.xml":"sha256:03ab…"}`"""

    tools: dict[str, str] = {}
    """Program → version. Example: `{"helm":"4.0.0"}`"""

    started: str
    """When the step began, RFC 3339 in UTC. Example: `"2026-01-31T12:00:00.000Z"`"""

    finished: str | None = None
    """When it ended. Example: `"2026-01-31T12:00:09.250Z"`"""

    actor: str | None = None
    """The account that ran it. Example: `"jenkins"`"""

    ci: dict[str, str] | None = None
    """The CI's system, build and URL; null at a terminal.
    Example: `{"id":"7","system":"jenkins"}`"""

    run: str = ""
    """The build, or what the variable PIPELINE_STEPS_RUN says. Example: `"7"`"""

    @property
    def passed(self) -> bool:
        return self.result == "passed"


def canonical(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8; objects, lists, texts, integers, booleans,
    null.

    Raises TypeError for floats and other types, ValueError for text that is not Unicode.

    >>> canonical({"b": [1, True], "a": "é"}).decode()
    '{"a":"é","b":[1,true]}'
    """
    _refuse_non_canonical(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fingerprint(value: object) -> str:
    """Digest of the canonical JSON of `value`."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"


def make_key(
    step: str,
    format: int,
    *,
    parameters: Mapping[str, Any],
    content: str | None,
    consumed: Mapping[str, str],
) -> str:
    """What makes two runs of a step the same work (docs/explanation/content.md#keys); revision,
    run, host and clock are not in it.

    format: raise it when the step's outputs change for the same inputs. parameters: those that
    matter. consumed: name → digest of the outputs of other steps that this one uses.
    """
    parts = {
        "step": step,
        "format": format,
        "parameters": dict(parameters),
        "content": content,
        "consumed": dict(consumed),
    }
    return fingerprint(parts)


def encode(fields: Mapping[str, Any]) -> bytes:
    """The line of a new record from its fields without `id`; free texts in it are redacted."""
    masked = {
        "schema": SCHEMA,
        **{k: _redacted(v) if k in _REDACTED_FIELDS else v for k, v in fields.items()},
    }
    return canonical({**masked, "id": fingerprint(masked)})


def decode(line: bytes, *, where: str) -> Record:
    """The record in `line`. where: file and line number, for errors.

    Raises EvidenceError when the line is no record, of a newer schema, or was edited.
    """
    try:
        record = _decoder.decode(line)
    except (ValueError, RecursionError) as error:
        schema = _schema_of_line(line)
        if schema is not None and schema != SCHEMA:
            raise _unknown_schema(schema, where) from error
        raise EvidenceError(
            f"the line is not a record: {error}",
            where=where,
            advice="restore the file, or remove the line to lose that evidence",
        ) from error
    # Before the id is looked at: a later schema may hash in another way.
    if record.schema != SCHEMA:
        raise _unknown_schema(record.schema, where)
    if not _has_valid_id(line, record.id):
        raise EvidenceError(
            f"record {record.id[:19]} of {record.step} {record.subject} was edited: it does not "
            "hash to its id",
            where=where,
            advice="restore the file, or remove the line and run the step again",
        )
    return record


#: Fields that may hold what people or programs said. The others are names and digests that records
#: are found by: a short password that happens to be part of a digest must not change it.
_REDACTED_FIELDS = frozenset({"reason", "parameters", "tools", "ci", "actor"})
_decoder = msgspec.json.Decoder(Record)


def _unknown_schema(schema: object, where: str) -> EvidenceError:
    message = f"record of schema {schema}, this version reads schema {SCHEMA}"
    return EvidenceError(message, where=where, advice="use a newer pipeline_steps")


def _has_valid_id(line: bytes, record_id: str) -> bool:
    before, own_id, after = line.partition(b',"id":"%s"' % record_id.encode())
    digest = hashlib.sha256(before)
    digest.update(after)
    if own_id and f"sha256:{digest.hexdigest()}" == record_id:
        return True
    try:  # the same record, but not written canonically
        # Of two equal keys readers take the first or the last: such a record would mean two things.
        fields = json.loads(line, object_pairs_hook=_without_duplicates)
        return bool(fields.pop("id") == record_id == fingerprint(fields))
    except (ValueError, TypeError, RecursionError):
        return False


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _schema_of_line(line: bytes) -> object:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields.get("schema") if isinstance(fields, dict) else None


def _refuse_non_canonical(value: object) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is not a text")
            _refuse_non_canonical(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_non_canonical(item)
    elif value is not None and not isinstance(value, (str, bool, int)):
        raise TypeError(f"{type(value).__name__} cannot stand in a record")


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _unicode(redact(value))
    if isinstance(value, Mapping):
        return {_unicode(key): _redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item) for item in value]
    return value


def _unicode(text: str) -> str:
    r"""`text` with the bytes of file names that are not UTF-8 (PEP 383) escaped: JSON has none.

    >>> _unicode("na\udcffme")
    'na\\udcffme'
    """
    return text.encode(errors="backslashreplace").decode()
