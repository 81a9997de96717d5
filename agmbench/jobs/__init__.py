"""A `JobSpec` contains everything that fixes the numbers of a job; its digest identifies it. Torch is not imported.

Names are checked against the registry here; parameters are checked against the components' signatures when a job is built.
"""

from agmbench.jobs.composed import NO_METRICS, compose
from agmbench.jobs.faults import fault
from agmbench.jobs.recipe import OF_PARTS, Count, Frozen, Schedule, Training
from agmbench.jobs.spec import (
    COMPARED,
    CORE_VERSION,
    LATER,
    MADE_OF_THE_SEED,
    PHASES,
    Component,
    JobSpec,
    cell_of,
    digest,
    flat,
    in_use,
    setting,
)
from agmbench.jobs.texts import (
    JobFile,
    as_text,
    job_in,
    job_of,
    overlaid,
    parse_ranges,
    parse_settings,
    setting_texts,
    spec_of,
)

__all__ = [
    "COMPARED",
    "CORE_VERSION",
    "LATER",
    "MADE_OF_THE_SEED",
    "NO_METRICS",
    "OF_PARTS",
    "PHASES",
    "Component",
    "Count",
    "Frozen",
    "JobFile",
    "JobSpec",
    "Schedule",
    "Training",
    "as_text",
    "cell_of",
    "compose",
    "digest",
    "fault",
    "flat",
    "in_use",
    "job_in",
    "job_of",
    "overlaid",
    "parse_ranges",
    "parse_settings",
    "setting",
    "setting_texts",
    "spec_of",
]
