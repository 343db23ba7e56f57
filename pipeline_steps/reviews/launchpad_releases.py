"""Milestones and releases of a project on Launchpad."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from urllib.parse import urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import LaunchpadReview
from pipeline_steps.reviews.launchpad import Launchpad
from pipeline_steps.services.launchpad import Launchpad as Service
from pipeline_steps.toolbox.errors import UsageError


def make_release(
    settings: LaunchpadReview, hosts: Mapping[str, Host], remote: str, name: str, notes: str
) -> str:
    """The page of the project's release `name`, with a milestone of that name in the series of its
    development; what is there already stays.

    Raises UsageError when the checkout is of no project on Launchpad; AccessRefused, Unreachable,
    Temporary.
    """
    project_name = Launchpad(settings, hosts, remote).project()
    if not project_name:
        raise UsageError(
            "the checkout comes from no project on Launchpad",
            where=remote,
            advice="check it out from review.launchpad.git_url or bzr_url",
        )
    address = urlsplit(settings.api_url)
    _, entry = table.entry_for(hosts, address.netloc)
    service = Service(settings.api_url, settings.token_file, plain_http=entry.plain_http)
    service.require_token()
    with service.errors(project_name):
        project = service.service.projects[project_name]
        milestone = project.getMilestone(name=name)
        if milestone is None:
            milestone = project.development_focus.newMilestone(name=name, summary=notes)
        release = milestone.release
        if release is None:
            now = datetime.now(timezone.utc)
            release = milestone.createProductRelease(date_released=now, release_notes=notes)
        return str(release.web_link)
