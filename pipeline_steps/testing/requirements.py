"""What a release or a review requires besides tests: the key of each such record, decided by today's settings.

A record of `check` counts for the values files and commands it was made with; a record made by `record` for its name
and the content. promote and report ask the same keys, so they cannot disagree.
"""

from __future__ import annotations

from typing import Any

from pipeline_steps.config.language import Config
from pipeline_steps.state.record import make_key
from pipeline_steps.testing import scenario
from pipeline_steps.testing.settings import own_files, values_pattern
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

CHECK = "check"
#: Raise when what a record of `check` (or of `record`) says changes for the same content.
CHECK_FORMAT = 1
RECORD_FORMAT = 1


def key_of(need: str, checkout: Checkout, chart: Chart, config: Config) -> str:
    """The key of the record that `need`, a step or a name given to `record`, leaves for the chart's content."""
    if need == CHECK:
        return check_key(checkout, chart, config)
    return record_key(need, chart)


def check_key(checkout: Checkout, chart: Chart, config: Config) -> str:
    """The key of `check` with the values files of the chart and the commands of the configuration."""
    parameters = check_parameters(checkout, chart, config)
    return make_key(CHECK, CHECK_FORMAT, parameters=parameters, content=chart.content, consumed={})


def check_parameters(checkout: Checkout, chart: Chart, config: Config) -> dict[str, Any]:
    """What `check` runs: values files ("" for the chart's own values), commands."""
    values = scenario.values_files(own_files(checkout, chart), values_pattern(config, chart)) or ("",)
    return {"values": list(values), "commands": list(config.check.commands)}


def record_key(name: str, chart: Chart) -> str:
    """The key of what `record --name NAME` made of the chart's content, whatever program ran."""
    return make_key(name, RECORD_FORMAT, parameters={}, content=chart.content, consumed={})
