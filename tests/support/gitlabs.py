"""A double of GitLab's REST API that keeps state: merge requests, approvals, statuses, notes,
merge trains. Commits and merges are those of a real git repository.

GitLab itself cannot be had here, nor a description that machines read: each answer is written after
a page of GitLab's documentation (18), named where it is made. What the pages leave open follows
what users report, and says so. Requests that no page describes are refused, and noted in `wrong`.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests.support.github import Answer, Request, running_server
from tests.support.hosted_git import HostedGit

TOKENS = {"token-of-ci": "ci", "token-of-eve": "eve", "token-of-bob": "bob", "job": "job-token"}
WRITE, STRANGER, JOB = "token-of-ci", "token-of-eve", "job"


class Refused(Exception):
    """A request that is answered with an error ("REST API troubleshooting")."""

    def __init__(self, status: int, message: Any) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"message": message})


class Project:
    """What one project holds, and what people do there.

    people: account → access level ("Members API": 30 Developer, 20 Reporter). method: "merge",
    "squash", "fast-forward", "semi-linear" ("Merge methods": a merge commit, where a fast-forward is
    possible). trains: merge
    requests on trains, None without them. approvals_needed: rules. tells_times: does it tell
    `approved_at` (since 18)? ride: status of those on trains. push_rule: its words against every
    merge commit. pipelines: number and revision of each; jobs: what is called so in each of them.
    """

    def __init__(self, folder: Path) -> None:
        self.git = HostedGit(folder)
        self.people: dict[str, int] = {"ci": 40}
        self.requests: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.pipelines: list[tuple[int, str]] = []
        self.jobs: set[str] = set()
        self.notes: list[dict[str, Any]] = []
        self.method = "merge"
        self.trains: list[int] | None = None
        self.approvals_needed = 0
        self.pipeline_must_succeed = False
        self.ride = "fresh"
        self.push_rule = ""
        self.tells_times = True
        self.groups: dict[str, list[str]] = {}
        self.forks: set[str] = set()
        self.blocked: set[str] = set()
        self._seconds = 0
        self._ids = 100

    def now(self) -> str:
        """A time of its own for everything that happens."""
        self._seconds += 1
        return self._time(self._seconds)

    def wait(self, seconds: int) -> None:
        """Nothing happens for so long."""
        self._seconds += seconds

    def _time(self, seconds: int) -> str:
        """With milliseconds, as GitLab has them."""
        moment = datetime.fromtimestamp(1767225600 + seconds, timezone.utc)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.123Z")

    def id(self) -> int:
        self._ids += 1
        return self._ids

    def open(
        self, author: str, branch: str, *, title: str = "Change", target: str = "main",
        draft: bool = False,
    ) -> int:  # fmt: skip
        number = len(self.requests) + 1
        self.requests[number] = {
            "iid": number, "title": title, "author": author, "branch": branch, "target": target,
            "draft": draft, "state": "opened", "merge_commit_sha": None, "squash_commit_sha": None,
            "merged_commit_sha": None,
            "sha": "", "versions": [], "approvals": {}, "reviewers": {}, "checked": "",
            "merge_error": None, "merge_when_pipeline_succeeds": False,
        }  # fmt: skip
        self.pushed(number)
        return number

    def pushed(self, number: int) -> None:
        """A push makes a version ("Merge requests API", versions), and moves its reference."""
        request = self.requests[number]
        head, target = self.git.tip(request["branch"]), self.git.tip(request["target"])
        request["sha"], request["commits"] = head, self.git.commits(target, head)
        self.git.git("update-ref", f"refs/merge-requests/{number}/head", head)
        base = self.git.git("merge-base", target, head)
        request["diff_refs"] = {"base_sha": base, "head_sha": head, "start_sha": target}
        request["versions"].append(
            {"id": self.id(), "head_commit_sha": head, "created_at": self.now()}
        )

    def approve(self, number: int, login: str, *, noted_after: int = 0) -> None:
        """An approval, with the system note that it leaves: written so many seconds later, by a job
        in the background (app/workers/merge_requests/create_approval_note_worker.rb).
        """
        self.requests[number]["approvals"][login] = self.now()
        noted = self._time(self._seconds + noted_after)
        self._note(number, login, "approved this merge request", noted, system=True)
        self.requests[number]["reviewers"].pop(login, None)

    def retarget(self, number: int, login: str, target: str) -> None:
        """Another target branch, with the system note that it leaves. Approvals stay."""
        request = self.requests[number]
        words = f"changed target branch from `{request['target']}` to `{target}`"
        request["target"] = target
        self._note(number, login, words, self.now(), system=True)

    def request_changes(self, number: int, login: str) -> None:
        self.requests[number]["reviewers"][login] = "requested_changes"

    def _note(
        self, number: int, login: str, body: str, moment: str, *, system: bool
    ) -> dict[str, Any]:
        note = {
            "id": self.id(), "iid": number, "body": body, "system": system, "created_at": moment,
            "author": person(login),
        }  # fmt: skip
        self.notes.append(note)
        return note

    def comment(self, number: int, login: str, body: str) -> dict[str, Any]:
        return self._note(number, login, body, self.now(), system=False)

    def merge(self, number: int, message: str = "merge") -> None:
        """Merge, as the button does ("Merge methods")."""
        request = self.requests[number]
        method = "merge" if self.method == "semi-linear" else self.method
        # "Merge trains", fast-forward: the train rebases (merge_strategies/from_train_ref.rb).
        if self.trains is not None and method == "fast-forward":
            method = "rebase"
        commit = self.git.merge(request["target"], request["sha"], method, message)
        request["state"], request["merged_commit_sha"] = "merged", commit
        if method == "merge":
            request["merge_commit_sha"] = commit
        if method == "squash":
            request["squash_commit_sha"] = commit

    def pipeline(self, revision: str) -> int:
        """A new pipeline for a revision."""
        self.pipelines.append((self.id(), revision))
        return self.pipelines[-1][0]

    def clean_up(self, number: int) -> None:
        """What is left of a merge request 14 days after its merge: its source branch was deleted
        with it, its reference then; its commits stay ("Troubleshooting merge requests").
        """
        branch = self.requests[number]["branch"]
        for name in (f"refs/merge-requests/{number}/head", f"refs/heads/{branch}"):
            self.git.git("update-ref", "-d", name)

    def passing(self, revision: str, name: str) -> str | None:
        of_name = [
            each for each in self.statuses if (each["sha"], each["name"]) == (revision, name)
        ]
        return str(of_name[-1]["status"]) if of_name else None

    def merge_status(self, request: Mapping[str, Any]) -> str:
        """detailed_merge_status ("Merge status"): the first that is in the way."""
        target = self.git.tip(request["target"])
        approvals = [name for name in request["approvals"] if self.people.get(name, 0) >= 30]
        state = self.passing(request["sha"], "pipeline-steps")
        states = (
            (request["state"] != "opened", "not_open"),
            (request["draft"], "draft_status"),
            (request["checked"] != f"{request['sha']}{target}", "unchecked"),
            (not self.git.merged_tree(target, request["sha"]), "conflict"),
            (
                self.method in ("fast-forward", "semi-linear")
                and self.git.commits(request["sha"], target) != [],
                "need_rebase",
            ),
            (bool(request["reviewers"]), "requested_changes"),
            (len(approvals) < self.approvals_needed, "not_approved"),
            (self.pipeline_must_succeed and state == "running", "ci_still_running"),
            (self.pipeline_must_succeed and state != "success", "ci_must_pass"),
        )
        return next((status for applies, status in states if applies), "mergeable")


def person(login: str) -> dict[str, Any]:
    """A user as lists have it ("Users API")."""
    number = sum(login.encode())
    return {"id": number, "username": login, "name": login.title(), "state": "active"}


Route = Callable[["Gitlab", Project, Request, "re.Match[str]"], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


#: Parameters that the pages of lists name, beside those of pagination. GitLab ignores others.
PARAMETERS = {
    r"/merge_requests/(\d+)/notes": {"sort", "order_by"},
    "/repository/commits/([^/]+)/statuses": {
        "ref", "stage", "name", "pipeline_id", "order_by", "sort", "all",
    },
}  # fmt: skip


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Answer requests to a path below a project with this function."""

    def register(function: Route) -> Route:
        ROUTES.append((method, re.compile(path), function))
        return function

    return register


