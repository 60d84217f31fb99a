"""Tables, figures and self-contained pages about runs, comparisons and temperatures.

This room is not public: the commands use it. It may import ``temperature``, ``evaluation``, ``data`` and the rooms below
them, but not ``training``.
"""

from limbeck.report.classes import class_gain_table, confusion_table, differing_examples, reliability_diagram
from limbeck.report.details import Details, Differing
from limbeck.report.drawing import save_figure
from limbeck.report.explorer import Explorer, Mark, choose_rows
from limbeck.report.figures import comparison_figure, loss_figure, soft_target_figure, uncertain_images_figure
from limbeck.report.pages import (
    write_analysis_page,
    write_comparison_page,
    write_demo_page,
    write_explorer_page,
    write_run_page,
    write_search_page,
)
from limbeck.report.shown import Shown, show_examples
from limbeck.report.tables import (
    Table,
    class_table,
    comparison_table,
    is_share,
    metrics_table,
    name_of_metric,
    speed_table,
    table_caption,
)
from limbeck.report.temperatures import analysis_table, search_figure, search_table

__all__ = [
    "Details",
    "Differing",
    "Explorer",
    "Mark",
    "Shown",
    "Table",
    "analysis_table",
    "choose_rows",
    "class_gain_table",
    "class_table",
    "comparison_figure",
    "comparison_table",
    "confusion_table",
    "differing_examples",
    "is_share",
    "loss_figure",
    "metrics_table",
    "name_of_metric",
    "reliability_diagram",
    "save_figure",
    "search_figure",
    "search_table",
    "show_examples",
    "soft_target_figure",
    "speed_table",
    "table_caption",
    "uncertain_images_figure",
    "write_analysis_page",
    "write_comparison_page",
    "write_demo_page",
    "write_explorer_page",
    "write_run_page",
    "write_search_page",
]
