"""Distil a digit classifier in a training loop written by hand, with accelerate for devices and processes.

    python examples/plain_loop.py

The teacher learns from 1,397 labels. Two students have 100 of them: one learns alone, one learns from the teacher too.
"""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn

from limbeck import DistillationLoss

pixels, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
data = torch.utils.data.TensorDataset(pixels.float() / 16, labels.long())
train, test = torch.utils.data.random_split(data, [1397, 400], generator=torch.Generator().manual_seed(0))


def fit(model: nn.Module, data: torch.utils.data.Dataset, teacher: nn.Module | None, epochs: int) -> float:
    """Train ``model`` and return its test accuracy at T = 1. Without a teacher, it learns from the labels alone."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    objective = DistillationLoss(temperature=4.0, alpha=0.0 if teacher is None else 0.9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(epochs):
        for images, targets in loader:
            with torch.no_grad():
                teacher_logits = None if teacher is None else teacher.eval()(images)
            accelerator.backward(objective(model(images), teacher_logits, targets))
            optimizer.step()
            optimizer.zero_grad()
    images, targets = next(iter(torch.utils.data.DataLoader(test, batch_size=len(test))))
    with torch.no_grad():
        predictions = model.eval()(images.to(accelerator.device)).argmax(-1).cpu()
    return (predictions == targets).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, 10))
    print(f"teacher, 1,397 labels         {fit(teacher, train, None, epochs=20):.3f}")
    few = torch.utils.data.Subset(train, range(100))
    for name, source in (("alone", None), ("distilled", teacher)):
        torch.manual_seed(1)
        student = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        print(f"student {name}, 100 labels".ljust(30) + f"{fit(student, few, source, epochs=200):.3f}")
