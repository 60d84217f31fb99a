"""What do the tables of docs/explanation/temperature.md say?

    python -m experiments.report

Each place of the page between ``<!-- measured: NAME -->`` and ``<!-- end -->`` is filled by the function of that name
here, from the files in experiments/results/. The suite checks that the page is what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from benchmarks.report import ROOT, filled
from experiments import studies
from experiments.collect import RESULTS, Arms, mean_and_error
from experiments.combinations import GRID, TEMPERATURES, WIDTHS, of_width
from experiments.replay import summary

PAGE = ROOT / "docs" / "explanation" / "temperature.md"


def replay_rows() -> list[dict]:
    """Return what ``experiments.replay --judge`` wrote, one entry for each choice of the search."""
    return json.loads((RESULTS / "replay.json").read_text(encoding="utf-8"))


def replay() -> list[str]:
    """Return the table of the search against all thirteen temperatures."""
    lines = ["| student | without a teacher | T = 1 | T = 4 | best | lost, 300 examples | lost, 1,000 | lost, all |",
             "|---|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    rows = replay_rows()
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        first, most = own[0], max(row["examples"] for row in own)

        def lost(examples: int, own: list[dict] = own) -> str:
            found = [row["at_best"] - row["at_chosen"] for row in own if row["examples"] == examples]
            return f"{np.mean(found):.2f}" if found else ""

        last = f"{lost(most)} ({most:,})" if most not in (300, 1000) else ""
        new = " *" if first["new"] else ""
        lines.append(
            f"| {name}{new} | {first['alone']:.2f} | {first['at_1']:.2f} | {first['at_4']:.2f} | {first['at_best']:.2f} at T = "
            f"{first['best']:g} | {lost(300)} | {lost(1000)} | {last} |"
        )
    return lines


def verdicts() -> list[str]:
    """Return the table of the share of the gain that the search keeps, and of its verdicts."""
    parts = {
        "all": lambda row: True, "300 validation examples": lambda row: row["small"], "more": lambda row: not row["small"],
        "chosen after the first rule was fixed (*)": lambda row: row["new"],
    }  # fmt: skip
    lines = ["| | points lost | gain kept, % | pays, of these wrong | does not pay, of these wrong | cannot be told |",
             "|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for label, wanted in parts.items():
        found = summary(replay_rows(), wanted)
        open_ = found["choices"] - found["pays"] - found["denied"]
        pays, denied = (f"{found[answer]}, {found[f'{answer}_wrong']}" for answer in ("pays", "denied"))
        kept = f"{found['points_lost']:.2f} | {100 * found['gain_kept']:.1f}"
        lines.append(f"| {label} | {kept} | {pays} | {denied} | {open_} |")
    return lines


def shortness() -> list[str]:
    """Return the table of the best temperatures of short trainings, which are lower than those of whole ones."""
    arms = Arms()
    lines = ["| student | best T after 1/4 of the steps | after 1/2 | after all |", "|---|--:|--:|--:|"]
    for name in GRID:
        cells = []
        for share in (0.25, 0.5, 1.0):
            found = {t: arms(name, "validation", share=share, temperature=t)[:2].mean() for t in TEMPERATURES}
            cells.append(f"{max(found, key=lambda t: found[t]):g}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def rule() -> list[str]:
    """Return the table of rules that guess T without training, each judged by leaving one student out."""
    results = json.loads((RESULTS / "rule.json").read_text(encoding="utf-8"))["rules"]
    named = {rule["rule"]: rule for rule in results}
    singles = [rule["rule"] for rule in results if len(rule["features"]) == 1]
    chosen = ["T = 1", "T = 1.5", "T = 2", "T = 4", *singles, "log T of 1.5 classes + log parameters + SGD"]
    best = next(rule["rule"] for rule in results if rule["features"])
    lines = ["| rule | doublings off | points lost, mean | at most |", "|---|--:|--:|--:|"]
    for name in dict.fromkeys([*chosen, best]):
        row = named[name]
        label = f"{name} (the best of {len(results) - 5} tried)" if name == best else name
        lines.append(f"| {label} | {row['doublings']:.1f} | {row['mean_regret']:.2f} | {row['largest_regret']:.2f} |")
    return lines


def sizes() -> list[str]:
    """Return the table of the accuracy at every T by the student's size."""
    arms = Arms()
    header = " | ".join(f"T = {t:g}" for t in TEMPERATURES)
    lines = [f"| hidden units | without a teacher | {header} |", "|---|--:|" + "--:|" * len(TEMPERATURES)]
    for width in WIDTHS:
        found = {t: arms(of_width(width), temperature=t) for t in TEMPERATURES}
        best = max(found, key=lambda t: found[t].mean())
        cells = [f"**{x.mean():.1f}**" if t == best else f"{x.mean():.1f}" for t, x in found.items()]
        alone = mean_and_error(arms(of_width(width), alpha=0.0))
        lines.append(f"| {width} | {alone} | {' | '.join(cells)} |")
    return lines


