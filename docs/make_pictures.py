"""Draw the pictures of the documentation into ``docs/pictures/``, and write the temperature explorer there.

    python docs/make_pictures.py

The README's picture is drawn too. It alone is in git.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from limbeck import distillation_loss, logit_mse_loss
from limbeck.commands.distill import distill
from limbeck.commands.exploring import explorer_of
from limbeck.config import config_from
from limbeck.config.schema import TeacherConfig
from limbeck.data import load_splits
from limbeck.evaluation import predict_logits
from limbeck.losses import DIVERGENCES
from limbeck.models import load_model
from limbeck.report import Mark, write_explorer_page
from limbeck.run.folder import STUDENT, TEACHER

sys.path.insert(0, str(Path(__file__).parents[1]))
from experiments.collect import RESULTS, Arms
from experiments.combinations import TEMPERATURES, WIDTHS, of_width

import readme_picture

FOLDER = Path(__file__).parent / "pictures"
BLUE, RED, GREY = "#3b6ea5", "#a5533b", "#888888"
EXPLORED = {
    "data": {"name": "digits", "labelled": 100},
    "teacher": {
        "model": "cnn",
        "settings": {"width": 8},
        "augmentation": {"shift": 1},
        "training": {"max_steps": 300, "per_device_train_batch_size": 64, "learning_rate": 5e-3},
    },
    "student": {"model": "mlp", "settings": {"hidden": [16]}},
    "distillation": {"temperature": 4.0},
    "training": {"max_steps": 200, "per_device_train_batch_size": 64, "learning_rate": 1e-2},
}
"""The run whose examples the explorer of the site shows."""


def main() -> None:
    """Draw each picture as SVG and PNG, in a file that has the function's name."""
    FOLDER.mkdir(exist_ok=True)
    for draw in (soft_targets, gradient_norms, limit, divergences, speed, capacity, lost):
        figure = draw()
        path = FOLDER / f"{draw.__name__}.svg"
        figure.savefig(path, bbox_inches="tight")
        figure.savefig(path.with_suffix(".png"), bbox_inches="tight", dpi=110)
        print(path)
    readme_picture.write()
    explorer()


def explorer() -> None:
    """Train a teacher and a student on digits, and write the page on which a visitor moves the temperature."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_from(EXPLORED | {"out": folder}, [], name="explorer")
        distill(config)
        teacher, student = (load_model(Path(folder) / name) for name in (TEACHER, STUDENT))
    splits = load_splits(config.data, seed=config.seed)
    logits = predict_logits(teacher, splits.test), predict_logits(student, splits.test)
    quiet = config.model_copy(update={"teacher": TeacherConfig(model="cnn")})  # its views are then passes with dropout
    found = explorer_of(quiet, splits, teacher, logits, [Mark(config.distillation.temperature, "used")])
    path = FOLDER / "explorer.html"
    write_explorer_page(path, found, ["A CNN taught this small student to read digits. Drag T."])
    print(path)


def capacity() -> Figure:
    """Return a plot of the accuracy gained over training without a teacher, against T, for students of several sizes."""
    figure, axes = axes_of(7.2, 4.2)
    arms = Arms()
    colours = colormaps["viridis"]
    shown = [width for width in WIDTHS if width >= 16]  # the losses of smaller students are too large for the axis
    for i, width in enumerate(shown):
        name, colour = of_width(width), colours(i / len(shown))
        alone = arms(name, alpha=0.0)
        gains = [arms(name, temperature=t) - alone for t in TEMPERATURES]
        mean = [gain.mean() for gain in gains]
        error = [gain.std(ddof=1) / len(gain) ** 0.5 for gain in gains]
        axes.errorbar(TEMPERATURES, mean, yerr=error, color=colour, capsize=2, label=f"{width} units")
        best = max(range(len(mean)), key=lambda j: mean[j])
        axes.plot(TEMPERATURES[best], mean[best], "o", color=colour)
    axes.axhline(0, color=GREY, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
    axes.minorticks_off()
    axes.set_xlabel("T (the best of each size is marked)")
    axes.set_ylabel("points of test accuracy over no teacher")
    axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure


def lost() -> Figure:
    """Return a plot of the accuracy that each choice of T loses against the best T of the grid."""
    rows = json.loads((RESULTS / "replay.json").read_text())
    figure, axes = axes_of(7.2, 4.6)
    names = list(dict.fromkeys(row["case"] for row in rows))
    firsts = [next(row for row in rows if row["case"] == name) for name in names]
    for i, name in enumerate(names):
        own = [row["at_best"] - row["at_chosen"] for row in rows if row["case"] == name]
        axes.plot(own, [i] * len(own), "o", color=BLUE, alpha=0.4, label=None if i else "searched, each time", zorder=3)
    for key, colour, marker, label in (("at_1", GREY, "x", "T = 1"), ("at_4", RED, "s", "T = 4")):
        axes.plot([r["at_best"] - r[key] for r in firsts], range(len(names)), marker, color=colour, label=label)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("points of test accuracy below the best T of the grid")
    axes.legend(frameon=False, fontsize=8)
    return figure


def axes_of(width: float = 6.4, height: float = 3.4) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes; width and height are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def example_logits(rows: int = 64, classes: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random logits of a student and of a teacher that is near it, in float64, with rows of mean zero."""
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    student = teacher + torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True)


