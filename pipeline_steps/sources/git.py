"""Git through the git program (2.30 or newer): checkouts, bare repositories, and tags of remote
ones.

`git_objects` reads files of revisions, `git_tree` the working tree, `git_program` runs git.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline_steps.auth.hosts import Host
from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.git_objects import Objects
from pipeline_steps.sources.git_tree import (
    CheckoutTree,
    no_commit_error,
    parse_changed_modes,
    parse_head,
    read_status,
)
from pipeline_steps.sources.source import Tag, Tree, refuse_password, without_login
from pipeline_steps.sources.tree import StoredTree, is_added_or_stored, is_pipeline_output
from pipeline_steps.toolbox import clock, files
from pipeline_steps.toolbox.errors import Conflict, MachineError, UsageError

# git keeps the signature at the end of the tag's text, and `contents` shows it.
_SIGNATURE = re.compile(
    r"^-----BEGIN (PGP|SSH|SIGNED) (SIGNATURE|MESSAGE)-----.*", re.DOTALL | re.MULTILINE
)
_FIELDS = (
    "%(refname:strip=2)%00%(objectname)%00%(objecttype)%00%(*objectname)%00"
    "%(creatordate:unix)%00%(contents)%00"
)
#: Six fields for each tag, each ended by NUL.
_TAGS = ("for-each-ref", f"--format={_FIELDS}", "refs/tags")
_TIMES = ("for-each-ref", "--format=%(refname:strip=2) %(*committerdate:unix)", "refs/tags")
_COMPARED = ("-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=none")
#: The one reference that is named, whatever push.followTags and submodule.recurse say.
_PUSH = ("push", "--porcelain", "--no-follow-tags", "--recurse-submodules=no")
_MIRRORED = ("--quiet", "--prune", "--no-tags", "--no-recurse-submodules")
_FETCHED = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--refmap=")
_FULL = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

#: How the whole history gets here, by hand and in a CI.
_UNSHALLOW = (
    "run git fetch --unshallow (GitHub Actions: fetch-depth: 0, GitLab: GIT_DEPTH: 0, Jenkins: clone "
    "option without shallow)"
)


class Git:
    """The checkout with the top folder `root`, or a bare repository; see `source.Source`.

    A revision is a full commit id.
    """

    system = "git"
    fetch_command = "git fetch --all --tags"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts: Mapping[str, Host] = {}  # git has stores of its own
        self.revisions = Objects(root)
        self._counts: dict[str, int] = {}

    @functools.cached_property
    def _head(self) -> str:
        """The commit that is checked out, asked alone: a bare repository has one, too."""
        commit = self.revisions.head()
        if not commit:
            raise no_commit_error(self.root)
        return commit

    @functools.cached_property
    def _branch(self) -> str | None:
        """The branch that is checked out, asked alone."""
        completed = program.call(self.root, "symbolic-ref", "--quiet", "HEAD")
        if completed.code not in (0, 1):  # 1: a detached checkout
            raise program.failure(self.root, completed)
        name = completed.stdout.decode("utf-8", "surrogateescape").strip()
        return name.removeprefix("refs/heads/") if name.startswith("refs/heads/") else None

    @functools.cached_property
    def shallow(self) -> bool:
        """Whether this is a shallow clone."""
        git_folder = self.root / ".git"
        # Git asks for the same file.
        if git_folder.is_dir() and not (git_folder / "shallow").exists():
            return False
        return program.output(self.root, "rev-parse", "--is-shallow-repository").strip() == b"true"

    def revision(self, name: str = "") -> str:
        """The full commit id of HEAD, or of `name`."""
        if not name:
            return self._head
        # git would take the former for an option, and no argument of a program can hold the latter.
        commit = None if name.startswith("-") or "\0" in name else self._commit(name)
        if not commit:
            advice = (
                _UNSHALLOW if self.shallow else f"run {self.fetch_command}, or correct the name"
            )
            raise UsageError(
                f"there is no revision {name!r} here", where=str(self.root), advice=advice
            )
        return commit

    def _commit(self, name: str) -> str:
        completed = program.call(
            self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        return program.object_id(self.root, completed.stdout) if completed.ok else ""

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder`; None: the working tree with its uncommitted
        changes.
        """
        if revision is not None:
            return StoredTree(self.revisions, self._full_id(revision), folder)
        status = read_status(self.root, folder)
        self._head, self._branch = parse_head(status, self.root)
        return CheckoutTree(
            self.revisions, self._head, folder, parse_changed_modes(status, folder, self.root)
        )

    def is_versioned(self, path: str) -> bool:
        """Whether a file is in the index, under a name that git takes literally."""
        return bool(program.output(self.root, "ls-files", "-z", "--", path))

    def is_tracked(self, path: str) -> bool:
        """Whether a file is in the revision that is checked out, or added."""
        return is_added_or_stored(self, path)

    def branch(self) -> str | None:
        """The branch that is checked out, None when HEAD is detached."""
        return self._branch

    def tip(self, branch: str) -> str:
        """The newest commit of a branch: of the remote as last fetched, else of the local
        branch.
        """
        commit = self._remote_branch(branch) or (
            "" if branch.startswith("-") else self._commit(f"refs/heads/{branch}")
        )
        if not commit:
            remote = self._remote()
            advice = f"run git fetch {remote} +refs/heads/{branch}:refs/remotes/{remote}/{branch}"
            raise UsageError(
                f"the branch {branch!r} is not here", where=str(self.root), advice=advice
            )
        return commit

    def base(self, target: str) -> str:
        """The merge base of HEAD and `target`: of the remote's branch, else of what `target` names
        here.
        """
        commit = self._remote_branch(target) or self.revision(target)
        completed = program.call(self.root, "merge-base", self.revision(), commit)
        if completed.ok:
            return program.object_id(self.root, completed.stdout)
        # git merge-base exits with 1 when there is none, with 128 for errors.
        if completed.code != 1:
            raise program.failure(self.root, completed)
        if self.shallow:
            raise self._shallow_error(f"the common ancestor with {target}")
        raise UsageError(
            f"HEAD and {target} have no common ancestor",
            where=str(self.root),
            advice="name a branch that this one came from: --since; in a shallow clone: git fetch --unshallow",
        )

    def common_ancestor(self, one: str, other: str) -> str | None:
        """The merge base of two commits; None without any."""
        pair = (self._full_id(one), self._full_id(other))
        completed = program.call(self.root, "merge-base", *pair)
        if completed.ok:
            return program.object_id(self.root, completed.stdout)
        if completed.code != 1:
            raise program.failure(self.root, completed)
        self._require_full_history()
        return None

    def parents(self, revision: str) -> tuple[str, ...]:
        """The parents of a commit, the first one first."""
        listed = program.output(
            self.root, "rev-list", "--parents", "--max-count=1", self._full_id(revision), "--"
        )
        parents = program.object_ids(self.root, listed)[1:]
        if not parents:  # of the oldest commit of a shallow clone git says the same
            self._require_full_history()
        return tuple(parents)

    def fetch_revision(self, revision: str, reference: str) -> None:
        """Fetch a commit by a reference of the remote, or by its own id; no reference here
        changes.
        """
        if self._commit(revision):
            return
        # A reference that begins with + or has a colon would write into one here.
        if not _FULL.fullmatch(revision) or re.search(r"^[-+^]|[:\s*]", reference):
            raise UsageError(
                f"{reference!r} cannot be fetched", where=str(self.root), advice="correct the name"
            )
        remote = self._remote()
        fetched = program.call(self.root, "fetch", *_FETCHED, remote, reference, remote=True)
        if self._commit(revision):
            return
        error = program.failure(self.root, fetched)
        # Of its words only those about the server say more than that it is not there.
        if not fetched.ok and type(error) is not MachineError:
            raise error
        raise UsageError(
            f"the revision {revision[:12]} is not in {reference} of {remote}",
            where=str(self.root),
            advice="it was removed there: approve the revision that is there now",
        )

    def subjects(self, revisions: Sequence[str]) -> list[str]:
        """The subject of each commit."""
        if not revisions:
            return []
        shown = program.output(
            self.root, "rev-list", "--no-walk=unsorted", "--format=%s", *revisions, "--"
        )
        # Of each commit a line with its id comes first.
        return shown.decode("utf-8", "replace").split("\n")[1::2]

    def fetch_tip(self, branch: str) -> str:
        """Fetch the remote's branch, and no tags."""
        remote, ref = self._remote(), f"refs/heads/{branch}"
        if branch.startswith("-") or not program.call(self.root, "check-ref-format", ref).ok:
            raise UsageError(
                f"{branch!r} is no name of a branch",
                where=str(self.root),
                advice="correct the name",
            )
        refs = f"+{ref}:refs/remotes/{remote}/{branch}"
        fetched = program.call(self.root, "fetch", *_FETCHED, remote, refs, remote=True)
        if not fetched.ok:
            raise program.failure(self.root, fetched)
        return self.tip(branch)

    def _remote_branch(self, name: str) -> str:
        """The commit of the remote's branch as last fetched, or ""."""
        # What no branch may be called: v1~3 or a glob must not be read as the remote's branch of
        # that name.
        if name == "HEAD" or re.search(r"[\^~:@{?*\[\\\s]|^-|\.\.", name):
            return ""
        ref = f"refs/remotes/{self._remote()}/{name}"
        listed = program.output(self.root, "for-each-ref", "--format=%(refname) %(objectname)", ref)
        # for-each-ref matches whole folders of refs, too: only the very name counts.
        return dict(program.pairs(listed, " ")).get(ref, "")

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder`, relative to it, that differ between two commits."""
        compared = [
            self._full_id(base),
            self._full_id(revision),
            "--",
            *([folder] if folder else []),
        ]
        listed = program.output(self.root, "diff-tree", *_COMPARED, *compared)
        below = f"{folder}/" if folder else ""
        paths = (
            path[len(below) :] for path in program.nul_separated(listed) if path.startswith(below)
        )
        return tuple(sorted(path for path in paths if not is_pipeline_output(path)))

    def history(
        self, revision: str, paths: Sequence[str], limit: int, after: str = ""
    ) -> tuple[str, ...]:
        """The first-parent commits that changed one of `paths`; a merge counts as the changes it
        brought.
        """
        self._require_full_history()
        newest = self._full_id(revision)
        options = [f"--max-count={limit}", "--first-parent", *([f"^{after}"] if after else [])]
        # Not `git log`, which shows signatures, or whatever else the user's configuration asks for.
        listed = program.output(self.root, "rev-list", *options, newest, "--", *paths)
        return tuple(program.object_ids(self.root, listed))

    def position(self, revision: str) -> int:
        """The number of commits that lead to `revision`, over all parents."""
        self._require_full_history()
        commit = self._full_id(revision)
        if commit not in self._counts:
            counted = program.output(self.root, "rev-list", "--count", commit, "--")
            text = counted.decode(errors="replace").strip()
            self._counts[commit] = program.number(self.root, text)
        return self._counts[commit]

    def _require_full_history(self) -> None:
        if self.shallow:
            raise self._shallow_error("the number of commits")

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """The local tags whose names match the shell pattern."""
        commit_times = functools.cache(self._commit_times)
        listed = program.output(self.root, *_TAGS)
        fields = listed.decode("utf-8", "surrogateescape").split("\0")
        if len(fields) % 6 != 1:
            raise program.unexpected_answer(self.root, fields[-1], "the tags")
        tags = {}
        for name, identity, kind, target, created, text in zip(
            # Split at NUL: a tag's text may have any line.
            *(fields[n:-1:6] for n in range(6)),
            strict=True,
        ):
            name = name.removeprefix("\n")
            # Of a file or tree, too: whoever reads its revision says that it is no commit.
            if fnmatch.fnmatchcase(name, pattern):
                message = _SIGNATURE.sub("", text).rstrip("\n") if kind == "tag" else ""
                written = created or commit_times().get(name) or "0"
                seconds = program.number(self.root, written)
                tags[name] = Tag(name, target or identity, message, clock.rfc3339(seconds))
        return tags

    def _commit_times(self) -> dict[str, str]:
        """Tag → when its commit was made, in seconds since 1970, for tags without a time of their
        own: git's first tags named no tagger.
        """
        return dict(program.pairs(program.output(self.root, *_TIMES), " "))

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Create an annotated tag; the same tag again is success.

        push: also push it to the remote, and read it back from there.
        """
        if (
            name.startswith("-")
            or not program.call(self.root, "check-ref-format", f"refs/tags/{name}").ok
        ):
            raise UsageError(
                f"{name!r} cannot be the name of a tag",
                where=str(self.root),
                advice="correct release.tag",
            )
        commit = self.revision(revision)
        remote = self._remote() if push else ""
        # Look first: a local tag that cannot be pushed would have to be removed again.
        remote_commit = self._remote_tag(remote, name) if push else ""
        self._refuse_other_commit(name, commit, remote_commit, f"at {remote}")
        tag, is_new = self._create_local_tag(name, commit, message)
        if push and not remote_commit:
            self._push_tag(remote, tag, is_new)
        return tag

    def _create_local_tag(self, name: str, commit: str, message: str) -> tuple[Tag, bool]:
        """The local tag, and whether it was created now."""
        completed = None
        if name not in self.tags():
            # Not through a pipe: if this process is killed, git would take the closed pipe for the
            # end of the message and create the tag.
            message_option = f"--message={message or name}"
            completed = program.call(
                self.root, "tag", "-a", "--cleanup=verbatim", message_option, name, commit
            )
        tag = self.tags().get(name)
        # `git tag` failed, and no other process created it meanwhile.
        if tag is None:
            assert completed is not None
            raise program.failure(self.root, completed)
        self._refuse_other_commit(name, commit, self.revision(f"refs/tags/{name}"), "here")
        return tag._replace(revision=commit), bool(completed and completed.ok)

    def _push_tag(self, remote: str, tag: Tag, is_new: bool) -> None:
        ref = f"refs/tags/{tag.name}"
        pushed = program.call(self.root, *_PUSH, remote, f"{ref}:{ref}", remote=True)
        remote_commit = self._remote_tag(remote, tag.name)
        if remote_commit and remote_commit != tag.revision and is_new:
            # Another push came first: remove our local tag, which differs from the remote's.
            program.output(self.root, "update-ref", "-d", ref)
        self._refuse_other_commit(tag.name, tag.revision, remote_commit, f"at {remote}")
        if not remote_commit and not pushed.ok:
            raise program.failure(self.root, pushed)
        if not remote_commit:
            raise MachineError(
                f"git pushed the tag {tag.name}, but {remote} does not have it",
                where=str(self.root),
                advice="run it again; a hook or a rule of the server may refuse tags",
            )

    def remote_tag(self, tag: Tag) -> Tag:
        """See `source.RemoteTags`."""
        if not self.remote_url:
            return tag
        remote, ref = self._remote(), f"refs/tags/{tag.name}"
        listed = self._listed_tag(remote, tag.name)
        if listed.get(f"{ref}^{{}}") != tag.revision or ref not in listed:
            return tag
        fetched = program.call(self.root, "fetch", *_FETCHED, remote, ref, remote=True)
        if not fetched.ok:
            raise program.failure(self.root, fetched)
        data = program.output(self.root, "cat-file", "tag", listed[ref])
        text = data.decode("utf-8", "surrogateescape").partition("\n\n")[2]
        return tag._replace(message=_SIGNATURE.sub("", text).rstrip("\n"))

    def _remote_tag(self, remote: str, name: str) -> str:
        """The commit of the remote's tag now, "" when there is none."""
        ref = f"refs/tags/{name}"
        listed = self._listed_tag(remote, name)
        return listed.get(f"{ref}^{{}}") or listed.get(ref, "")

    def _listed_tag(self, remote: str, name: str) -> dict[str, str]:
        """Reference → object. An annotated tag is listed twice: as itself, and with ^{} the commit
        that it names.
        """
        ref = f"refs/tags/{name}"
        listed = program.output(self.root, "ls-remote", remote, ref, f"{ref}^{{}}", remote=True)
        return {name: identity for identity, name in program.pairs(listed, "\t")}

    def _refuse_other_commit(self, name: str, commit: str, existing: str, where: str) -> None:
        if existing and existing != commit:
            raise Conflict(
                f"the tag {name} exists {where} and names {existing[:12]}, not {commit[:12]}",
                where=str(self.root),
                advice="a tag is never moved: raise the version, or tag that revision",
            )

    def _remote(self) -> str:
        """The remote of the current branch, else the only remote, else origin."""
        listed = program.call(
            self.root, "config", "--null", "--get-regexp", r"^(branch\..*\.remote|remote\..*\.url)$"
        )
        settings = dict(
            text.split("\n", 1) for text in program.nul_separated(listed.stdout) if "\n" in text
        )
        # "." is git's name for this very repository, which is no remote.
        of_branch = settings.get(f"branch.{self.branch()}.remote", ".")
        remotes = [
            key[len("remote.") : -len(".url")] for key in settings if key.startswith("remote.")
        ]
        if of_branch in remotes:
            return of_branch
        return remotes[0] if len(remotes) == 1 else "origin"

    def checkout_command(self, revision: str, reference: str) -> str:
        """Fetch the reference alone, and switch to the revision itself: the reference may move."""
        fetch = shlex.join(["git", "fetch", self._remote(), reference])
        return f"{fetch} && {shlex.join(['git', 'switch', '--detach', revision])}"

    @property
    def remote_url(self) -> str:
        """The remote's URL as git uses it (url.X.insteadOf counts), "" without a remote."""
        # Not `ls-remote --get-url`, which returns the name of a remote that does not exist.
        answer = program.call(self.root, "remote", "get-url", "--", self._remote())
        url = answer.stdout.decode("utf-8", "surrogateescape").rstrip("\n") if answer.ok else ""
        return without_login(url)

    def _full_id(self, revision: str) -> str:
        return revision if _FULL.fullmatch(revision) else self.revision(revision)

    def _shallow_error(self, subject: str) -> MachineError:
        return MachineError(
            f"{subject} cannot be found: this is a shallow clone",
            where=str(self.root),
            advice=_UNSHALLOW,
        )


def is_bare(folder: Path) -> bool:
    """Whether `folder` is a bare repository."""
    # Looked at without git, which would take a repository in the folders above as well.
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir()


def mirror(url: str, cache: Path, _hosts: Mapping[str, Host]) -> Git:
    """A bare copy of the repository at `url` with all its tags, updated now, in the folder `cache`.

    Raises UsageError for a password in the URL, AccessRefused, Unreachable, Temporary.
    """
    refuse_password(url, "leave it to git: a credential helper, GIT_ASKPASS or an SSH agent")
    repository = files.folder(cache / f"{files.sha256(url.encode())[7:23]}.git")
    with files.locked(repository / "pipeline-steps.lock"):
        if not (repository / "HEAD").exists():
            program.output(repository, "init", "--quiet", "--bare", "--template=")
        # A tag that was moved or removed there is moved or removed here.
        arguments = (*_MIRRORED, "--", url, "+refs/tags/*:refs/tags/*")
        fetched = program.call(repository, "fetch", *arguments, remote=True, timeout=program.WHOLE)
        if not fetched.ok:
            error = program.failure(repository, fetched)
            error.where = without_login(url)
            raise error
    return Git(repository)
