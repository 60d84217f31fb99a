"""Tasks: how the outputs of a model meet the targets of a batch, one small class for each kind of task.

The trainer, the evaluation, comparisons, predictions and reports ask a task, and know no kind of model themselves. This room
may import ``models``, ``outputs``, ``losses`` and the rooms below them. ``base`` has what every task answers, ``recognition``
has the names of the tasks and finds the task of a model, ``metrics`` has the metrics of classes, ``numbers`` has the tasks
without classes.
"""

from limbeck.tasks.base import Targets, Task, has_numbers
from limbeck.tasks.causal_lm import CausalLM
from limbeck.tasks.classification import Classification
from limbeck.tasks.dense_prediction import DensePrediction
from limbeck.tasks.encoder_decoder import EncoderDecoder
from limbeck.tasks.multi_label import MultiLabel
from limbeck.tasks.numbers import Embeddings, Regression
from limbeck.tasks.recognition import TASKS, recognise, resolve_task, task_named, task_of_data
from limbeck.tasks.tokens import MaskedLM, TokenClassification

__all__ = [
    "TASKS",
    "CausalLM",
    "Classification",
    "DensePrediction",
    "Embeddings",
    "EncoderDecoder",
    "MaskedLM",
    "MultiLabel",
    "Regression",
    "Targets",
    "Task",
    "TokenClassification",
    "has_numbers",
    "recognise",
    "resolve_task",
    "task_named",
    "task_of_data",
]
