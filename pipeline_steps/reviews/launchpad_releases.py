"""Milestones and releases of a project on Launchpad."""

from __future__ import annotations

from datetime import datetime, timezone

from pipeline_steps.services.launchpad import Launchpad


def make_release(service: Launchpad, project_name: str, name: str, notes: str) -> str:
    """See `review.ProjectReleases`. Raises AccessRefused, Unreachable, Temporary."""
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
