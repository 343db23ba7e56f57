"""A command of brz that answers questions about one branch: brz itself loads this file
(BRZ_PLUGINS_AT) and runs it in its own Python, so it stands alone: breezy and the standard library.

A question is a line of JSON on standard input, [name, arguments]; the answer is a line of JSON on
standard output, {"answer": …, "sizes": […]}, and as many blocks of bytes as there are sizes. A
failure is {"error": its class, "text": …}. Revision ids and file ids are texts here, not bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from breezy import errors, globbing, ignores, lockdir, merge, ui, urlutils
from breezy.branch import Branch
from breezy.bzr import vf_search
from breezy.commands import Command, register_command
from breezy.controldir import ControlDir
from breezy.revision import NULL_REVISION

#: Seconds to wait for somebody else's lock; the caller may run again.
LOCK_WAIT = 5
#: The property of the unchanged commit that carries a tag's text: the name of that tag.
TAG_PROPERTY = "pipeline-steps-tag"
#: Names of folders in which other checkouts are recognised.
CONTROL_FOLDERS = (".bzr", ".git", ".svn", ".hg")
#: Mainline revisions that are compared at once.
AT_ONCE = 200

Bytes = list[bytes]


class Refused(Exception):
    """What our caller makes an error of: a code and its facts."""

    def __init__(self, code: str, **facts: str) -> None:
        super().__init__(json.dumps([code, facts]))


class cmd_pipeline_steps_answer(Command):  # type: ignore[misc]
    """Answer questions of pipeline_steps on standard input until it ends."""

    hidden = True
    takes_args = ("location?",)

    def run(self, location: str | None = None) -> None:
        """Nothing that breezy prints or asks for may get between the answers."""
        questions = os.fdopen(os.dup(0), "rb")
        answers = os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)
        ui.ui_factory = ui.SilentUIFactory()
        lockdir._DEFAULT_TIMEOUT_SECONDS = LOCK_WAIT
        answering = Answering(location)
        for line in questions:
            name, arguments = json.loads(line)
            data: Bytes = []
            try:
                answer, data = getattr(answering, f"answer_{name}")(**arguments)
                head = {"answer": answer, "sizes": [len(block) for block in data]}
            except (Exception, KeyboardInterrupt) as error:
                head = {"error": type(error).__name__, "text": text_of(error)}
                traceback.print_exc(limit=-4)
            answers.write(json.dumps(head).encode() + b"\n")
            for block in data:
                answers.write(block)
            answers.flush()


register_command(cmd_pipeline_steps_answer)


def text_of(error: BaseException) -> str:
    """What an error of breezy says, on one line."""
    try:
        text = str(error)
    except Exception:  # a message of breezy that cannot be formatted
        text = repr(error.args)
    return " ".join(text.split())


def text(data: bytes) -> str:
    """An id of Bazaar as a text."""
    return data.decode("utf-8", "surrogateescape")


def encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Answering:
    """The branch at a location, with its working tree where it has one."""

    def __init__(self, location: str | None) -> None:
        self._location = location
        self._opened: tuple[Any, Any] | None = None

    @property
    def _tree(self) -> Any:
        return self._open()[0]

    @property
    def _branch(self) -> Any:
        return self._open()[1]

    def _open(self) -> tuple[Any, Any]:
        if self._opened is None:
            directory = ControlDir.open(self._location)
            try:
                tree = directory.open_workingtree(recommend_upgrade=False)
                self._opened = tree, tree.branch
            except (errors.NoWorkingTree, errors.NotLocalUrl):
                self._opened = None, directory.open_branch()
        return self._opened

    # -- revisions ---

    def answer_head(self) -> tuple[Any, Bytes]:
        """The revision that is checked out ("" before the first), and the names of its branch."""
        with self._branch.lock_read():
            revision = (self._tree or self._branch).last_revision()
            return {
                "revision": "" if revision == NULL_REVISION else text(revision),
                "branch": self._branch.name or self._branch.nick,
                "bound": bool(self._branch.get_bound_location()) or self._is_elsewhere(),
                "remote": self._remote_location(),
            }, []

    def _is_elsewhere(self) -> bool:
        """Whether the branch is not in the checkout's own folder."""
        return (
            self._tree is not None
            and self._tree.controldir.control_url != self._branch.controldir.control_url
        )

    def answer_resolve(self, name: str) -> tuple[Any, Bytes]:
        """The revision that a tag, a revision id, a revno, a branch here names; None."""
        with self._branch.lock_read():
            revision = self._resolve(name)
            return None if revision is None else text(revision), []

    def _resolve(self, name: str) -> bytes | None:
        branch = self._branch
        name = name[4:] if name.startswith("tag:") else name
        if branch.supports_tags() and name in (tags := branch.tags.get_tag_dict()):
            return bytes(tags[name])
        identity = encoded(name[6:] if name.startswith("revid:") else name)
        is_possible = identity and not any(byte <= 32 for byte in identity)
        if is_possible and branch.repository.has_revision(identity):
            return identity
        parts = name.split(".")
        if len(parts) in (1, 3) and all(part.isdigit() for part in parts):
            try:
                return bytes(branch.dotted_revno_to_revision_id(tuple(map(int, parts))))
            except (
                errors.NoSuchRevision,
                errors.RevnoOutOfBounds,
                errors.GhostRevisionsHaveNoRevno,
            ):
                return None
        return None

    def answer_position(self, revision: str) -> tuple[Any, Bytes]:
        """The left-hand revno of a revision."""
        with self._branch.lock_read():
            revno, tip = self._branch.last_revision_info()
            graph = self._branch.repository.get_graph()
            return graph.find_distance_to_null(encoded(revision), [(tip, revno)]), []

    def answer_subjects(self, revisions: list[str]) -> tuple[Any, Bytes]:
        """The first lines of the messages of revisions."""
        with self._branch.lock_read():
            ids = [encoded(each) for each in revisions]
            revision_objects = self._branch.repository.get_revisions(ids)
            return [
                (each.message or "").strip().partition("\n")[0] for each in revision_objects
            ], []

    def answer_trees(self, revisions: list[str], base: str | None) -> tuple[Any, Bytes]:
        """For each revision, oldest first: its id, and what differs from the one before, `base` at
        first (None: from nothing). Of every file: its id, and None or parent, name, kind, content,
        revision.
        """
        with self._branch.lock_read():
            repository = self._branch.repository
            requested = [encoded(each) for each in dict.fromkeys(revisions)]
            present = repository.get_parent_map(requested)
            ordered = self._oldest_first([each for each in requested if each in present])
            ids = [*([encoded(base)] if base else []), *ordered]
            trees = list(repository.revision_trees(ids))
            former = trees.pop(0) if base else None
            answer = []
            for identity, tree in zip(ordered, trees, strict=True):
                answer.append([text(identity), list(self._differences(former, tree))])
                former = tree
            return answer, []

    def _oldest_first(self, ids: list[bytes]) -> list[bytes]:
        """Neighbours in history differ least."""
        if len(ids) < 2:
            return ids
        graph = self._branch.repository.get_known_graph_ancestry(ids)
        requested = set(ids)
        return [key for key in graph.topo_sort() if key in requested]

    def _differences(self, former: Any, tree: Any) -> Iterator[list[Any]]:
        inventory = tree.root_inventory
        if former is None:
            for _, entry in inventory.iter_entries():
                yield [text(entry.file_id), row(entry)]
            return
        for change in tree.iter_changes(former):
            entry = None if change.kind[1] is None else inventory.get_entry(change.file_id)
            yield [text(change.file_id), entry and row(entry)]

    def answer_texts(self, keys: list[list[str]]) -> tuple[Any, Bytes]:
        """The bytes of files, each given as [file id, revision], as they are stored."""
        with self._branch.lock_read():
            requests = [
                (encoded(file), encoded(revision), number)
                for number, (file, revision) in enumerate(keys)
            ]
            data: Bytes = [b""] * len(keys)
            for number, chunks in self._branch.repository.iter_files_bytes(requests):
                data[number] = b"".join(chunks)
            return None, data

    def answer_history(
        self, revision: str, paths: list[str], limit: int, after: str
    ) -> tuple[Any, Bytes]:
        """Left-hand revisions that changed one of the paths (none: all), newest first."""
        with self._branch.lock_read():
            changes: list[str] = []
            former: tuple[bytes, Any] | None = None
            for part in in_parts(self._line(encoded(revision), encoded(after))):
                trees = zip(part, self._branch.repository.revision_trees(part), strict=True)
                for identity, tree in trees:
                    if former and touches(former[1], tree, paths):
                        changes.append(text(former[0]))
                        if len(changes) == limit:
                            return changes, []
                    former = identity, tree
            if former and touches(former[1], self._before(former[0]), paths):
                changes.append(text(former[0]))
            return changes, []

    def _line(self, revision: bytes, after: bytes) -> Iterator[bytes]:
        """The left-hand line from a revision, newest first, without what leads to `after`."""
        graph = self._branch.repository.get_graph()
        unique = graph.find_unique_ancestors(revision, [after]) if after else None
        for identity in graph.iter_lefthand_ancestry(revision, (NULL_REVISION,)):
            if unique is not None and identity not in unique:
                return
            yield identity

    def _before(self, identity: bytes) -> Any:
        """The tree of the left-hand parent."""
        parents = self._branch.repository.get_parent_map([identity])[identity]
        parent = parents[0] if parents else NULL_REVISION
        return self._branch.repository.revision_tree(parent)

    # -- the working tree ---

    def answer_changes(self) -> tuple[Any, Bytes]:
        """The revision that is checked out, and what differs from it: path → kind, None for what
        is gone.
        """
        with self._tree.lock_read():
            basis = self._tree.basis_tree()
            with basis.lock_read():
                return [text(self._tree.last_revision()), self._changes(basis)], []

    def _changes(self, basis: Any) -> dict[str, str | None]:
        self._ignored = globbing.ExceptionGlobster(self._ignore_patterns())
        gone: dict[str, None] = {}
        present: dict[str, str] = {}
        for change in self._tree.iter_changes(basis, want_unversioned=True):
            old, new = change.path
            if not any(change.versioned):
                present.update(self._unversioned(new))
                continue
            was_folder, is_folder = (kind == "directory" for kind in change.kind)
            if old is not None and (not was_folder or old != new or not is_folder):
                gone.update(dict.fromkeys(files_below(basis, old)))
            if change.kind[1] == "tree-reference":
                present[new] = "submodule"
            elif change.kind[1] is not None and not is_folder:
                present[new] = self._kind(new)
            elif is_folder and old not in (None, new):
                present.update(self._moved(new))
            elif is_folder and old == new and not was_folder:
                present.update(self._unversioned_below(new))
        return {**gone, **present}

    def _moved(self, path: str) -> Iterator[tuple[str, str]]:
        """The versioned files in a folder that has another name."""
        for below in files_below(self._tree, path):
            if kind := self._kind(below):
                yield below, kind

    def _unversioned(self, path: str) -> Iterator[tuple[str, str]]:
        if self._tree.controldir.is_control_filename(path) or self._ignored.match(path):
            return
        kind = self._kind(path)
        if kind == "folder":
            yield from self._unversioned_below(path)
        elif kind:
            yield path, kind

    def _unversioned_below(self, path: str) -> Iterator[tuple[str, str]]:
        names = sorted(place.name for place in Path(self._tree.abspath(path)).iterdir())
        if any(name in CONTROL_FOLDERS for name in names):
            yield path, "submodule"
            return
        for name in names:
            if not self._tree.is_versioned(f"{path}/{name}"):
                yield from self._unversioned(f"{path}/{name}")

    def _ignore_patterns(self) -> set[str]:
        """brz's own defaults and the project's file: no answer may depend on the user's."""
        patterns = set(ignores.USER_DEFAULTS)
        rules = Path(self._tree.abspath(self._tree._format.ignore_filename))
        if rules.is_file():
            with rules.open("rb") as file:
                patterns.update(ignores.parse_ignore_file(file))
        return patterns

    def _kind(self, path: str) -> str:
        """The kind of what is on disk, "" for what no system stores."""
        place = Path(self._tree.abspath(path))
        if place.is_symlink():
            return "link"
        if place.is_dir():
            return "folder"
        if not place.is_file():
            return ""
        return "executable" if place.stat().st_mode & 0o100 else "file"

    def answer_files(self, paths: list[str]) -> tuple[Any, Bytes]:
        """Files of the working tree, as a commit would store them; targets of links."""
        with self._tree.lock_read():
            data: Bytes = []
            for path in paths:
                place = Path(self._tree.abspath(path))
                if place.is_symlink():
                    data.append(os.fsencode(place.readlink()))
                else:
                    with self._tree.get_file(path, filtered=True) as file:
                        data.append(file.read())
            return None, data

    def answer_is_versioned(self, path: str) -> tuple[Any, Bytes]:
        with self._tree.lock_read():
            return bool(self._tree.is_versioned(path)), []

    # -- other branches ---

    def answer_tip(self, name: str) -> tuple[Any, Bytes]:
        """The newest revision of another branch, copied here; None when there is none of that
        name.
        """
        other = self._other_branch(name)
        if other is None:
            return None, []
        revision = other.last_revision()
        if not self._is_elsewhere():  # a lightweight checkout has no revisions of its own
            fetch(self._branch.repository, other.repository, [], [revision])
        return text(revision), []

    def answer_base(self, name: str) -> tuple[Any, Bytes]:
        """The common ancestor of what is checked out and a branch, or a revision; None without
        one, "" where there is nothing of that name.
        """
        other = self._other_branch(name)
        with self._branch.lock_read():
            head = (self._tree or self._branch).last_revision()
            repository = self._branch.repository
            if other is None:
                tip = self._resolve(name)
                if tip is None:
                    return "", []
                base = repository.get_graph().find_unique_lca(head, tip)
            else:
                with other.lock_read():
                    graph = repository.get_graph(other.repository)
                    base = graph.find_unique_lca(head, other.last_revision())
            return None if base == NULL_REVISION else text(base), []

    def answer_common_ancestor(self, one: str, other: str) -> tuple[Any, Bytes]:
        """The common ancestor of two revisions that are here; None without one."""
        with self._branch.lock_read():
            graph = self._branch.repository.get_graph()
            base = graph.find_unique_lca(encoded(one), encoded(other))
            return None if base == NULL_REVISION else text(base), []

    def answer_parents(self, revision: str) -> tuple[Any, Bytes]:
        """The parents of a revision, without ghosts."""
        with self._branch.lock_read():
            repository = self._branch.repository
            parents = repository.get_parent_map([encoded(revision)]).get(encoded(revision), ())
            present = repository.get_parent_map(parents).keys() - {NULL_REVISION}
            return [text(each) for each in parents if each in present], []

    def answer_has_revision(self, revision: str) -> tuple[Any, Bytes]:
        with self._branch.lock_read():
            return bool(self._branch.repository.has_revision(encoded(revision))), []

    def answer_fetch_revision(self, url: str, revision: str) -> tuple[Any, Bytes]:
        """Copy a revision from the branch at a URL; False when that does not have it."""
        source = Branch.open(url)
        with source.lock_read(), self._branch.lock_write():
            if not source.repository.has_revision(encoded(revision)):
                return False, []
            fetch(self._branch.repository, source.repository, [encoded(revision)], [])
        return True, []

    def _other_branch(self, name: str) -> Any:
        """The parent, or whatever is beside this branch or bound to it, by its name; else a
        location.
        """
        if not name or name.startswith("-"):
            return None
        locations = [self._branch.get_bound_location(), self._branch.get_parent()]
        for location in locations:
            if location and named(location) == name:
                return Branch.open(location)
        if (self._branch.name or self._branch.nick) == name:
            return self._branch
        colocated = self._branch.controldir.get_branches()
        if name in colocated:
            return colocated[name]
        if "://" in name:
            return Branch.open(name)
        try:
            return Branch.open(urlutils.join(self._branch.user_url, "..", urlutils.escape(name)))
        except (errors.NotBranchError, urlutils.InvalidURLJoin):
            return None

    # -- tags ---

    def answer_tags(self) -> tuple[Any, Bytes]:
        """Name → revision, text, seconds since 1970; no text and time of a revision that is not
        here.
        """
        with self._branch.lock_read():
            tags = self._branch.tags.get_tag_dict() if self._branch.supports_tags() else {}
            repository = self._branch.repository
            present = list(repository.get_parent_map(set(tags.values())))
            revisions = {each.revision_id: each for each in repository.get_revisions(present)}
            return {name: tag(name, each, revisions.get(each)) for name, each in tags.items()}, []

    def answer_create_tag(
        self, name: str, revision: str, message: str, push: bool
    ) -> tuple[Any, Bytes]:
        """Tag a revision, in the branch that this one came from as well where `push` says so."""
        target = self._target(push)
        writer = Writer(self._tree, self._branch, target)
        with writer.locked():
            tagged_revision = writer.tag(name, encoded(revision), message)
            stored_revision = target.tags.get_tag_dict().get(name)
            if stored_revision != tagged_revision:
                raise Refused("NotThere", url=target.user_url)
            [revision] = self._branch.repository.get_revisions([tagged_revision])
            return tag(name, tagged_revision, revision), []

    def _target(self, push: bool) -> Any:
        """The branch that has the tags which count."""
        elsewhere = self._is_elsewhere()
        bound = self._branch.get_bound_location()
        if not push and (bound or elsewhere):
            raise Refused("Bound", url=bound or self._branch.user_url)
        if not push or elsewhere:
            return self._branch
        location = self._remote_location()
        if not location:
            raise Refused("NoParent")
        return Branch.open(location)

    def _remote_location(self) -> str:
        """The URL of the branch that has the tags which count: the one that is checked out from
        elsewhere or bound to, else the parent; "" without one.
        """
        branch = self._branch
        if self._is_elsewhere():
            return str(branch.user_url)
        location = branch.get_bound_location() or branch.get_parent() or branch.get_push_location()
        return str(location or "")

    # -- other repositories ---

    def answer_mirror(self, url: str) -> tuple[Any, Bytes]:
        """Copy the branch at a URL with the revisions of its tags into the location."""
        source = Branch.open(url)
        try:
            target = Branch.open(self._location)
        except errors.NotBranchError:
            form = source.controldir.cloning_metadir()
            target = ControlDir.create_branch_and_repo(self._location, format=form)
        with source.lock_read(), target.lock_write():
            revno, tip = source.last_revision_info()
            tags = source.tags.get_tag_dict() if source.supports_tags() else {}
            fetch(target.repository, source.repository, [tip], tags.values())
            target.set_last_revision_info(revno, tip)
            target.tags._set_tag_dict(tags)
        return None, []

    # -- proposals ---

    def answer_take(self, url: str, revision: str, target: str) -> tuple[Any, Bytes]:
        """Make the location a checkout of a revision ("": the newest) of the branch at a URL, with
        the tip and the tags of the target as its parent has them.
        """
        source, destination = Branch.open(url), Branch.open(target)
        branch = self._own_branch(destination)
        with source.lock_read(), destination.lock_read(), branch.lock_write():
            newest = source.last_revision()
            chosen = encoded(revision) or newest
            if not source.repository.get_graph().is_ancestor(chosen, newest):
                raise Refused("NotInBranch", revision=revision)
            tip, tags = destination.last_revision(), destination.tags.get_tag_dict()
            fetch(branch.repository, source.repository, [chosen], [])
            fetch(branch.repository, destination.repository, [tip], tags.values())
            branch.set_parent(target)
            branch.generate_revision_history(chosen)
            branch.tags._set_tag_dict(tags)
        if branch.controldir.has_workingtree():
            branch.controldir.destroy_workingtree_metadata()
        branch.controldir.create_workingtree()
        return {"revision": text(chosen), "tip": text(tip)}, []

    def _own_branch(self, other: Any) -> Any:
        """The branch at the location, made in the format of another one where there is none."""
        try:
            return Branch.open(self._location)
        except errors.NotBranchError:
            form = other.controldir.cloning_metadir()
            return ControlDir.create_branch_and_repo(
                self._location, force_new_repo=True, format=form
            )

    def answer_merged_by(self, revision: str, tip: str) -> tuple[Any, Bytes]:
        """The oldest left-hand ancestor of a tip that has a revision, "" for none."""
        with self._branch.lock_read():
            graph = self._branch.repository.get_graph()
            merger = graph.find_lefthand_merger(encoded(revision), encoded(tip))
            return text(merger) if merger else "", []

    def answer_merge(self, revision: str, tip: str, message: str) -> tuple[Any, Bytes]:
        """A commit, of no branch yet, that merges a revision into a tip."""
        branch, former_tip = self._branch, self._branch.last_revision()
        with branch.lock_write():
            # breezy looks for the common ancestor from the tip of the branch.
            branch.generate_revision_history(encoded(tip))
            try:
                return text(self._merged(encoded(tip), encoded(revision), message)), []
            finally:
                branch.generate_revision_history(former_tip)

    def _merged(self, tip: bytes, other: bytes, message: str) -> bytes:
        tree = self._branch.repository.revision_tree(tip)
        with tree.lock_read():
            merger = merge.Merger.from_revision_ids(
                tree, other, other_branch=self._branch, tree_branch=self._branch
            )
            merger.merge_type = merge.Merge3Merger
            merging = merger.make_merger()
            transform = merging.make_preview_transform()
            try:
                if merging.cooked_conflicts:
                    paths = sorted({each.path for each in merging.cooked_conflicts})
                    raise Refused("Conflicts", paths=json.dumps(paths))
                return self._commit(transform, [tip, other], message)
            finally:
                transform.finalize()

    def _commit(self, transform: Any, parents: list[bytes], message: str) -> bytes:
        """Commit what a transformation of the first parent's tree makes of it."""
        builder = self._branch.get_commit_builder(parents, self._branch.get_config_stack())
        try:
            changes = transform.iter_changes()
            list(builder.record_iter_changes(transform.get_preview_tree(), parents[0], changes))
            builder.finish_inventory()
            return bytes(builder.commit(message))
        except BaseException:
            builder.abort()
            raise

    def answer_push(self, url: str, merged: str, tip: str) -> tuple[Any, Bytes]:
        """Make a revision the tip of the branch at a URL, whose tip is still `tip`."""
        target, new_tip = Branch.open(url), encoded(merged)
        with self._branch.lock_read(), target.lock_write():
            now = target.last_revision()
            if now not in (encoded(tip), new_tip):
                raise Refused("TargetMoved")
            fetch(target.repository, self._branch.repository, [new_tip], [])
            target.generate_revision_history(new_tip)
        return None, []


