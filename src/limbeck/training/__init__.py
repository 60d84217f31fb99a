"""The run. The only room that knows ``transformers.Trainer``."""

from limbeck.training.arguments import DistillationArguments
from limbeck.training.checkpoints import last_complete_checkpoint
from limbeck.training.tasks import CausalLM, Classification, Targets, Task
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
