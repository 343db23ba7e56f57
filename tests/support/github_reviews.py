"""Pull requests of the GitHub double: reviews, statuses, check runs, comments, merges, the merge
queue, teams and environments. Commits are those of a real git repository.

All of it is judged by GitHub's published description (`github_description`). What that leaves open
stands where it is done, with the page of GitHub's documentation.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.support.github import (
    APP,
    READ,
    ROUTES,
    SERVER_ROUTES,
    WRITE,
    Answer,
    Github,
    Refused,
    Repository,
    Request,
    Route,
    ServerRoute,
    github,
)
from tests.support.github_description import graphql_answer, query_errors
from tests.support.hosted_git import HostedGit

#: Token → account. An app cannot ask who it is ("Get the authenticated user").
ACCOUNTS = {
    WRITE: {"login": "ci-account", "type": "User"},
    READ: {"login": "reader", "type": "User"},
    APP: {"login": "github-actions[bot]", "type": "Bot"},
}


APPROVED_ONCE = {
    "dismiss_stale_reviews_on_push": False, "require_code_owner_review": False,
    "require_last_push_approval": False, "required_approving_review_count": 1,
    "required_review_thread_resolution": False,
}  # fmt: skip
CHECKED = {
    "required_status_checks": [{"context": "pipeline-steps"}],
    "strict_required_status_checks_policy": False,
}


def rule(kind: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A rule of a ruleset, as GitHub tells it."""
    source = {"ruleset_source_type": "Repository", "ruleset_source": "team", "ruleset_id": 1}
    return {"type": kind, **source, **({"parameters": dict(parameters)} if parameters else {})}


