"""The pages of the documentation and the lines of shell on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def scripts(page: Path) -> list[str]:
    """Every line of shell on a page, comments left out: its sh blocks, and what CI gives to a
    shell.
    """
    text = page.read_text()
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in lines(block)
    ]
    return [
        *commands,
        *re.findall(r"\bsh '([^']*)'", text),
        *re.findall(r'"(pipeline-steps [^"]*)"\]', text),
    ]


def lines(block: str) -> list[str]:
    """The lines of a block of shell: continued ones joined, comments left out."""
    joined = block.replace("\\\n", " ")
    return [
        line.rstrip()
        for line in re.sub(r"(^|\s)#.*", r"\1", joined, flags=re.MULTILINE).splitlines()
        if line.strip()
    ]


#: Run by test_demo.py, with an engine, a cluster and the sandbox; `tutorial.md` is run there whole.
WITH_A_CLUSTER = (
    "pipeline-steps doctor",
    "pipeline-steps doctor --for build_image",
    "pipeline-steps doctor --for integration_test",
    'pipeline-steps doctor --config pipeline.yaml --config "$(pipeline-steps sandbox up)"',
    "pipeline-steps sandbox up",
    "pipeline-steps sandbox status",
    "pipeline-steps run private",
    "pipeline-steps run private --release",
    "pipeline-steps run check build_image",
    "pipeline-steps build_image",
    "pipeline-steps build_image --chart hello",
    "pipeline-steps build_image --chart hello --pull",
    "pipeline-steps reproduce build_image/backend",
    'pipeline-steps snapshot --chart hello --config "$(pipeline-steps sandbox up)"',
    'pipeline-steps integration_test --chart hello --cluster sandbox --config "$(pipeline-steps sandbox up)"',
    "pipeline-steps integration_test --cluster ci",
    "pipeline-steps integration_test --chart hello --cluster k131 --retry-infrastructure 2",
)
_SANDBOX = "tests/systems/test_sandbox.py"
_UP_AND_DOWN = f"{_SANDBOX}::test_up_again_changes_nothing_and_down_leaves_nothing"
_FAILS_AGAIN = "tests/workflows/test_reproduce_cluster.py::test_reproduce_keep_leaves_the_namespace_of_a_failed_test"
_DEPLOYS = "tests/workflows/test_direct.py::test_the_how_to_does_what_it_says"
_SUBVERSION = "tests/workflows/test_subversion.py::test_the_how_to_does_what_it_says"
_LAUNCHPAD = "tests/workflows/test_public.py::test_the_how_to_does_what_it_says"
_MERGED = "tests/reviews/test_merge.py::test_only_the_reviewed_commit_is_merged"
_FORK = "tests/reviews/test_review_reports.py::test_what_a_fork_hands_over_is_told_and_counts_for_nothing"
_APPROVALS = "tests/reviews/test_approvals.py::test"
#: Line → the test that runs it, with other names.
ELSEWHERE = {
    "pipeline-steps run public --proposal lp:~dev/charts/fix --channels configured": _LAUNCHPAD,
    "pipeline-steps run public --proposal lp:~dev/charts/fix": (
        "tests/workflows/test_public.py::test_a_proposal_is_checked_and_tested_as_a_ci_would"
    ),
    "pipeline-steps report --unbelieved handed-over": _FORK,
    "python -m pipeline_steps.approval --chart hello": (
        f"{_APPROVALS}_every_change_since_the_beginning_needs_its_own_approval"
    ),
    "pipeline-steps approval --chart hello": f"{_APPROVALS}_every_change_since_the_beginning_needs_its_own_approval",
    "pipeline-steps approval --review 17": f"{_APPROVALS}_an_approval_survives_a_clean_rebase_and_no_other_line",
    "pipeline-steps merge --review lp:~dev/charts/fix --plan": _LAUNCHPAD,
    "pipeline-steps merge --review 17 --plan": _MERGED,
    "pipeline-steps merge --review 17": _MERGED,
    "pipeline-steps doctor --for tag_release": (
        "tests/systems/test_doctor.py::test_doctor_asks_the_review_system_for_steps_that_need_approvals"
    ),
    "pipeline-steps run public --channels configured": _LAUNCHPAD,
    "pipeline-steps tag_release --global 2026.11": _LAUNCHPAD,
    "pipeline-steps regenerate --tags '20*'": _LAUNCHPAD,
    "pipeline-steps merge --review lp:~dev/charts/fix": _LAUNCHPAD,
    "svn checkout svn://svn.example.com/charts/trunk charts": _SUBVERSION,
    "cd charts": _SUBVERSION,
    "pipeline-steps doctor --for check": _SUBVERSION,
    "svn list svn://svn.example.com/charts/tags": _SUBVERSION,
    "pipeline-steps promote --tag hello-1.0.0": _SUBVERSION,
    "pipeline-steps regenerate --source svn://svn.example.com/charts --charts 'charts/*' "
    "--tags '{name}-{version}' --to file:///srv/charts": _SUBVERSION,
    "pipeline-steps deploy hello-team-a --plan": _DEPLOYS,
    "pipeline-steps deploy hello-team-a": _DEPLOYS,
    "pipeline-steps deploy hello-team-a --modified": _DEPLOYS,
    "pipeline-steps deploy --status": _DEPLOYS,
    "pipeline-steps deploy hello-team-a --undo": _DEPLOYS,
    "pipeline-steps run direct --deployment hello-team-a": _DEPLOYS,
    "pipeline-steps run direct --deployment hello-team-a --channels configured": _DEPLOYS,
    "pipeline-steps sandbox up --kubeconfig FILE --context NAME": "tests/workflows/test_demo.py::environment",
    "pipeline-steps sandbox up --kubeconfig FILE [--context NAME]": "tests/workflows/test_demo.py::environment",
    "pipeline-steps sandbox up --maker none": _UP_AND_DOWN,
    "pipeline-steps sandbox down": _UP_AND_DOWN,
    "pipeline-steps sandbox up --kubeconfig FILE --pull-from 192.0.2.7": (
        f"{_SANDBOX}::test_a_scripted_kind_is_called_and_its_nodes_get_a_read_only_registry"
    ),
    "pipeline-steps integration_test --cluster ci --shard auto": (
        "tests/unit/test_selection.py::test_shard_auto_without_a_shard_in_ci_is_refused"
    ),
    "pipeline-steps reproduce integration_test/hello --last-failed --keep --cluster k131": _FAILS_AGAIN,
    "pipeline-steps reproduce integration_test/hello --state https://ci.example.com/…/state.jsonl --keep": (
        _FAILS_AGAIN
    ),
    "pipeline-steps bump --chart hello --part minor": (
        "tests/unit/test_bump.py::test_larger_part_after_a_smaller_one_counts_from_the_release"
    ),
    'pipeline-steps bump --affected --part minor -m "Serve the page over TLS"': (
        "tests/unit/test_bump.py::test_affected_takes_what_changed_since_the_release_branch_but_not_tests_alone"
    ),
    "docker build --file examples/Dockerfile --tag registry.example.com/ci/pipeline-steps:0.1 .": (
        "tests/systems/test_tool_image.py::test_the_tool_image_is_built_on_a_given_debian_and_checks_a_chart"
    ),
    "ls .pipeline/failures": "tests/workflows/test_demo.py::test_the_tutorial_does_what_it_says",
}
#: Page → the test that runs it from its first line to its last.
RUN_WHOLE = {
    "docs/how-to/gitea.md": "tests/reviews/test_gitea.py::test_the_how_to_does_what_it_says",
    "docs/how-to/gerrit.md": "tests/reviews/test_gerrit.py::test_the_how_to_does_what_it_says",
    "docs/tutorial.md": "tests/workflows/test_demo.py::test_the_tutorial_does_what_it_says",
    "docs/how-to/bazaar.md": (
        "tests/workflows/test_every_source.py::test_the_page_about_bazaar_does_what_it_says"
    ),
}
_NO_JENKINS = "no Jenkins server can be had; test_jenkinsfile.py runs the files"
#: Line → why no test runs it.
NOT_RUN = {
    'curl --user "$JENKINS_USER:$JENKINS_TOKEN" --data-urlencode value@Jenkinsfile '
    '"$JENKINS_URL/job/reviews/job/charts/descriptorByName/'
    'org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition/checkScriptCompile"': _NO_JENKINS,
    'curl --user "$JENKINS_USER:$JENKINS_TOKEN" --form "jenkinsfile=<examples/Jenkinsfile.declarative" '
    '"$JENKINS_URL/pipeline-model-converter/validate"': _NO_JENKINS,
    "git push git@git.example.com:ci/pipeline-steps.git HEAD:refs/heads/main HEAD:refs/tags/0.1": (
        "it pushes to a server of nobody"
    ),
    "docker push registry.example.com/ci/pipeline-steps:0.1": "it pushes to a server of nobody",
    "make demo": "it installs packages and starts an engine for good; test_demo.py runs its parts",
    "make demo-direct": "the same; test_direct.py runs what it shows",
    "make demo-forge": "the same; test_official.py runs what it shows",
    "make demo-gerrit": "the same; test_private.py runs what it shows",
    "make demo-public": "it installs packages; test_public.py runs what it shows",
    "make demo-down": "it would end the engine of whoever runs the tests",
    "make check": "it runs this test",
    "make test": "it runs this test",
    "make faults": "a lane of its own, which `make test` runs",
    "make mutants": "minutes; a lane of `make test` runs a sample",
    "make bench": "minutes; its figures are about the machine",
    "FUZZ=50000 .venv/bin/pytest tests/unit/test_fuzz.py": "minutes; test_fuzz.py runs with fewer inputs",
    "python3 -m venv ~/venv && . ~/venv/bin/activate": "it writes into the home of whoever runs the tests",
    "pip install /where/this/clone/is": "tools/environment.py installs the clone for every test",
    "mvn -q package -f apps/invoicer": "Maven is an example; tests of `generated` files write them",
}