class Writer:
    """What create_tag writes: into `branch`, whose checkout is `tree`, and `target`, which may be
    the same.
    """

    def __init__(self, tree: Any, branch: Any, target: Any) -> None:
        self._tree = tree
        self._branch = branch
        self._target = target
        self._repository = branch.repository

    def locked(self) -> Any:
        """Everything is locked before anything is written."""
        locks = contextlib.ExitStack()
        try:
            if self._tree is not None:
                locks.enter_context(self._tree.lock_write())
            locks.enter_context(self._branch.lock_write())
            locks.enter_context(self._target.lock_write())
        except BaseException:
            locks.close()
            raise
        return locks

    def tag(self, name: str, revision: bytes, message: str) -> bytes:
        """The revision that the tag names now, with the files of `revision`."""
        tip = self._target.last_revision()
        self._fetch_from_target([tip])
        if not self._repository.get_graph().is_ancestor(revision, tip):
            raise Refused("Unpushed", url=self._target.user_url)
        tagged_revision = self._existing(name, revision)
        if tagged_revision is None:
            tagged_revision = self._unchanged([revision], message, {TAG_PROPERTY: name})
        new_tip = tip
        is_plain = self._repository.get_graph().is_ancestor(tagged_revision, tip)
        if not is_plain and revision == tip:
            new_tip = tagged_revision
        elif not is_plain:
            # What no branch leads to is copied by no `brz branch`.
            new_tip = self._unchanged(
                [tip, tagged_revision], f"Keep the revision of the tag {name}", {}
            )
        self._write(name, tagged_revision, tip, new_tip)
        return tagged_revision

    def _existing(self, name: str, revision: bytes) -> bytes | None:
        """The revision of the tag that is there already. Raises Refused where it has other files."""
        places = {self._target.user_url: self._target, self._branch.user_url: self._branch}
        tags = {url: branch.tags.get_tag_dict().get(name) for url, branch in places.items()}
        self._fetch_from_target([each for each in tags.values() if each])
        for url, existing in tags.items():
            if existing and not self._repository.has_revision(existing):
                raise Refused("Dangling", url=url, revision=text(existing))
        present = {url: each for url, each in tags.items() if each}
        other = {
            url: each for url, each in present.items() if not self._has_same_files(each, revision)
        }
        local, remote = (tags[branch.user_url] for branch in (self._branch, self._target))
        if other and local and remote and not self._has_same_files(local, remote):
            raise Refused(
                "Moved", url=self._target.user_url, here=text(local), revision=text(remote)
            )
        for url, existing in other.items():
            raise Refused("Taken", url=url, revision=text(existing))
        return next(iter(present.values()), None)

    def _has_same_files(self, left: bytes, right: bytes) -> bool:
        if left == right:
            return True
        tree, former = self._repository.revision_trees([left, right])
        return not touches(tree, former, [])

    def _fetch_from_target(self, revisions: list[bytes]) -> None:
        if self._target is not self._branch:
            fetch(self._repository, self._target.repository, [], revisions)

    def _unchanged(self, parents: list[bytes], message: str, properties: dict[str, str]) -> bytes:
        """A commit, of no branch yet, with the files of its first parent."""
        builder = self._branch.get_commit_builder(
            parents, self._branch.get_config_stack(), revprops=properties
        )
        try:
            tree = self._repository.revision_tree(parents[0])
            list(builder.record_iter_changes(tree, parents[0], []))
            builder.finish_inventory()
            return bytes(builder.commit(message))
        except BaseException:
            builder.abort()
            raise

    def _write(self, name: str, tagged_revision: bytes, old_tip: bytes, new_tip: bytes) -> None:
        """Revisions, then the tag, then the tip: whenever this ends, running again goes on."""
        target, branch = self._target, self._branch
        if target is not branch:
            fetch(target.repository, self._repository, [tagged_revision, new_tip], [])
        if target.tags.get_tag_dict().get(name) != tagged_revision:
            target.tags.set_tag(name, tagged_revision)
        if new_tip != old_tip:
            target.generate_revision_history(new_tip)
        if target is branch and self._tree is not None:
            self._advance_tree(old_tip, new_tip)
        if target is not branch:
            self._follow(name, tagged_revision, old_tip, new_tip)

    def _follow(self, name: str, tagged_revision: bytes, old_tip: bytes, new_tip: bytes) -> None:
        """Make the local branch what a `brz pull` would make it, where that changes no file."""
        if self._branch.tags.get_tag_dict().get(name) != tagged_revision:
            tags = dict(self._branch.tags.get_tag_dict())
            self._branch.tags._set_tag_dict({**tags, name: tagged_revision})
        if self._branch.last_revision() == old_tip and new_tip != old_tip:
            revno = self._target.last_revision_info()[0]
            self._branch.set_last_revision_info(revno, new_tip)
            if self._tree is not None:
                self._advance_tree(old_tip, new_tip)

    def _advance_tree(self, old_tip: bytes, new_tip: bytes) -> None:
        parents = self._tree.get_parent_ids()
        if old_tip != new_tip and parents[:1] == [old_tip]:
            self._tree.set_parent_ids([new_tip, *parents[1:]])