class PullRequests:
    """What reviews of one repository hold, and what people do there.

    people: login → permission. rules: of the default branch, as the API tells them. queue: numbers
    in the merge queue, None where there is none. teams: name → logins, readable with READ only when
    `open_teams`. runs: of workflows, with what reviewers of environments said.
    """

    def __init__(self, folder: Path) -> None:
        self.git = HostedGit(folder)
        self.people: dict[str, str] = {"ci-account": "write"}
        self.pulls: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.checks: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, dict[str, Any]] = {}
        self.runs: dict[int, dict[str, Any]] = {}
        self.approvals: dict[int, list[dict[str, Any]]] = {}
        self.rules: list[dict[str, Any]] = []
        self.queue: list[int] | None = None
        self.teams: dict[str, list[str]] = {}
        self.open_teams = True
        self.settings = {
            "allow_merge_commit": True,
            "allow_squash_merge": True,
            "allow_rebase_merge": True,
        }
        self._seconds = 0

    def now(self) -> str:
        """A time of its own for everything that happens."""
        self._seconds += 1
        moment = datetime.fromtimestamp(1767225600 + self._seconds, timezone.utc)
        return moment.isoformat().replace("+00:00", "Z")

    def open(
        self, author: str, branch: str, *, title: str = "Change", target: str = "main",
        draft: bool = False, fork: str = "",
    ) -> int:  # fmt: skip
        """Its number. fork: the repository that the branch is in, where it is another one."""
        number = len(self.pulls) + 1
        self.pulls[number] = {
            "number": number, "title": title, "author": author, "branch": branch, "target": target,
            "draft": draft, "state": "open", "merged_at": None, "merge_commit_sha": None,
            "head": "", "compared": "", "reviews": [], "retargeted": [], "fork": fork,
            "events": [],
        }  # fmt: skip
        return number

    def head(self, pull: Mapping[str, Any]) -> str:
        return str(pull["head"] or self.git.tip(pull["branch"]))

    def say(self, number: int, login: str, state: str, commit: str = "") -> int:
        """A review in GitHub's sense, of the newest commit unless told."""
        reviews: list[dict[str, Any]] = self.pulls[number]["reviews"]
        reviews.append({
            "id": len(reviews) + 1, "user": _person(login), "state": state,
            "commit_id": commit or self.head(self.pulls[number]), "submitted_at": self.now(),
        })  # fmt: skip
        return len(reviews)

    def retarget(self, number: int, target: str) -> None:
        """Another base. Reviews stay, unless a rule dismisses stale ones ("Changing the base")."""
        pull = self.pulls[number]
        pull["target"] = target
        pull["retargeted"].append(self.now())

    def rebase(self, number: int, files: Mapping[str, str], *, forced: bool = True) -> str:
        """The new head of a branch that was rebased (or took its target in), where GitHub takes the
        change for the same: approvals move to it (seen by many: apache/maka#5068,
        max-sixty/tend#884), other reviews stay.
        """
        pull = self.pulls[number]
        head = self.git.commit(pull["branch"], files, onto="main" if forced else "")
        moment = self.now()
        event: dict[str, Any]
        if forced:
            event = {"event": "head_ref_force_pushed", "created_at": moment, "commit_id": head}
        else:
            event = {"event": "committed", "sha": head, "committer": {"date": moment}}
        pull["events"].append(event)
        for review in pull["reviews"]:
            if review["state"] == "APPROVED":
                review["commit_id"] = head
        return head

    def dismiss(self, number: int, review: int) -> None:
        self.pulls[number]["reviews"][review - 1]["state"] = "DISMISSED"

    def run(self, revision: str, **fields: str) -> int:
        """A run of a workflow; fields: login → "approved" or "rejected", for `production`."""
        number = 7000 + len(self.runs)
        self.runs[number] = {"id": number, "head_sha": revision, "created_at": self.now()}
        self.approvals[number] = [
            {
                "state": state, "comment": "", "user": _person(login.replace("_", "-")),
                "environments": [{"name": "production"}],
            }
            for login, state in fields.items()
        ]  # fmt: skip
        return number

    def merge(self, number: int, method: str, message: str = "merge") -> str:
        """Merge, as the button does."""
        pull = self.pulls[number]
        head = self.head(pull)
        commit = self.git.merge(pull["target"], head, method, message)
        pull.update(
            head=head, state="closed", merged_at=self.now(), merge_commit_sha=commit, compared=head
        )
        return commit

    def unmet(self, pull: Mapping[str, Any]) -> str:
        """The words for the first rule that is not fulfilled."""
        head = self.head(pull)
        for rule in self.rules:
            parameters = rule.get("parameters") or {}
            count = parameters.get("required_approving_review_count", 0)
            newest = {each["user"]["login"]: each["state"] for each in pull["reviews"]}
            approvals = [name for name, state in newest.items() if state == "APPROVED"]
            if sum(self.people.get(name) in ("admin", "write") for name in approvals) < count:
                return (
                    f"At least {count} approving review is required by reviewers with write access."
                )
            for check in parameters.get("required_status_checks", ()):
                if self.passing(head, check["context"]) != "success":
                    return f'Required status check "{check["context"]}" is expected.'
            if rule["type"] == "merge_queue":
                return "Changes must be made through the merge queue"
        return ""

    def passing(self, revision: str, name: str) -> str | None:
        """What a required check sees: the newest run or status of that name."""
        runs = [
            run
            for run in self.checks.values()
            if (run["head_sha"], run["name"]) == (revision, name)
        ]
        opinions = [
            status["state"]
            for status in self.statuses
            if (status["sha"], status["context"].lower()) == (revision, name.lower())
        ]
        if runs:
            conclusion = runs[-1]["conclusion"]
            return "success" if conclusion in ("success", "neutral", "skipped") else conclusion
        return opinions[-1] if opinions else None