class Gitlab:
    """The server. fault: asked before each request is answered; an Answer takes the place of
    GitLab's, "lose" loses it.
    """

    def __init__(self) -> None:
        self.projects: dict[str, Project] = {}
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        self.scopes = ["api"]
        self.fault: Callable[[Request], Answer | str | None] = lambda _: None
        self._lock = threading.Lock()
        self._server = running_server(self._answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        with self._lock:
            parts = urlsplit(target)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            request = Request(len(self.requests) + 1, method, parts.path, query, headers, body)
            self.requests.append(request)
            fault = self.fault(request)
            if isinstance(fault, Answer):
                return fault
            try:
                answer = self._answered(request)
            except Refused as refused:
                answer = refused.answer
            return None if fault == "lose" else answer

    def _answered(self, request: Request) -> Answer:
        login = self.account(request)
        if request.path == "/api/v4/user":  # "Users API": not with a job token
            if login == "job-token":
                raise Refused(401, "401 Unauthorized")
            return Answer(200, person(login))
        if request.path == "/api/v4/personal_access_tokens/self":  # "Personal access tokens API"
            return Answer(200, {"id": 1, "name": "ci", "scopes": self.scopes, "active": True})
        if found := re.fullmatch(r"/api/v4/groups/([^/]+)/members/all", request.path):
            return self._group(request, unquote(found[1]))
        found = re.fullmatch(r"/api/v4/projects/([^/]+)(/.*)?", request.path)
        project = self.projects.get(unquote(found[1])) if found else None
        if found is None or project is None:
            raise Refused(404, "404 Project Not Found")
        for method, pattern, function in ROUTES:
            match = pattern.fullmatch(found[2] or "")
            if match and method == request.method:
                known = {"page", "per_page"} | PARAMETERS.get(pattern.pattern, set())
                if unknown := set(request.query) - known:
                    self.wrong.append(f"{request.path}: no parameter {', '.join(sorted(unknown))}")
                self._check_rights(project, request, login)
                return function(self, project, request, match)
        self.wrong.append(f"{request.method} {request.path}: no page describes it")
        raise Refused(404, "404 Not Found")

    def account(self, request: Request) -> str:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in TOKENS:
            raise Refused(401, "401 Unauthorized")
        return TOKENS[token]

    def _check_rights(self, project: Project, request: Request, login: str) -> None:
        """Writing takes Developer ("Roles and permissions"); a job token writes neither statuses
        nor notes ("CI/CD job token").
        """
        if request.method == "GET":
            return
        # "Merge a merge request", table of errors, and of a train (ee/lib/api/merge_trains.rb): 401
        # for who may not merge it.
        if re.search("/merge$|/merge_trains/", request.path) and project.people.get(login, 0) < 30:
            raise Refused(401, "401 Unauthorized")
        if login == "job-token" or project.people.get(login, 0) < 30:
            raise Refused(403, "403 Forbidden")

    def _group(self, request: Request, name: str) -> Answer:
        """ "Members API", list all members of a group, with inherited ones."""
        for project in self.projects.values():
            if name in project.groups:
                people = [{**person(login), "access_level": 30} for login in project.groups[name]]
                return self.page(request, people)
        raise Refused(404, "404 Group Not Found")

    def page(self, request: Request, items: list[Any]) -> Answer:
        """One page of a list ("REST API", pagination by offset)."""
        size, number = int(request.query.get("per_page", 20)), int(request.query.get("page", 1))
        if size > 100:
            self.wrong.append(f"{request.path}: a page has at most 100 items")
        query = urlencode({**request.query, "page": number + 1})
        following = f"{self.url}{request.path}?{query}"
        more = {"Link": f'<{following}>; rel="next"'} if len(items) > size * number else {}
        return Answer(200, items[size * (number - 1) : size * number], more)

    def fields(self, request: Request, needed: set[str], more: set[str]) -> Any:
        """The body, an object with these fields and, maybe, more."""
        body = json.loads(request.body)
        if request.headers.get("Content-Type") != "application/json":
            self.wrong.append(f"{request.method} {request.path}: its body is not sent as JSON")
        if not needed <= set(body) or set(body) - needed - more:
            self.wrong.append(f"{request.method} {request.path}: fields {sorted(body)}")
            raise Refused(400, f"fields {sorted(body)}")
        return body


@route("GET", "")
def _project(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Projects API", get a single project."""
    level = project.people.get(hub.account(request), 0)
    access = {"access_level": level, "notification_level": 3} if level else None
    return Answer(200, {
        "id": 7, "path_with_namespace": "group/charts",
        "merge_trains_enabled": project.trains is not None,
        "permissions": {"project_access": access, "group_access": None},
    })  # fmt: skip


def _one(project: Project, match: re.Match[str]) -> dict[str, Any]:
    if int(match[1]) not in project.requests:
        raise Refused(404, "404 Not found")
    return project.requests[int(match[1])]


def _told(hub: Gitlab, project: Project, request: dict[str, Any]) -> dict[str, Any]:
    """ "Merge requests API", get single MR."""
    name = next(name for name, each in hub.projects.items() if each is project)
    return {
        "id": 1000 + request["iid"], "iid": request["iid"], "project_id": 7,
        "title": request["title"], "description": "", "state": request["state"],
        "web_url": f"{hub.url}/{name}/-/merge_requests/{request['iid']}",
        "author": person(request["author"]), "draft": request["draft"],
        "source_branch": request["branch"], "target_branch": request["target"],
        "sha": request["sha"], "diff_refs": request["diff_refs"],
        "merge_commit_sha": request["merge_commit_sha"],
        "squash_commit_sha": request["squash_commit_sha"], "merge_error": request["merge_error"],
        "merge_when_pipeline_succeeds": request["merge_when_pipeline_succeeds"],
    }  # fmt: skip


@route("GET", r"/merge_requests/(\d+)")
def _one_request(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """The first look after a push starts the check of mergeability ("Merge status")."""
    asked = _one(project, match)
    status = project.merge_status(asked)
    asked["checked"] = f"{asked['sha']}{project.git.tip(asked['target'])}"
    return Answer(200, {**_told(hub, project, asked), "detailed_merge_status": status})


@route("GET", r"/merge_requests/(\d+)/versions")
def _versions(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge requests API", get merge request diff versions; newest first."""
    return hub.page(request, _one(project, match)["versions"][::-1])


@route("GET", "/repository/commits/([^/]+)/merge_requests")
def _requests_of(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Commits API", list merge requests associated with a commit: those whose newest version has
    it, and those that made it (app/models/merge_request.rb, by_related_commit_sha).
    """
    if not project.git.has(match[1]):
        raise Refused(404, "404 Commit Not Found")
    answers = []
    for asked in project.requests.values():
        made = {asked[f"{kind}_commit_sha"] for kind in ("merge", "squash", "merged")}
        if match[1] in {*asked["commits"], *made}:
            answers.append(_told(hub, project, asked))
    return hub.page(request, answers)


@route("GET", r"/merge_requests/(\d+)/commits")
def _commits_of(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge requests API", get single merge request commits; newest first."""
    return hub.page(request, [{"id": sha} for sha in _one(project, match)["commits"][::-1]])


@route("GET", r"/merge_requests/(\d+)/approvals")
def _approvals(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge request approvals API", approval state: no commit is named."""
    asked = _one(project, match)
    approvers = [
        {"user": person(login), **({"approved_at": moment} if project.tells_times else {})}
        for login, moment in asked["approvals"].items()
    ]
    return Answer(200, {
        "iid": asked["iid"], "approvals_required": project.approvals_needed, "approved_by": approvers,
    })  # fmt: skip


@route("GET", r"/merge_requests/(\d+)/reviewers")
def _reviewers(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge requests API", get single merge request reviewers."""
    answers = [
        {"user": person(login), "state": state, "created_at": "2026-01-01T00:00:00.000Z"}
        for login, state in _one(project, match)["reviewers"].items()
    ]
    return hub.page(request, answers)


@route("GET", r"/members/all/(\d+)")
def _member(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Members API", get a member including inherited ones."""
    for login, level in project.people.items():
        if person(login)["id"] == int(match[1]):
            state = "blocked" if login in project.blocked else "active"
            return Answer(200, {**person(login), "state": state, "access_level": level})
    raise Refused(404, "404 Not found")


@route("GET", r"/merge_requests/(\d+)/notes")
def _notes(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Notes API", list all merge request notes: system notes, too; newest first unless told."""
    notes = [each for each in project.notes if each["iid"] == int(match[1])]
    return hub.page(request, notes if request.query.get("sort") == "asc" else notes[::-1])


@route("POST", r"/merge_requests/(\d+)/notes")
def _new_note(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Notes API", create new merge request note; its length: "Application limits"."""
    _one(project, match)
    body = hub.fields(request, {"body"}, {"created_at"})["body"]
    if len(body) > 1_000_000:
        raise Refused(400, {"note": ["is too long"]})
    return Answer(201, project.comment(int(match[1]), hub.account(request), body))


def _note(hub: Gitlab, project: Project, request: Request, number: str) -> dict[str, Any]:
    for note in project.notes:
        if note["id"] == int(number):
            if note["author"]["username"] != hub.account(request):
                raise Refused(403, "403 Forbidden")
            return note
    raise Refused(404, "404 Note Not Found")


@route("PUT", r"/merge_requests/(\d+)/notes/(\d+)")
def _changed_note(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Notes API", modify existing merge request note: by its author."""
    note = _note(hub, project, request, match[2])
    note["body"] = hub.fields(request, {"body"}, set())["body"]
    return Answer(200, note)


@route("DELETE", r"/merge_requests/(\d+)/notes/(\d+)")
def _removed_note(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Notes API", delete a merge request note."""
    project.notes.remove(_note(hub, project, request, match[2]))
    return Answer(204)


STATES = ("pending", "running", "success", "failed", "canceled", "skipped")
#: A status that is not at an end is changed; one at its end stays, and the next is a new one.
OPEN = ("pending", "running")


@route("POST", "/statuses/([^/]+)")
def _new_status(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Commits API", set commit pipeline status. That a state cannot be set again, and which
    status is changed: as spec/requests/api/commit_statuses_spec.rb has it; which pipeline it joins:
    app/services/ci/create_commit_status_service.rb; what is too long, and names of jobs:
    app/models/generic_commit_status.rb.
    """
    fields = hub.fields(
        request, {"state"}, {"name", "ref", "target_url", "description", "pipeline_id"}
    )
    sha, name, state = match[1], fields.get("name", "default"), fields["state"]
    if not project.git.has(sha):
        raise Refused(404, "404 Commit Not Found")
    if sha in project.forks:
        raise Refused(404, "404 References for commit Not Found")
    if state not in STATES or len(fields.get("description", "")) > 255:
        raise Refused(400, "state does not have a valid value")
    if len(fields.get("target_url", "")) > 255:
        raise Refused(400, {"target_url": ["is too long (maximum is 255 characters)"]})
    if name in project.jobs:
        raise Refused(400, {"name": ["has already been taken"]})
    of_commit = [number for number, revision in project.pipelines if revision == sha]
    pipeline = fields.get("pipeline_id", max(of_commit, default=0))
    if "pipeline_id" in fields and pipeline not in of_commit:
        raise Refused(404, "404 Pipeline for pipeline_id, sha and ref Not Found")
    login = hub.account(request)
    statuses = [
        each
        for each in project.statuses
        if (each["sha"], each["name"], each["pipeline"]) == (sha, name, pipeline)
        and each["author"]["username"] == login
        and each["status"] in OPEN
    ]
    if statuses and state in OPEN and (statuses[-1]["status"], state) != ("pending", "running"):
        event = "run" if state == "running" else "enqueue"
        raise Refused(
            400,
            f"Cannot transition status via :{event} from :{statuses[-1]['status']} "
            f'(Reason(s): Status cannot transition via "{event}")',
        )
    status = statuses[-1] if statuses else {
        "id": project.id(), "sha": sha, "name": name, "pipeline": pipeline,
    }  # fmt: skip
    if not statuses:
        project.statuses.append(status)
    status.update(
        status=state, description=fields.get("description"), target_url=fields.get("target_url"),
        author=person(login), ref="main", allow_failure=False,
    )  # fmt: skip
    return Answer(201, status)


@route("GET", "/repository/commits/([^/]+)/statuses")
def _statuses(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Commits API", list commit statuses: the latest of each name unless `all`."""
    name = request.query.get("name")
    answers = [
        each
        for each in project.statuses
        if each["sha"] == match[1] and name in (None, each["name"])
    ]
    return hub.page(request, answers if request.query.get("all") == "true" else answers[-1:])


@route("PUT", r"/merge_requests/(\d+)/merge")
def _merge(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge requests API", merge a merge request: 405, 409 and 422 as its table of errors."""
    asked = _one(project, match)
    more = {"merge_commit_message", "squash_commit_message", "squash", "auto_merge"}
    fields = hub.fields(request, set(), more | {"sha", "should_remove_source_branch"})
    if fields.get("sha", asked["sha"]) != asked["sha"]:
        raise Refused(409, "SHA does not match HEAD of source branch")
    if project.merge_status(asked) == "conflict":
        raise Refused(422, "Branch cannot be merged")
    if project.merge_status(asked) != "mergeable":
        raise Refused(405, "405 Method Not Allowed")
    if project.push_rule:
        asked["merge_error"] = project.push_rule
        raise Refused(422, "Branch cannot be merged")
    project.merge(asked["iid"], fields.get("merge_commit_message", "merge"))
    return Answer(200, _told(hub, project, asked))


@route("POST", r"/merge_trains/merge_requests/(\d+)")
def _board(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge trains API", add a merge request to a merge train: 202 where `auto_merge` has to wait
    for a pipeline, and then 409 (app/services/merge_trains/add_merge_request_service.rb).
    """
    asked = _one(project, match)
    fields = hub.fields(request, set(), {"sha", "squash", "auto_merge", "when_pipeline_succeeds"})
    if project.trains is None:
        raise Refused(403, "403 Forbidden")
    if fields.get("sha", asked["sha"]) != asked["sha"]:
        raise Refused(409, "SHA does not match HEAD of source branch")
    if asked["merge_when_pipeline_succeeds"]:
        raise Refused(409, "Merge request is already set to Auto-Merge")
    status = project.merge_status(asked)
    if status == "ci_still_running" and fields.get("auto_merge"):
        asked["merge_when_pipeline_succeeds"] = True
        return Answer(202, [])
    if asked["iid"] in project.trains or status not in ("mergeable", "unchecked"):
        raise Refused(400, "Failed to merge or add to train")
    project.trains.append(asked["iid"])
    return Answer(201, [{"id": 1, "status": "idle"}])


@route("GET", r"/merge_trains/merge_requests/(\d+)")
def _ride(hub: Gitlab, project: Project, request: Request, match: re.Match[str]) -> Answer:
    """ "Merge trains API", get the status of a merge request on a merge train."""
    if project.trains is None or int(match[1]) not in project.trains:
        raise Refused(404, "404 Not Found")
    return Answer(200, {"id": 1, "status": project.ride, "target_branch": "main"})


@contextlib.contextmanager
def gitlab() -> Iterator[Gitlab]:
    """A running double. Raises AssertionError at the end for requests that no page describes."""
    hub = Gitlab()
    try:
        yield hub
        assert not hub.wrong
    finally:
        hub.close()