def alphas() -> list[str]:
    """Return the table of alpha against T, with and without T²."""
    arms = Arms()
    lines = ["| optimiser | alpha | C(T) | " + " | ".join(f"T = {t:g}" for t in studies.FEW_TEMPERATURES) + " |",
             "|---|--:|---|" + "--:|" * len(studies.FEW_TEMPERATURES)]  # fmt: skip
    for name in (studies.SMALL, studies.SMALL_SGD):
        for alpha in (0.1, 0.5, 0.9, 1.0):
            for compensate in (True, False):
                cells = [
                    mean_and_error(arms(name, temperature=t, alpha=alpha, compensate=compensate))
                    for t in studies.FEW_TEMPERATURES
                ]
                lines.append(
                    f"| {name.rpartition(', ')[2]} | {alpha:g} | {'T²' if compensate else 'none'} | {' | '.join(cells)} |"
                )
    return lines


def objectives() -> list[str]:
    """Return the table of soft targets alone, soft and hard labels, and logit MSE."""
    arms = Arms()
    temperatures = (*studies.FEW_TEMPERATURES, 100.0)
    lines = ["| student | alpha | " + " | ".join(f"T = {t:g}" for t in temperatures) + " | logit MSE |",
             "|---|--:|" + "--:|" * (len(temperatures) + 1)]  # fmt: skip
    for name in (studies.SMALL, studies.LARGE, studies.LARGE_SGD):
        for alpha in (0.9, 1.0):
            cells = [mean_and_error(arms(name, temperature=t, alpha=alpha)) for t in temperatures]
            cells.append(mean_and_error(arms(name, divergence="logit_mse", alpha=alpha)))
            lines.append(f"| {name} | {alpha:g} | {' | '.join(cells)} |")
    return lines


def omitted() -> list[str]:
    """Return the table of Hinton's omitted class, over all ten digits."""
    arms = Arms()
    lines = ["| student trained on | of the omitted digit, % | after its bias | of all digits, % | after the bias |",
             "|---|--:|--:|--:|--:|"]  # fmt: skip
    for label, arm in (
        ("true labels", {"alpha": 0.0}),
        *((f"T = {t:g}", {"temperature": t, "alpha": 1.0}) for t in studies.FEW_TEMPERATURES),
    ):
        cells = []
        for measure in ("before", "after", "all_before", "all_after"):
            digits = [arms(studies.OMITTING, measure, omitted=digit, **arm).mean() for digit in range(10)]
            cells.append(mean_and_error(digits, 0 if "all" not in measure else 1))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def policies() -> list[str]:
    """Return the table of temperatures that change, against the best constant one."""
    arms = Arms()
    names = (studies.SMALL, studies.LARGE, studies.LARGE_SGD)
    lines = ["| temperature | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    alone = [mean_and_error(arms(name, alpha=0.0), 2) for name in names]
    lines.append(f"| without a teacher | {' | '.join(alone)} |")
    cells = []
    for name in names:
        found = {t: arms(name, temperature=t) for t in TEMPERATURES}
        best = max(found, key=lambda t: found[t].mean())
        cells.append(f"{mean_and_error(found[best], 2)} (T = {best:g})")
    lines.append(f"| the best constant | {' | '.join(cells)} |")
    for label, policy in studies.POLICY_ARMS.items():
        lines.append(
            f"| {label} | " + " | ".join(mean_and_error(arms(name, temperature=policy), 2) for name in names) + " |"
        )
    return lines


TABLES = {
    table.__name__: table for table in (replay, verdicts, shortness, rule, sizes, alphas, objectives, omitted, policies)
}


def filled_page(text: str) -> str:
    """Return the page with the marked places filled."""
    return filled(text, TABLES)


if __name__ == "__main__":
    Path(PAGE).write_text(filled_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