def fetch(
    target: Any, source: Any, required: Iterable[bytes], optional_ids: Iterable[bytes]
) -> None:
    """Copy revisions with all that they rest on; `optional_ids` where the source has them."""
    missing = [each for each in required if not target.has_revision(each)]
    optional = [each for each in set(optional_ids) if not target.has_revision(each)]
    if not missing and not optional:
        return
    spec = vf_search.NotInOtherForRevs(
        target, source, required_ids=missing, if_present_ids=optional
    )
    with source.lock_read(), target.lock_write():
        target.fetch(source, fetch_spec=spec.execute())


def row(entry: Any) -> list[Any]:
    """Parent, name, kind, what tells its content, the revision that stored it."""
    kind, content = entry.kind, None
    if kind == "file":
        kind = "executable" if entry.executable else "file"
        content = text(entry.text_sha1)
    elif kind == "symlink":
        content = entry.symlink_target
    elif kind == "tree-reference":
        content = text(entry.reference_revision or b"")
    parent = entry.parent_id and text(entry.parent_id)
    return [parent, entry.name, kind, content, text(entry.revision)]


def tag(name: str, revision: bytes, stored: Any) -> list[Any]:
    """Revision, text, time. Only of a commit that was made for this very tag the message counts."""
    if stored is None:
        return [text(revision), "", None]
    message = stored.message if stored.properties.get(TAG_PROPERTY) == name else ""
    return [text(revision), message, int(stored.timestamp)]