def soft_targets() -> Figure:
    """Return a plot of the probabilities that one row of logits has at four temperatures."""
    logits = torch.tensor([6.0, 3.5, 2.5, 0.5, -1.0, -3.0])
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    temperatures = (1, 2, 4, 20)
    for i, t in enumerate(temperatures):
        axes = figure.add_subplot(1, len(temperatures), i + 1)
        axes.bar(list("abcdef"), (logits / t).softmax(-1).tolist(), color=BLUE)
        axes.set_ylim(0, 1)
        axes.set_title(f"T = {t}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if i:
            axes.set_yticklabels([])
    return figure


def gradient_norms() -> Figure:
    """Return a plot of the norm of the soft gradient against T, with and without T²."""
    student, teacher = example_logits()
    temperatures = torch.logspace(-0.3, 2, 30, dtype=torch.float64).tolist()
    norms: dict[bool, list[float]] = {True: [], False: []}
    for t in temperatures:
        for compensate, values in norms.items():
            z = student.clone().requires_grad_()
            distillation_loss(z, teacher, alpha=1, temperature=t, compensate=compensate).backward()
            values.append(z.grad.norm().item())
    figure, axes = axes_of()
    axes.loglog(temperatures, norms[False], color=RED, label="without T²")
    axes.loglog(temperatures, norms[True], color=BLUE, label="with T²")
    limit_norm = ((student - teacher) / student.shape[-1] / len(student)).norm().item()
    axes.axhline(limit_norm, color=GREY, linestyle="--", linewidth=1, label="limit, (z_s - z_t) / V")
    axes.loglog(temperatures, [limit_norm / t**2 for t in temperatures], color=GREY, linestyle=":", label="limit / T²")
    axes.set_ylim(norms[False][-1] / 2, None)
    axes.set_xlabel("temperature T")
    axes.set_ylabel("norm of the soft gradient")
    axes.legend(frameon=False, fontsize=9)
    return figure


def limit() -> Figure:
    """Return a plot of T² KL, divided by its limit for large T (logit matching), against T."""
    student, teacher = example_logits()
    temperatures = torch.logspace(0, 2.5, 30, dtype=torch.float64).tolist()
    matching = logit_mse_loss(student, teacher)
    ratio = [(distillation_loss(student, teacher, alpha=1, temperature=t) / matching).item() for t in temperatures]
    figure, axes = axes_of()
    axes.semilogx(temperatures, ratio, color=BLUE)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel("temperature T")
    axes.set_ylabel("T² KL / logit MSE")
    return figure


def divergences() -> Figure:
    """Return a plot of the smooth divergences with ``compensate="curvature"``, divided by their common limit, against T."""
    student, teacher = example_logits()
    temperatures = torch.logspace(0, 2.5, 30, dtype=torch.float64).tolist()
    matching = logit_mse_loss(student, teacher)
    figure, axes = axes_of()
    for name in DIVERGENCES:
        if name in ("tvd", "logit_mse"):
            continue
        ratio = [
            distillation_loss(student, teacher, alpha=1, temperature=t, divergence=name, compensate="curvature")
            / matching
            for t in temperatures
        ]
        axes.semilogx(temperatures, [r.item() for r in ratio], label=name)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel("temperature T")
    axes.set_ylabel("loss / logit MSE")
    axes.legend(frameon=False, fontsize=8)
    return figure


def speed() -> Figure:
    """Return a plot of the speed in multiples of eager torch's, from the saved results of benchmarks/."""
    figure, axes = axes_of(7.2, 3.8)
    path = next((FOLDER.parents[1] / "benchmarks" / "results").glob("losses_*.json"))
    saved = json.loads(path.read_text(encoding="utf-8"))
    rows = [r for r in saved["results"] if r["dtype"] == "float32" and r["divergence"] == "forward_kl"]
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    shown = {"torch.compile": GREY, "limbeck": BLUE, "limbeck, in place": RED}
    for i, (name, color) in enumerate(shown.items()):
        for x, shape in enumerate(shapes):
            seconds = {r["name"]: r["seconds"] for r in rows if tuple(r["shape"]) == shape}
            ratio = seconds["eager"] / seconds[name]
            bar = axes.bar(x + 0.27 * (i - 1), ratio, 0.25, color=color, label=name if x == 0 else None)
            axes.bar_label(bar, [f"{ratio:.1f}"], fontsize=8, padding=2)
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(shapes)), [f"{n} x {v:,}" for n, v in shapes])
    axes.set_ylabel("times as fast as eager torch")
    axes.set_xlabel(f"logits in float32, forward and backward, on {saved['machine']['device']}")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
