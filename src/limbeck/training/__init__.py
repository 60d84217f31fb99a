"""The training run: ``transformers.Trainer`` with a teacher and a distillation loss.

This is the only room that knows ``transformers.Trainer``. It may import ``store``, ``teachers``, ``temperature``, ``tasks``,
``models``, ``losses`` and ``errors``.
"""

from limbeck.tasks import CausalLM, Classification, Targets, Task
from limbeck.training.arguments import DistillationArguments
from limbeck.training.checkpoints import last_complete_checkpoint
from limbeck.training.trainer import DistillationTrainer

__all__ = [
    "CausalLM",
    "Classification",
    "DistillationArguments",
    "DistillationTrainer",
    "Targets",
    "Task",
    "last_complete_checkpoint",
]