def touches(tree: Any, former: Any, paths: list[str]) -> bool:
    """Whether a file at or below one of the paths (none: any) differs between two trees."""
    for change in tree.iter_changes(former):
        old, new = change.path
        is_folder = [kind in (None, "directory") for kind in change.kind]
        if all(is_folder) and (old is None or new is None):
            continue  # the files in it are changes of their own
        for path in (old, new):
            if path is not None and any(
                concerns(path, each, all(is_folder)) for each in paths or [""]
            ):
                return True
    return False


def concerns(changed: str, path: str, is_folder: bool) -> bool:
    if path in ("", ".", changed) or changed.startswith(f"{path}/"):
        return True
    return is_folder and (not changed or path.startswith(f"{changed}/"))


def files_below(tree: Any, path: str) -> Iterator[str]:
    """The versioned files at or below a path."""
    if not is_folder(tree, path):
        yield path
        return
    entry = tree.root_inventory.get_entry(tree.path2id(path))
    for below, each in tree.root_inventory.iter_entries(entry.file_id):
        if each.kind != "directory":
            yield f"{path}/{below}" if path else below


def is_folder(tree: Any, path: str) -> bool:
    identity = tree.path2id(path)
    return identity is not None and tree.root_inventory.get_entry(identity).kind == "directory"


def in_parts(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    """A few at first: most questions are about what changed lately."""
    part: list[bytes] = []
    size = 8
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part, size = [], min(AT_ONCE, size * 2)
    if part:
        yield part


def named(location: str) -> str:
    """The last part of a location."""
    return str(urlutils.unescape(urlutils.basename(location.rstrip("/"))))
