"""What a Dockerfile stands on: base images with their places in the text, and whether it needs
BuildKit.

Source: Docker's "Dockerfile reference" and moby/buildkit's parser. The instructions themselves are
the builder's. No library does it: dockerfile-parse takes the lines of a here-document for
instructions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.images import shell_words
from pipeline_steps.images.shell_words import Unreadable, Unset
from pipeline_steps.toolbox.errors import ConfigurationError, ToolMissing

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
#: A whole word. Source: moby/buildkit frontend/dockerfile/parser, reHeredoc.
_HEREDOC = re.compile(r"\d*<<(-?)([^<]*)")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S+))?\s+")
_MOUNT_FROM = re.compile(r"(?:^|,)from=([^,\s]+)")
_PLATFORM = re.compile(r"\$\{?(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)\}?")
#: Flags that the classic builder does not know (Docker Engine 20.10).
_BUILDKIT_FLAGS = {
    "RUN": {"mount", "network", "security", "device"},
    "COPY": {"link", "chmod", "parents", "exclude"},
    "ADD": {"link", "chmod", "checksum", "keep-git-dir", "exclude", "unpack"},
}


class Instruction(NamedTuple):
    """line: of its first line, 1-based. word: in capitals. arguments: what follows it, with
    continuation lines joined and without here-documents.
    """

    line: int
    word: str
    arguments: str
    heredoc: bool


class Base(NamedTuple):
    """An image the build starts from. text: as in the Dockerfile, unexpanded. line: its line."""

    reference: Reference
    text: str
    line: int


class Dockerfile(NamedTuple):
    """name: for errors. bases: images of the stages up to the build stage, each once.
    buildkit_features: what the classic builder cannot build, with lines; empty when it can.
    """

    name: str
    text: str
    bases: tuple[Base, ...]
    buildkit_features: tuple[str, ...]

    def refuse_buildkit_features(self) -> None:
        """Raises ToolMissing when it needs BuildKit, naming each line that does."""
        if self.buildkit_features:
            raise ToolMissing(
                f"this Dockerfile needs BuildKit: {'; '.join(self.buildkit_features)}",
                where=self.name,
                advice="install docker's buildx plugin; the engine's classic builder cannot "
                "build this",
            )

    def pin_bases(self, digests: Mapping[str, str]) -> str:
        """The text with every base replaced by its name and digest, so that the build takes what
        was recorded.

        digests: str(reference) → digest.
        """
        lines = self.text.split("\n")
        for base in self.bases:
            if base.reference.digest:
                continue
            reference = str(base.reference._replace(digest=digests[str(base.reference)]))
            for number in range(base.line - 1, len(lines)):
                # From the instruction's first line on: a FROM may be continued, with the name
                # further down.
                match = _word_pattern(base.text).search(lines[number])
                if match:
                    lines[number] = (
                        lines[number][: match.start()] + reference + lines[number][match.end() :]
                    )
                    break
        return "\n".join(lines)


def _word_pattern(written: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\s=,]){re.escape(written)}(?![^\s,])")


def parse(
    data: bytes, name: str, *, args: Mapping[str, str], build_stage: str | None = None
) -> Dockerfile:
    """The Dockerfile in `data`. args: build arguments; build_stage: None for the last.

    Raises ConfigurationError naming file and line: no FROM, unknown stage, a base that cannot be
    known.
    """
    try:
        # BuildKit accepts a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"the file is not UTF-8: {error}", where=name, advice="save it as UTF-8"
        ) from error
    directives = _directives(text)
    instructions = list(_instructions(text, directives.get("escape", "\\")))
    stages = _Stages(name, dict(args), build_stage, directives.get("escape", "\\"))
    if "syntax" in directives:
        stages.frontend(directives["syntax"], text)
    for instruction in instructions:
        stages.take(instruction)
    buildkit_features = (
        [f"the line # syntax={directives['syntax']}"] if "syntax" in directives else []
    )
    for instruction in instructions:
        buildkit_features.extend(_buildkit_only(instruction))
    return Dockerfile(name, text, stages.result(), tuple(buildkit_features))


def _directives(text: str) -> dict[str, str]:
    """Parser directives: comments `# name=value` before anything else."""
    directives: dict[str, str] = {}
    for line in text.split("\n"):
        match = _DIRECTIVE.fullmatch(line.strip())
        if not match:
            break
        directives[match[1].lower()] = match[2]
    return directives


def _instructions(text: str, escape: str) -> Iterator[Instruction]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    position = 0
    while position < len(lines):
        start, joined = position, ""
        while position < len(lines):
            line = lines[position]
            position += 1
            if line.strip().startswith("#") or (joined and not line.strip()):
                if not joined:
                    break
                continue  # comments and empty lines inside an instruction are left out
            joined += continued.sub("", line)
            if not continued.search(line):
                break
        word, rest = _first_word(joined)
        if not word:
            continue
        word = word.upper()
        documents = list(_heredocs(word, rest, escape))
        for indented, end in documents:
            while position < len(lines) and lines[position].lstrip("\t" * indented) != end:
                position += 1
            position += 1
        yield Instruction(start + 1, word, rest, bool(documents))


def _first_word(text: str) -> tuple[str, str]:
    """The first word and the rest of an instruction; any white space parts them."""
    word, *rest = text.split(None, 1) or [""]
    return word, "".join(rest).strip()


def _heredocs(word: str, arguments: str, escape: str) -> Iterator[tuple[bool, str]]:
    """Of each here-document that begins here: may tabs precede its end, and the line that ends it."""
    if word == "ONBUILD":
        word, arguments = _first_word(arguments)
    if word.upper() not in ("RUN", "COPY", "ADD"):
        return
    words = iter(shell_words.split(arguments, escape))
    for match in map(_HEREDOC.fullmatch, words):
        # What has no name, or one that cannot be read, is for the shell.
        with contextlib.suppress(Unreadable):
            written = match and (match[2] or ("" if match[1] else next(words, "")))
            if match and written and (name := shell_words.expand(written, {}, escape)):
                yield bool(match[1]), name


def _buildkit_only(instruction: Instruction) -> Iterator[str]:
    word, rest = instruction.word, instruction.arguments
    if instruction.heredoc:
        yield f"line {instruction.line}: {word} with a here-document"
    while match := _FLAG.match(rest):
        if match[1] in _BUILDKIT_FLAGS.get(word, ()):
            yield f"line {instruction.line}: {word} --{match[1]}"
        rest = rest[match.end() :]


class _Stages:
    """Follows the stages of one Dockerfile and collects the images they take something from."""

    def __init__(
        self, name: str, args: dict[str, str], build_stage: str | None, escape: str
    ) -> None:
        self._name = name
        self._escape = escape
        self._args = args
        self._build_stage = build_stage.lower() if build_stage else None
        self._globals: dict[str, str] = {}
        #: Arguments whose values depend on the platform that BuildKit builds for.
        self._of_platform: set[str] = set()
        self._stages: list[str] = []
        self._bases: dict[str, Base] = {}
        self._past_build_stage = False

    def take(self, instruction: Instruction) -> None:
        # BuildKit builds only what the wanted stage needs: bases of later ones are not pulled.
        if self._past_build_stage and instruction.word != "FROM":
            return
        if instruction.word == "ARG" and not self._stages:
            self._arg(instruction)
        elif instruction.word == "FROM":
            self._from(instruction)
        elif instruction.word in ("COPY", "ADD", "RUN"):
            self._flags(instruction)

    def frontend(self, written: str, text: str) -> None:
        """The image that reads this Dockerfile: it shapes the result like any base."""
        line = next(number for number, line in enumerate(text.split("\n"), 1) if written in line)
        self._image(written, Instruction(line, "syntax", written, False))

    def result(self) -> tuple[Base, ...]:
        if not self._stages:
            raise ConfigurationError(
                "the Dockerfile has no FROM",
                where=self._name,
                advice="begin a stage: FROM IMAGE, or FROM scratch",
            )
        if self._build_stage and not self._has_stage(self._build_stage):
            names = (
                ", ".join(name for name in self._stages if not name.isdigit()) or "none has a name"
            )
            raise ConfigurationError(
                f"the Dockerfile has no stage {self._build_stage!r}",
                where=self._name,
                advice=f"correct `target`; its stages: {names}",
            )
        return tuple(self._bases.values())

    def _has_stage(self, name: str) -> bool:
        # Numbers as docker writes them: other digits and longer ones name no stage.
        is_number = re.fullmatch(r"[0-9]{1,9}", name) is not None
        return name in self._stages or (is_number and int(name) < len(self._stages))

    def _arg(self, instruction: Instruction) -> None:
        for part in shell_words.split(instruction.arguments, self._escape):
            key, separator, value = part.partition("=")
            if key in self._args:
                self._globals[key] = self._args[key]
            elif separator:
                # BuildKit takes what has no value for empty; only platforms have one that is not
                # known here: a base that needs it is refused below.
                unset = None if _PLATFORM.search(value) else ""
                try:
                    self._globals[key] = shell_words.expand(
                        value, self._globals, self._escape, unset=unset, unknown=self._of_platform
                    )
                    self._of_platform.discard(key)
                except Unset:
                    self._globals.pop(key, None)
                    self._of_platform.add(key)
                except Unreadable as error:
                    raise self._error(instruction, f"cannot read ARG {part}: {error}") from error

    def _from(self, instruction: Instruction) -> None:
        if self._build_stage and self._has_stage(self._build_stage):
            self._past_build_stage = True  # later stages are not built
            return
        words = [word for word in instruction.arguments.split() if not word.startswith("--")]
        if not words or (len(words) > 1 and (len(words) != 3 or words[1].lower() != "as")):
            raise self._error(instruction, f"cannot read FROM {instruction.arguments}")
        self._image(words[0], instruction)
        self._stages.append(words[2].lower() if len(words) == 3 else str(len(self._stages)))

    def _flags(self, instruction: Instruction) -> None:
        rest = instruction.arguments
        while match := _FLAG.match(rest):
            rest = rest[match.end() :]
            source = match[2] if match[1] == "from" and instruction.word == "COPY" else None
            if match[1] == "mount" and match[2]:
                mounted = _MOUNT_FROM.search(match[2])
                source = mounted[1] if mounted else None
            if source:
                self._image(source, instruction)

    def _image(self, written: str, instruction: Instruction) -> None:
        try:
            name = shell_words.expand(
                written, self._globals, self._escape, unknown=self._of_platform
            )
        except Unset as error:
            if self._is_platform_stage(written):
                return
            name = self._with_empty(written, instruction, error)
        except Unreadable as error:
            raise self._unreadable(written, instruction, error) from error
        # FROM knows stages by their names only; COPY --from also by their numbers.
        is_stage = self._has_stage(name.lower()) and not (
            instruction.word == "FROM" and name.isdigit()
        )
        if name == "scratch" or is_stage or self._is_platform_stage(name):
            return
        if not name:
            raise self._error(
                instruction,
                f"the image {written} has no value",
                "give its ARG a default, or args in pipeline.yaml",
            )
        reference = Reference.familiar(name, where=f"{self._name}:{instruction.line}")
        if not reference.tag and not reference.digest:
            # As docker does; written out, so that a record names what was resolved.
            reference = reference._replace(tag="latest")
        self._bases.setdefault(
            f"{instruction.line} {written}", Base(reference, written, instruction.line)
        )

    def _with_empty(self, written: str, instruction: Instruction, error: Unset) -> str:
        """The name with nothing for what has no value, as BuildKit builds it with a warning."""
        try:
            name = shell_words.expand(
                written, self._globals, self._escape, unset="", unknown=self._of_platform
            )
            if not _PLATFORM.search(written) and Reference.familiar(name):
                return name
        except (ConfigurationError, Unset):
            pass
        except Unreadable as unreadable:  # behind what has no value
            raise self._unreadable(written, instruction, unreadable) from unreadable
        raise self._error(
            instruction,
            f"the image {written} has no value: {error}",
            "give its ARG a default, or args in pipeline.yaml",
        ) from error

    def _unreadable(
        self, written: str, instruction: Instruction, error: Unreadable
    ) -> ConfigurationError:
        return self._error(instruction, f"cannot read the image {written}: {error}")

    def _is_platform_stage(self, name: str) -> bool:
        """Is it a stage chosen by the platform that BuildKit builds for, like base-$TARGETARCH?"""
        parts = _PLATFORM.split(name)
        pattern = ".*".join(re.escape(part.lower()) for part in parts)
        return len(parts) > 1 and any(re.fullmatch(pattern, stage) for stage in self._stages)

    def _error(self, instruction: Instruction, what: str, advice: str = "") -> ConfigurationError:
        return ConfigurationError(what, where=f"{self._name}:{instruction.line}", advice=advice)