def _person(login: str) -> dict[str, str]:
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Answer requests to a path below a repository that has pull requests."""

    def register(function: Route) -> Route:
        ROUTES.append((method, re.compile(path), function))
        return function

    return register


def server_route(method: str, path: str) -> Callable[[ServerRoute], ServerRoute]:
    def register(function: ServerRoute) -> ServerRoute:
        SERVER_ROUTES.append((method, re.compile(f"/api{path}"), function))
        return function

    return register


def _account(request: Request) -> dict[str, str]:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in ACCOUNTS:
        raise Refused(401, "Requires authentication")
    return ACCOUNTS[token]


def _pull(repository: Repository, number: str) -> dict[str, Any]:
    if repository.reviews is None or int(number) not in repository.reviews.pulls:
        raise Refused(404, "Not Found")
    pull: dict[str, Any] = repository.reviews.pulls[int(number)]
    return pull


def _told(hub: Github, repository: Repository, pull: dict[str, Any]) -> dict[str, Any]:
    """A pull request as lists have it."""
    reviews: PullRequests = repository.reviews
    name = hub.name(repository)
    branch = {"repo": {"full_name": name}, "label": ""}
    return {
        "number": pull["number"], "title": pull["title"], "state": pull["state"],
        "draft": pull["draft"], "user": {"login": pull["author"]},
        "html_url": f"{hub.web}/{name}/pull/{pull['number']}",
        "merged_at": pull["merged_at"], "merge_commit_sha": pull["merge_commit_sha"],
        "closed_at": pull["merged_at"],
        "requested_teams": [],  # those of the published example lack a required field
        "base": {**branch, "ref": pull["target"], "sha": reviews.git.tip(pull["target"])},
        "head": {
            "repo": {"full_name": pull["fork"] or name}, "label": "", "ref": pull["branch"],
            "sha": reviews.head(pull),
        },
    }  # fmt: skip


@route("GET", r"/pulls/(\d+)")
def _one_pull(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """The first look after a push starts the comparison with the target ("Get a pull request")."""
    pull = _pull(repository, match[1])
    reviews: PullRequests = repository.reviews
    head, target = reviews.head(pull), reviews.git.tip(pull["target"])
    compared = pull["compared"] == f"{head}{target}" or pull["merged_at"]
    pull["compared"] = pull["compared"] if pull["merged_at"] else f"{head}{target}"
    mergeable = bool(reviews.git.merged_tree(target, head)) if compared else None
    return Answer(200, {
        **_told(hub, repository, pull),
        "merged": bool(pull["merged_at"]),
        "mergeable": mergeable,
        "mergeable_state": "unknown" if mergeable is None else "clean" if mergeable else "dirty",
    })  # fmt: skip


@route("GET", "/pulls")
def _pulls(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    pulls = [
        _told(hub, repository, pull)
        for pull in repository.reviews.pulls.values()
        if pull["state"] == request.query.get("state", "open")
    ]
    return hub.page(request, pulls)


@route("GET", r"/pulls/(\d+)/reviews")
def _reviews(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    return hub.page(request, _pull(repository, match[1])["reviews"])


@route("PUT", r"/pulls/(\d+)/merge")
def _merge(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    pull, reviews = _pull(repository, match[1]), repository.reviews
    fields = json.loads(request.body)
    head, target = reviews.head(pull), reviews.git.tip(pull["target"])
    if fields["sha"] != head:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")
    method = fields.get("merge_method", "merge")
    allowed = "allow_merge_commit" if method == "merge" else f"allow_{method}_merge"
    if not reviews.settings[allowed]:
        raise Refused(405, f"{method.capitalize()} merges are not allowed on this repository.")
    if pull["draft"]:
        raise Refused(405, "Pull Request is still a draft")
    compared = pull["compared"] == f"{head}{target}"
    if pull["state"] != "open" or not compared or not reviews.git.merged_tree(target, head):
        raise Refused(405, "Pull Request is not mergeable")
    if words := reviews.unmet(pull):
        raise Refused(405, f"Repository rule violations found\n\n{words}\n\n")
    title = fields.get("commit_title", f"Merge pull request #{pull['number']}")
    message = f"{title}\n\n{fields.get('commit_message', '')}".strip()
    commit = reviews.merge(pull["number"], method, message)
    return Answer(
        200, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}
    )


@route("GET", "/commits/([^/]+)/pulls")
def _pulls_of(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """Those that brought a commit to the target, else those that have it ("List pull requests
    associated with a commit"); none of a commit that only a fork has (seen by many on GitHub:
    learningequality/kolibri#14719, TooTallNate/nx.js#410).
    """
    reviews: PullRequests = repository.reviews
    if not reviews.git.has(match[1]):
        raise Refused(422, f"No commit found for SHA: {match[1]}")
    answers = []
    for pull in reviews.pulls.values():
        head = reviews.head(pull)
        base = f"{pull['merge_commit_sha']}^" if pull["merged_at"] else pull["target"]
        inside = reviews.git.commits(base, head)
        is_elsewhere = pull["fork"] and not pull["merged_at"]
        if not is_elsewhere and match[1] in (*inside, head, pull["merge_commit_sha"]):
            answers.append(_told(hub, repository, pull))
    return hub.page(request, answers)


@route("POST", "/statuses/([^/]+)")
def _new_status(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    reviews: PullRequests = repository.reviews
    if not reviews.git.has(match[1]):
        raise Refused(422, f"No commit found for SHA: {match[1]}")
    fields = json.loads(request.body)
    if len(fields.get("description") or "") > 140:
        raise Refused(422, "Validation Failed", field="description", code="custom")
    status = {
        "id": next(hub.ids), "sha": match[1], "context": "default", "description": None,
        "target_url": None, **fields, "creator": _account(request), "created_at": reviews.now(),
    }  # fmt: skip
    reviews.statuses.append(status)
    return Answer(201, {name: value for name, value in status.items() if name != "sha"})


@route("GET", "/commits/([^/]+)/statuses")
def _statuses(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """Newest first."""
    of_commit = [status for status in repository.reviews.statuses if status["sha"] == match[1]]
    statuses = [
        {name: each[name] for name in each if name != "sha"} for each in reversed(of_commit)
    ]
    return hub.page(request, statuses)


def _app(request: Request) -> dict[str, str]:
    account = _account(request)
    if account["type"] != "Bot":
        raise Refused(403, "You must authenticate via a GitHub App.")
    return account


def _check(run: Mapping[str, Any]) -> dict[str, Any]:
    output = {name: value for name, value in run["output"].items() if name != "annotations"}
    count = len(run["output"]["annotations"])
    return {**run, "output": {**output, "annotations_count": count}}


def _updated(run: dict[str, Any], fields: dict[str, Any]) -> None:
    """Annotations are added to those there are; a conclusion completes ("Update a check run")."""
    output = fields.pop("output", {})
    # The description says characters; GitHub counts bytes (github/docs#35252).
    if len((output.get("summary") or "").encode()) > 65535:
        words = "summary exceeds a maximum bytesize of 65535"
        raise Refused(422, words, resource="CheckRun", code="custom", field="summary")
    if len(output.get("annotations", [])) > 50:
        raise Refused(422, "Only 50 annotations are allowed", resource="CheckRun", code="invalid")
    run["output"]["annotations"] += output.pop("annotations", [])
    run["output"].update(output)
    run.update(fields)
    if "conclusion" in fields:
        run["status"] = "completed"
    if run["status"] != "completed":
        run["conclusion"] = None


@route("POST", "/check-runs")
def _new_check(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    _app(request)
    fields = json.loads(request.body)
    if not repository.reviews.git.has(fields["head_sha"]):
        raise Refused(422, "No commit found for SHA")
    number = next(hub.ids)
    run = {
        "id": number, "status": "queued", "conclusion": None, "external_id": "",
        "started_at": repository.reviews.now(), "completed_at": None,
        "html_url": f"{hub.web}/{hub.name(repository)}/runs/{number}",
        "output": {"title": None, "summary": None, "text": None, "annotations": []},
    }  # fmt: skip
    _updated(run, fields)
    repository.reviews.checks[number] = run
    return Answer(201, _check(run))


@route("PATCH", r"/check-runs/(\d+)")
def _changed_check(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    _app(request)
    run = _one(repository.reviews.checks, match)
    _updated(run, json.loads(request.body))
    return Answer(200, _check(run))


@route("GET", r"/check-runs/(\d+)")
def _one_check(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    return Answer(200, _check(_one(repository.reviews.checks, match)))


def _one(things: Mapping[int, dict[str, Any]], match: re.Match[str]) -> dict[str, Any]:
    if int(match[1]) not in things:
        raise Refused(404, "Not Found")
    return things[int(match[1])]


@route("GET", "/commits/([^/]+)/check-runs")
def _checks(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    name = request.query.get("check_name")
    runs = [
        _check(run)
        for run in reversed(repository.reviews.checks.values())
        if run["head_sha"] == match[1] and name in (None, run["name"])
    ]
    page = hub.page(request, runs)
    return page._replace(body={"total_count": len(runs), "check_runs": page.body})


@route("GET", r"/issues/(\d+)/comments")
def _comments(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    _pull(repository, match[1])
    comments = repository.reviews.comments.values()
    return hub.page(request, [_comment(each) for each in comments if each["issue"] == match[1]])


def _comment(comment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in comment.items() if name != "issue"}


@route("POST", r"/issues/(\d+)/comments")
def _new_comment(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    _pull(repository, match[1])
    body = json.loads(request.body)["body"]
    if len(body) > 65536:
        raise Refused(422, "Validation Failed", field="data", code="unprocessable")
    comment = {
        "id": next(hub.ids), "issue": match[1], "body": body, "user": _account(request),
    }  # fmt: skip
    repository.reviews.comments[comment["id"]] = comment
    return Answer(201, _comment(comment))


def _own_comment(repository: Repository, request: Request, match: re.Match[str]) -> dict[str, Any]:
    return _one(repository.reviews.comments, match)


@route("PATCH", r"/issues/comments/(\d+)")
def _changed_comment(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    comment = _own_comment(repository, request, match)
    comment["body"] = json.loads(request.body)["body"]
    return Answer(200, _comment(comment))


@route("DELETE", r"/issues/comments/(\d+)")
def _removed_comment(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    del repository.reviews.comments[_own_comment(repository, request, match)["id"]]
    return Answer(204)


@route("GET", r"/issues/(\d+)/timeline")
def _timeline(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """ "Timeline events API"; of all events, those that change the base or the head."""
    pull = _pull(repository, match[1])
    changes = [{"event": "base_ref_changed", "created_at": each} for each in pull["retargeted"]]
    events = [
        {
            "id": number, "node_id": f"E_{number}", "url": f"{hub.web}/event/{number}",
            "actor": {"login": pull["author"]}, "commit_id": None, "commit_url": None,
            "performed_via_github_app": None, **event,
        }
        for number, event in enumerate([*changes, *pull["events"]], 1)
    ]  # fmt: skip
    return hub.page(request, events)


@route("GET", "/collaborators/([^/]+)/permission")
def _permission(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    """Anybody may read a public repository; an organisation is no user."""
    if match[1] == hub.name(repository).partition("/")[0]:
        raise Refused(404, f"{match[1]} is not a user")
    if _account(request)["login"] == "reader":
        raise Refused(403, "Must have push access to view collaborator permission.")
    permission = repository.reviews.people.get(match[1], "read")
    user = {"login": match[1]}
    return Answer(200, {"permission": permission, "role_name": permission, "user": user})


@route("GET", "/rules/branches/(.+)")
def _rules(hub: Github, repository: Repository, request: Request, match: re.Match[str]) -> Answer:
    return hub.page(request, repository.reviews.rules)


@route("GET", "/git/matching-refs/(.+)")
def _matching(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    reviews: PullRequests = repository.reviews
    lines = reviews.git.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    answers = [
        {"ref": name, "object": {"type": "commit", "sha": sha}}
        for name, sha in map(str.split, lines)
        if name.startswith(f"refs/{match[1]}")
    ]
    return Answer(200, answers)


@route("GET", "/actions/runs")
def _workflow_runs(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    revision = request.query.get("head_sha")
    runs = [run for run in repository.reviews.runs.values() if revision in (None, run["head_sha"])]
    page = hub.page(request, runs)
    return page._replace(body={"total_count": len(runs), "workflow_runs": page.body})


@route("GET", r"/actions/runs/(\d+)")
def _workflow_run(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    return Answer(200, _one(repository.reviews.runs, match))


@route("GET", r"/actions/runs/(\d+)/approvals")
def _run_approvals(
    hub: Github, repository: Repository, request: Request, match: re.Match[str]
) -> Answer:
    return Answer(200, repository.reviews.approvals.get(int(match[1]), []))


@server_route("GET", "/v3/user")
def _user(hub: Github, request: Request, match: re.Match[str]) -> Answer:
    account = _account(request)
    if account["type"] == "Bot":
        raise Refused(403, "Resource not accessible by integration")
    return Answer(200, account)


def _teams_of(hub: Github, request: Request, organisation: str) -> dict[str, list[str]]:
    """A team that the token may not see is 404 ("Get a team by name")."""
    teams: dict[str, list[str]] = {}
    for name, repository in hub.repositories.items():
        if name.startswith(f"{organisation}/") and repository.reviews:
            if not repository.reviews.open_teams or _account(request)["type"] == "Bot":
                raise Refused(404, "Not Found")
            teams |= repository.reviews.teams
    return teams


@server_route("GET", "/v3/orgs/([^/]+)/teams")
def _teams(hub: Github, request: Request, match: re.Match[str]) -> Answer:
    return hub.page(request, [{"slug": name} for name in _teams_of(hub, request, match[1])])


@server_route("GET", "/v3/orgs/([^/]+)/teams/([^/]+)/members")
def _members(hub: Github, request: Request, match: re.Match[str]) -> Answer:
    teams = _teams_of(hub, request, match[1])
    if match[2] not in teams:
        raise Refused(404, "Not Found")
    return hub.page(request, [{"login": login} for login in teams[match[2]]])


@server_route("POST", "/graphql")
def _graphql(hub: Github, request: Request, match: re.Match[str]) -> Answer:
    """The queries that the client has, told apart by what they name."""
    asked = json.loads(request.body)
    query, variables = asked.pop("query"), asked.pop("variables")
    if errors := [*query_errors(query, variables), *asked]:
        hub.wrong += errors
        return Answer(200, {"errors": [{"message": error} for error in errors]})
    if "enqueuePullRequest" in query:
        data, problem = _enqueue(hub, request, variables)
    else:
        data, problem = _queue_of(hub, variables), None
    told = graphql_answer(query, variables, data)
    return Answer(200, {"data": told, **({"errors": [problem]} if problem else {})})


def _queue_of(hub: Github, variables: Mapping[str, Any]) -> dict[str, Any]:
    repository = hub.repositories[f"{variables['owner']}/{variables['name']}"]
    reviews: PullRequests = repository.reviews
    number = variables["number"]
    queued = reviews.queue is not None and number in reviews.queue
    entry = {"position": reviews.queue.index(number) + 1} if reviews.queue and queued else None
    queue = None if reviews.queue is None else {"id": "MQ_1"}
    pull = {"id": f"{hub.name(repository)}#{number}", "mergeQueueEntry": entry}
    return {"repository": {"mergeQueue": queue, "pullRequest": pull}}


def _enqueue(
    hub: Github, request: Request, variables: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """The data of the answer, and the error in it."""
    name, _, number = variables["id"].partition("#")
    reviews: PullRequests = hub.repositories[name].reviews
    pull = reviews.pulls[int(number)]
    words = reviews.unmet(pull)
    problem = None
    if _account(request)["login"] == "reader":
        problem = ("FORBIDDEN", "Resource not accessible by personal access token")
    elif reviews.head(pull) != variables["head"]:
        problem = ("UNPROCESSABLE", "The pull request's head has changed")
    elif words and "merge queue" not in words:
        problem = ("UNPROCESSABLE", words)
    if problem:
        return {"enqueuePullRequest": None}, {"type": problem[0], "message": problem[1]}
    assert reviews.queue is not None, "asked only where there is a queue"
    reviews.queue.append(int(number))
    entry = {"position": len(reviews.queue)}
    return {"enqueuePullRequest": {"mergeQueueEntry": entry}}, None


@contextlib.contextmanager
def judged() -> Iterator[Github]:
    """A GitHub whose requests and answers are judged. Raises AssertionError at the end when
    something was not as described.
    """
    with github() as hub:
        yield hub
        assert not hub.wrong


@contextlib.contextmanager
def reviewing(name: str, folder: Path) -> Iterator[tuple[Github, PullRequests]]:
    """A judged GitHub with one repository, whose git is in `folder`."""
    with judged() as hub:
        reviews = PullRequests(folder)
        hub.repository(name).reviews = reviews
        yield hub, reviews
