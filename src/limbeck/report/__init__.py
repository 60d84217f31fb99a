"""Pictures and self-contained pages: ``pages`` for runs and comparisons, ``temperatures`` for which T."""

from limbeck.report.pages import (
    Section,
    arm_rows,
    comparison_figure,
    metric_rows,
    save_figure,
    soft_target_figure,
    soft_target_section,
    unsure_figure,
    write_page,
    write_run_page,
)
from limbeck.report.temperatures import analysis_rows, analysis_sections, search_figure, search_rows

__all__ = [
    "Section",
    "analysis_rows",
    "analysis_sections",
    "arm_rows",
    "comparison_figure",
    "metric_rows",
    "save_figure",
    "search_figure",
    "search_rows",
    "soft_target_figure",
    "soft_target_section",
    "unsure_figure",
    "write_page",
    "write_run_page",
]
