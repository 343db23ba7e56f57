"""What the project promises, each as the change that would break it and the tests that must notice.

`old` is in its file exactly once: short, and without names that may be changed for their own sake.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A guard broken: `old` of `file` becomes `new`, and one of `tests` (node ids) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


PACKAGE = "pipeline_steps"
STATE = "tests/unit/test_state.py"
TOOLBOX = "tests/unit/test_toolbox.py"
REGISTRY = "tests/systems/test_registry.py"
REPOSITORIES = "tests/contract/test_repositories.py"
RELEASE = "tests/workflows/test_release.py"
HOSTILE = "tests/unit/test_hostile_texts.py"
GUARDS = "tests/systems/test_guards.py"
RULES = "tests/unit/test_approval_rules.py"
COVERAGE = "tests/unit/test_approval_coverage.py"
REVIEWS = "tests/reviews/test_reviews.py"
BOUNDS = "tests/reviews/test_hub_bounds.py"


def _in(file: str) -> str:
    return f"{PACKAGE}/{file}.py"


MUTANTS = (
    Mutant(
        "fsync-of-state",
        _in("toolbox/files"),
        "                    os.fsync(descriptor)\n            except OSError:\n",
        "                    pass\n            except OSError:\n",
        (f"{GUARDS}::test_a_failed_fsync_of_the_state_is_an_error_and_its_line_is_cut_off",),
    ),
    Mutant(
        "uploader-nobody-tells",
        _in("reviews/kinds"),
        "    _refuse_unknown_uploader(config, system)\n",
        "",
        (
            "tests/unit/test_approval_rules.py::test_uploader_is_refused_where_the_system_does_not_say_who_pushed",
        ),
    ),
    Mutant(
        "verify-rewrite",
        _in("release/derivation"),
        '    verify_rewrite(rewritten.archive.tgz, rewritten.changes, snapshot.outputs["tar"], chart.path)\n',
        "",
        (f"{GUARDS}::test_a_release_with_a_change_that_nobody_recorded_is_refused",),
    ),
    Mutant(
        "manifest-read-back",
        _in("oci/registry"),
        "        self._read_back(path, name, digest)\n",
        "",
        (f"{GUARDS}::test_an_acknowledged_manifest_that_is_not_there_is_an_error",),
    ),
    Mutant(
        "manifest-of-another-writer",
        _in("oci/registry"),
        "        if stored.digest != digest:\n",
        "        if False:\n",
        (f"{GUARDS}::test_an_acknowledged_manifest_that_is_not_there_is_an_error[another one]",),
    ),
    Mutant(
        "blob-after-push",
        _in("oci/registry"),
        "        retry.call(once, budget=self._budget)\n        if not self.has_blob(path, digest):\n",
        "        retry.call(once, budget=self._budget)\n        if False:\n",
        (f"{GUARDS}::test_an_acknowledged_blob_that_is_not_there_is_an_error",),
    ),
    Mutant(
        "snapshot-reference",
        _in("building/snapshot_records"),
        "    if published.reference != snapshot.reference:\n",
        "    if False:\n",
        (f"{GUARDS}::test_a_snapshot_that_was_replaced_is_not_tested",),
    ),
    Mutant(
        "snapshot-tar",
        _in("building/channels"),
        "    if tar not in (None, published.tar_digest):\n",
        "    if False:\n",
        (f"{GUARDS}::test_a_snapshot_that_was_replaced_is_not_tested",),
    ),
    Mutant(
        "images-built-again",
        _in("testing/requirements"),
        "        elif missing_builds:\n",
        "        elif False:\n",
        (
            "tests/unit/test_requirements.py::test_an_image_that_was_built_again_since_the_test_is_not_reported_as_passed",
        ),
    ),
    Mutant(
        "images-superseded",
        _in("testing/requirements"),
        '        for build in reversed(state.preferred(state.find(step="build_image")))\n',
        '        for build in [r for r in state.records() if r.step == "build_image" and r.passed]\n',
        (
            "tests/unit/test_requirements.py::test_an_image_that_was_built_again_since_the_test_is_not_reported_as_passed",
        ),
    ),
    Mutant(
        "pages-commit-read-back",
        _in("repositories/git_pages"),
        "            self._read_back(commit, draft)\n",
        "",
        (f"{GUARDS}::test_a_commit_that_a_server_takes_back_is_not_published",),
    ),
    Mutant(
        "folder-index-read-back",
        _in("repositories/directory"),
        "            if self.index() != data or any(\n",
        "            if False and any(\n",
        (f"{GUARDS}::test_a_folder_that_keeps_other_bytes_than_written_is_an_error",),
    ),
    Mutant(
        "pages-index-read-back",
        _in("repositories/git_pages"),
        "                if current_index.find(published.name, published.version) is None\n",
        "                if False\n",
        (f"{GUARDS}::test_a_commit_that_a_server_takes_back_is_not_published[the index]",),
    ),
    Mutant(
        "folder-archive-read-back",
        _in("repositories/directory"),
        "files.read_if_present(new_chart.path) != new_chart.tgz for",
        "False for",
        (
            f"{GUARDS}::test_a_folder_that_keeps_other_bytes_than_written_is_an_error[hello-1.0.0.tgz]",
        ),
    ),
    Mutant(
        "tested-without-snapshot",
        _in("testing/scenario_runs"),
        "            if any(map(is_in_channel, snapshot_records.used_snapshots(record, state))):\n",
        "            if True:\n",
        (f"{RELEASE}::test_a_snapshot_whose_archive_was_lost_is_given_back",),
    ),
    Mutant(
        "done-without-production-image",
        _in("release/publication"),
        "                return None\n        try:\n",
        "                pass\n        try:\n",
        (f"{RELEASE}::test_promote_restores_layers_that_the_registry_lost",),
    ),
    Mutant(
        "done-without-production-tag",
        _in("release/publication"),
        "            if stored.lost or stored.tagged != target.digest:\n",
        "            if stored.lost:\n",
        (f"{RELEASE}::test_promote_restores_layers_that_the_registry_lost",),
    ),
    Mutant(
        "done-without-production-chart",
        _in("release/publication"),
        "            return verdict if production.has_recorded_archives(verdict) else None\n",
        "            return verdict\n",
        (f"{RELEASE}::test_promote_publishes_again_what_the_index_lost",),
    ),
    Mutant(
        "done-without-snapshot",
        _in("building/channels"),
        "    return reference is not None and repository.resolve(record.subject, version) == reference\n",
        "    return reference is not None\n",
        ("tests/workflows/test_snapshot.py::test_snapshot_publishes_again_only_what_is_missing",),
    ),
    Mutant(
        "tag-without-intent",
        _in("tag_release"),
        '        attempt.begin({"tag": f"{planned.name}@{revision}"})\n',
        "",
        (f"{RELEASE}::test_a_tag_is_recorded_before_it_is_set",),
    ),
    Mutant(
        "tag-of-all-without-intent",
        _in("release/global_tag"),
        '        attempt.begin({"tag": f"{name}@{checkout.revision}"})\n',
        "",
        (f"{RELEASE}::test_a_tag_is_recorded_before_it_is_set",),
    ),
    Mutant(
        "provenance-after-archive",
        _in("repositories/directory"),
        "        return chart._replace(names=[*provenance_paths, chart.path])\n",
        "        return chart._replace(names=[chart.path, *provenance_paths])\n",
        (f"{GUARDS}::test_provenance_gets_its_name_before_its_archive",),
    ),
    Mutant(
        "key-without-helm-args",
        _in("testing/scenario"),
        '        "helm_args": list(helm_args),\n',
        '        "helm_args": [],\n',
        (f"{GUARDS}::test_arguments_of_helm_and_the_namespace_are_in_the_key_of_a_test",),
    ),
    Mutant(
        "key-without-namespace",
        _in("testing/scenario"),
        '        "namespace": namespace,\n',
        '        "namespace": "",\n',
        (f"{GUARDS}::test_arguments_of_helm_and_the_namespace_are_in_the_key_of_a_test",),
    ),
    Mutant(
        "verify-moved-tag",
        _in("audits/state_records"),
        "        if current_revision == revision\n",
        "        if True\n",
        (f"{RELEASE}::test_state_verify_finds_lost_entries_moved_tags_and_contradictions",),
    ),
    Mutant(
        "verify-gone-digest",
        _in("audits/state_records"),
        "    if stored.lost:\n",
        "    if False:\n",
        (f"{GUARDS}::test_state_verify_names_what_does_not_hold",),
    ),
    Mutant(
        "verify-moved-image-tag",
        _in("audits/state_records"),
        "    if image.tag and stored.tagged != digest:\n",
        "    if False:\n",
        (f"{GUARDS}::test_state_verify_names_what_does_not_hold",),
    ),
    Mutant(
        "verify-evidence",
        _in("audits/state_records"),
        '            yield _verify_evidence(state, name, digest, f"{_title(record)} evidence {name}")\n',
        '            yield Finding("holds", name)\n',
        (f"{GUARDS}::test_state_verify_names_what_does_not_hold",),
    ),
    Mutant(
        "verify-uses",
        _in("audits/state_records"),
        '            verdict = "holds" if identity in known_ids else "unresolved"\n',
        '            verdict = "holds"\n',
        (f"{GUARDS}::test_state_verify_names_what_does_not_hold",),
    ),
    Mutant(
        "second-look-at-image-tag",
        _in("oci/copy"),
        "            if not _tag_points_to(self.destination_registry, self.destination, digest):\n",
        "            if True:\n",
        (f"{GUARDS}::test_a_tag_that_is_taken_while_an_image_is_copied_is_not_moved",),
    ),
    Mutant(
        "second-look-at-chart-tag",
        _in("repositories/oci"),
        "        existing = self._existing(archive, release=False)  # another publisher may have come first\n",
        "        existing = None\n",
        (f"{GUARDS}::test_a_version_that_is_taken_while_a_chart_is_pushed_is_not_replaced",),
    ),
    # Noticed before, and to be noticed for ever.
    Mutant(
        "render-comparison",
        _in("release/derivation"),
        "            if comparison.refused:\n",
        "            if False:\n",
        (f"{RELEASE}::test_a_template_that_asks_for_the_version_beside_chance_is_refused",),
    ),
    Mutant(
        "other-tar-under-a-version",
        _in("repositories/repository"),
        "        if existing.tar_digest != archive.tar_digest:\n",
        "        if False:\n",
        (f"{REPOSITORIES}::test_another_tar_is_refused_naming_both[file]",),
    ),
    Mutant(
        "build-metadata-twin",
        _in("repositories/repository"),
        "    if same_precedence:\n",
        "    if False:\n",
        (f"{REPOSITORIES}::test_versions_that_differ_in_build_metadata_only_are_refused[file]",),
    ),
    Mutant(
        "foreign-404",
        _in("oci/registry"),
        "    return answer.status == 404 and bool(",
        "    return answer.status == 404 or bool(",
        (f"{REGISTRY}::TestManifestsAndBlobs::test_a_404_that_no_registry_said_is_an_error",),
    ),
    Mutant(
        "blob-digest",
        _in("oci/registry"),
        "        if sha256(answer.body) != digest:\n",
        "        if False:\n",
        (f"{REGISTRY}::TestManifestsAndBlobs::test_changed_bytes_are_not_taken",),
    ),
    Mutant(
        "saved-blob-digest",
        _in("oci/registry"),
        '        if f"sha256:{hasher.hexdigest()}" != digest:\n',
        "        if False:\n",
        (f"{REGISTRY}::TestManifestsAndBlobs::test_changed_bytes_are_not_taken",),
    ),
    Mutant(
        "modified-image",
        _in("testing/requirements"),
        "        if not image_records.is_modified(build)\n",
        "",
        (
            "tests/unit/test_requirements.py::test_an_image_of_local_modifications_is_not_reported_as_tested",
        ),
    ),
    Mutant(
        "file-mode",
        _in("toolbox/files"),
        "            os.fchmod(descriptor, self._mode)\n",
        "            os.fchmod(descriptor, 0o666)\n",
        (
            f"{TOOLBOX}::test_a_write_replaces_whole_files_and_leaves_nothing_beside",
            f"{TOOLBOX}::test_files_of_a_batch_get_their_names_together_or_not_at_all",
        ),
    ),
    Mutant(
        "record-hash",
        _in("state/record"),
        "    if not _has_valid_id(line, record.id):\n",
        "    if False:\n",
        (f"{STATE}::test_an_edited_record_is_named_by_file_line_and_record",),
    ),
    Mutant(
        "claim-of-another",
        _in("oci/claim"),
        "    if other_claims:\n",
        "    if False:\n",
        (f"{REGISTRY}::TestCopy::test_a_claim_is_taken_up_by_the_same_digest_only",),
    ),
    Mutant(
        "lock-of-state",
        _in("toolbox/files"),
        "        try:\n            fcntl.flock(descriptor, fcntl.LOCK_EX)\n",
        "        try:\n",
        (f"{STATE}::test_a_writer_waits_for_the_lock_of_another",),
    ),
    Mutant(
        "lock-of-folder",
        _in("toolbox/files"),
        "        fcntl.flock(descriptor, fcntl.LOCK_EX)\n        yield\n",
        "        yield\n",
        (f"{REPOSITORIES}::test_concurrent_publishers_lose_nothing[file]",),
    ),
    Mutant(
        "login-to-another-origin",
        _in("toolbox/http"),
        "            if origin(target) != origin(request.url):\n",
        "            if False:\n",
        ("tests/unit/test_http.py::test_a_login_never_follows_to_another_origin",),
    ),
    Mutant(
        "login-to-upload-location",
        _in("oci/registry"),
        "        scopes = _push(path) if http.origin(location) == http.origin(self.base) else None\n",
        "        scopes = _push(path)\n",
        (f"{REGISTRY}::test_an_upload_location_on_another_host_does_not_get_our_login",),
    ),
    Mutant(
        "login-to-plain-realm",
        _in("auth/token"),
        '        if login is not None and realm.startswith("http:")',
        '        if False and realm.startswith("http:")',
        (f"{HOSTILE}::test_a_plain_http_realm_on_another_host_gets_no_login",),
    ),
    Mutant(
        "withdrawn",
        _in("release/derivation"),
        "    if is_withdrawn(",
        "    if False and is_withdrawn(",
        (f"{RELEASE}::test_a_withdrawn_version_is_neither_tagged_nor_promoted",),
    ),
    Mutant(
        "contradiction",
        _in("testing/requirements"),
        "    if verdict.contradictory:\n",
        "    if False:\n",
        (
            "tests/unit/test_requirements.py::test_a_contradiction_on_one_cluster_is_not_hidden_by_another",
        ),
    ),
    Mutant(
        "escape-sequences",
        _in("toolbox/redact"),
        '    text = _CONTROL.sub("�", redact(text))\n',
        "    text = redact(text)\n",
        (f"{HOSTILE}::test_registry_text_does_not_reach_the_terminal_raw",),
    ),
    Mutant(
        "escape-sequences-of-answers",
        _in("cli/step"),
        "                print(printable(texts),",
        "                print(texts,",
        ("tests/unit/test_step.py::test_what_a_step_found_does_not_reach_the_terminal_raw",),
    ),
    Mutant(
        "hidden-edit",
        _in("sources/git_tree"),
        "    absent = {path for path in skipped if not os.path.lexists(root / path)}\n",
        "    absent = {path for _letter, path in marked}\n",
        ("tests/systems/test_git.py::test_hidden_edits_are_changes",),
    ),
    Mutant(
        "tag-of-the-lowest-number",
        _in("oci/claim"),
        "        number and (ours, own) < (number, claim) for",
        "        True for",
        (
            "tests/contract/test_image_names.py::test_a_publisher_that_comes_late_waits_for_the_first",
        ),
    ),
    Mutant(
        "secret-over-lines",
        _in("toolbox/redact"),
        "        if place >= len(text):\n",
        "        if True:\n",
        (f"{HOSTILE}::test_a_secret_that_goes_on_in_the_next_line_of_a_program_is_masked",),
    ),
    Mutant(
        "notes-of-another-revision",
        _in("deployments/revisions"),
        "        if own and release.labels.get(LABEL) == own.id:\n",
        "        if own:\n",
        (
            "tests/unit/test_deployments.py::test_notes_of_a_deploy_that_died_before_helm_began_are_of_no_revision",
        ),
    ),
    Mutant(
        "foreign-helm",
        _in("deployments/revisions"),
        "        return last.notes is not None and last.origin == last.number\n",
        "        return True\n",
        ("tests/unit/test_deployments.py::test_only_what_a_deploy_left_is_mended",),
    ),
    Mutant(
        "values-of-secrets",
        _in("deployments/changes"),
        '    if value.get("kind") != "Secret":\n',
        "    if True:\n",
        ("tests/unit/test_deployments.py::test_values_of_secrets_are_hidden_wherever_they_stand",),
    ),
    Mutant(
        "fork-not-believed",
        _in("reporting/unbelieved"),
        '    return Verdict(revision, "incomplete",',
        '    return Verdict(revision, claim.word or "positive",',
        ("tests/unit/test_unbelieved.py::test_whatever_is_claimed_the_verdict_is_incomplete",),
    ),
    Mutant(
        "fork-links",
        _in("reporting/unbelieved"),
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_RDONLY | os.O_NONBLOCK",
        ("tests/unit/test_unbelieved.py::test_no_link_is_followed_and_no_pipe_waited_for",),
    ),
    Mutant(
        "commands-to-the-runner",
        _in("ci/job_log"),
        '    return _COMMAND.sub("|", text).replace("##[", "# #[")\n',
        "    return text\n",
        ("tests/unit/test_job_log.py::test_words_of_a_chart_are_no_commands_to_the_runner",),
    ),
    Mutant(
        "author-approves",
        _in("approvals/votes"),
        "AUTHOR: review.author,",
        'AUTHOR: "nobody",',
        (f"{RULES}::test_the_author_does_not_count_however_the_account_is_written[ann]",),
    ),
    Mutant(
        "vote-on-other-content",
        _in("approvals/votes"),
        "    if vote.revision not in covering:\n",
        "    if False:\n",
        (f"{RULES}::test_votes_on_other_revisions_or_without_a_right_do_not_count",),
    ),
    Mutant(
        "rejection",
        _in("approvals/votes"),
        "return not self.missing and not self.rejecting",
        "return not self.missing",
        (f"{RULES}::test_rejections_block_whoever_approves",),
    ),
    Mutant(
        "vote-without-a-right",
        _in("approvals/votes"),
        "        reason = vote.reason\n",
        '        reason = ""\n',
        (f"{RULES}::test_votes_on_other_revisions_or_without_a_right_do_not_count",),
    ),
    Mutant(
        "account-that-looks-alike",
        _in("approvals/votes"),
        "vote.account not in eligible:",
        "_alike(vote.account) not in map(_alike, eligible):",
        (f"{RULES}::test_an_account_that_only_looks_like_one_of_by_does_not_count",),
    ),
    Mutant(
        "binary-lines",
        _in("approvals/changes"),
        '    if b"\\0" in before or b"\\0" in after:\n',
        '    if b"\\0" in before and b"\\0" not in after:\n',
        (f"{RULES}::test_line_ends_binary_files_and_missing_ends",),
    ),
    Mutant(
        "lines-of-a-chart-that-is-new",
        _in("approvals/coverage"),
        "        return not self._adds_paths(merged) and self.is_same(proposed, merged)\n",
        "        return self.is_same(proposed, merged)\n",
        (f"{COVERAGE}::test_what_lay_there_before_the_chart_was_brought_needs_who_saw_it",),
    ),
    Mutant(
        "tag-that-was-moved",
        _in("approvals/production"),
        "        return not reason\n",
        "        return True\n",
        ("tests/unit/test_last_release.py::test_a_tag_that_was_moved_ends_no_list",),
    ),
    Mutant(
        "merge-that-drops-a-fix",
        _in("approvals/coverage"),
        "        if merged.before is None or self.is_ancestor(merged.before, proposed.end):\n",
        "        if True:\n",
        (f"{COVERAGE}::test_a_merge_that_drops_an_approved_fix_is_not_covered",),
    ),
    Mutant(
        "commits-left-out",
        _in("approvals/coverage"),
        "            if len(looked_at) == MOST_COMMITS:\n                return None\n",
        "            if len(looked_at) == MOST_COMMITS:\n                break\n",
        (f"{RULES}::test_commits_of_a_merge_that_are_too_many_to_be_asked_about_are_not_left_out",),
    ),
    Mutant(
        "superseded-revision",
        _in("reviews/github"),
        "        if not own and not self._is_queued(review, verdict.revision):\n",
        "        if False:\n",
        (f"{REVIEWS}::test_a_superseded_revision_gets_nothing[github]",),
    ),
    Mutant(
        "votes-for-another-target",
        _in("reviews/retargets"),
        "    if not since:\n",
        "    if True:\n",
        (f"{REVIEWS}::test_an_approval_given_for_another_target_does_not_count[github]",),
    ),
    Mutant(
        "approval-that-github-moved",
        _in("reviews/github_timeline"),
        "            if is_later and vote.revision in (event.commit_id, head):\n",
        "            if False:\n",
        (
            "tests/reviews/test_github_reviews.py::test_an_approval_that_github_moved_to_a_commit_nobody_saw_does_not_count[True]",
        ),
    ),
    Mutant(
        "queue-of-other-lines",
        _in("approvals/requiring"),
        "    if build.queued and _is_made_of(review, built, build.base, coverage):\n",
        "    if build.queued:\n",
        (
            "tests/workflows/test_official_hubs.py::"
            "test_a_merge_queue_of_github_gets_approval_and_verdict_on_its_commit[squash]",
        ),
    ),
    Mutant(
        "pinned-merge",
        _in("reviews/github_merges"),
        '{"sha": revision, "merge_method": method}',
        '{"merge_method": method}',
        (
            "tests/reviews/test_github_reviews.py::test_what_is_pushed_between_the_look_and_the_merge_is_not_merged",
        ),
    ),
    Mutant(
        "release-without-its-tag",
        _in("reviews/github_tags"),
        "        if answer.status == 404:\n",
        "        if False:\n",
        (f"{REVIEWS}::test_a_pushed_tag_becomes_one_release_with_the_chart[github]",),
    ),
    Mutant(
        "drafts-of-killed-releases",
        _in("reviews/github_tags"),
        "        self._releases.sweep({tag.name})\n",
        "",
        (
            "tests/reviews/test_github_reviews.py::test_a_release_killed_at_any_request_is_finished_and_never_doubled[drop]",
        ),
    ),
    Mutant(
        "votes-of-strangers",
        _in("reviews/github"),
        'reason = "" if writes else',
        'reason = "" if True else',
        (
            "tests/reviews/test_github_reviews.py::test_only_the_newest_word_of_people_who_may_write_counts",
        ),
    ),
    Mutant(
        "incomplete-passes",
        _in("reviews/forges"),
        '    "incomplete": "pending",\n',
        '    "incomplete": "success",\n',
        (
            "tests/reviews/test_github_reviews.py::test_a_required_check_passes_for_a_positive_verdict_only[incomplete-status]",
        ),
    ),
    Mutant(
        "index-time",
        _in("sources/git_tree"),
        "shutil.copy2(index, copied)",
        "shutil.copyfile(index, copied)",
        ("tests/systems/test_git.py::test_hidden_edits_are_changes[one index]",),
    ),
    Mutant(
        "token-to-a-link-elsewhere",
        _in("services/rest"),
        "        if not self._is_ours(url):\n",
        "        if False:\n",
        (f"{BOUNDS}::test_a_redirect_to_another_place_gets_no_token[gitlab]",),
    ),
    Mutant(
        "endless-list",
        _in("services/rest"),
        "        if len(visited) > MOST_PAGES:\n",
        "        if False:\n",
        (f"{BOUNDS}::test_a_list_is_read_to_its_end_and_an_endless_one_is_not[github]",),
    ),
    Mutant(
        "limit-by-our-clock",
        _in("services/rest"),
        'parsedate_to_datetime(headers["date"]).timestamp()',
        "2e9",
        (f"{BOUNDS}::test_each_sign_of_a_limit_is_enough[gitlab, until when]",),
    ),
    Mutant(
        "limit-that-github-answers-as-403",
        _in("services/github"),
        'or "retry-after" in answer.headers or',
        "or",
        (f"{BOUNDS}::test_each_sign_of_a_limit_is_enough[github, how long]",),
    ),
    Mutant(
        "write-to-a-renamed-place",
        _in("toolbox/http"),
        'request.method in ("GET", "HEAD")',
        "True",
        (f"{BOUNDS}::test_a_renamed_place_is_not_written_to[github]",),
    ),
    Mutant(
        "sent-twice",
        _in("toolbox/http"),
        "budget=budget if repeatable else 0",
        "budget=budget",
        (f"{BOUNDS}::test_what_is_not_sure_to_be_new_is_sent_once[github]",),
    ),
    Mutant(
        "fork-over-our-verdict",
        _in("reporting/unbelieved"),
        'if word in ("positive", "negative"):',
        "if False:",
        (
            "tests/workflows/test_official_hubs.py::"
            "test_what_a_fork_hands_over_on_github_is_told_and_believed_by_nobody",
        ),
    ),
    Mutant(
        "token-over-http",
        _in("services/rest"),
        'host.plain_http or is_loopback(parts.hostname or "")',
        "True",
        (
            "tests/unit/test_doctests.py::test_examples_in_docstrings_give_the_stated_results[pipeline_steps.services.rest]",
        ),
    ),
)
