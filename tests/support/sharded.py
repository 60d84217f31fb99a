"""Two language models whose weights are spread over two processes by FSDP2; a test starts this file: sharded.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn

from limbeck import DistillationLoss
from limbeck.models.heads import find_head
from limbeck.teachers import LiveTeacher
from support.language import llama

IDS = torch.randint(1, 29, (2, 2, 9), generator=torch.Generator().manual_seed(0))
"""The sequences of each process."""
LABELS = IDS.clone()
LABELS[0, 1, 4:] = -100
COUNTED = int((LABELS[..., 1:] != -100).sum())


def models(is_tied: bool) -> tuple[nn.Module, nn.Module]:
    """Return the student and its teacher."""
    student = llama(8, seed=1)
    student.config.tie_word_embeddings = is_tied
    student.tie_weights()
    return student, llama(12, seed=2)


def objective() -> DistillationLoss:
    """Return the loss."""
    return DistillationLoss(temperature=2.0, alpha=0.7)


def work(rank: int, folder: str, is_tied: bool) -> None:
    """Save the gradients of a process group whose processes have a part of each weight, and of the batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    mesh, (student, model), batch = init_device_mesh("cpu", (2,)), models(is_tied), {"input_ids": IDS[rank]}
    for sharded in (student, model):
        for part in (*sharded.model.layers, *([] if is_tied else [sharded.lm_head]), sharded):
            fully_shard(part, mesh=mesh)
    head, teacher = find_head(student, batch), LiveTeacher(model)
    teacher.find_head(batch)
    known = teacher.unprojected(batch)
    assert known is not None
    known = known._replace(hidden=known.hidden[:, :-1])

    def loss(hidden: torch.Tensor) -> torch.Tensor:
        ours = head.unprojected(hidden[:, :-1])
        return objective().unprojected_parts(ours, known, LABELS[rank, :, 1:], classes=29, num_items=COUNTED).total

    (2 * head.run(lambda: student(**batch), loss)).backward()  # FSDP divides by the number of processes
    gradients = {name: weight.grad.full_tensor() for name, weight in student.named_parameters()}
    if rank == 0:
        torch.save(gradients, Path(folder) / "gradients.pt")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(work, (sys.argv[1], sys.argv[2] == "tied"), nprocs=2)
