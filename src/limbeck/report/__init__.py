"""Tables, figures and self-contained pages about runs, comparisons and temperatures.

This room is not public: the commands use it. It may import ``temperature``, ``evaluation``, ``data`` and the rooms below
them, but not ``training``.
"""

from limbeck.report.drawing import save_figure
from limbeck.report.figures import comparison_figure, loss_figure, soft_target_figure, uncertain_images_figure
from limbeck.report.pages import (
    write_analysis_page,
    write_comparison_page,
    write_demo_page,
    write_run_page,
    write_search_page,
)
from limbeck.report.tables import Table, class_table, comparison_table, is_share, metrics_table, table_caption
from limbeck.report.temperatures import analysis_table, search_figure, search_table

__all__ = [
    "Table",
    "analysis_table",
    "class_table",
    "comparison_figure",
    "comparison_table",
    "is_share",
    "loss_figure",
    "metrics_table",
    "save_figure",
    "search_figure",
    "search_table",
    "soft_target_figure",
    "table_caption",
    "uncertain_images_figure",
    "write_analysis_page",
    "write_comparison_page",
    "write_demo_page",
    "write_run_page",
    "write_search_page",
]
