"""``limbeck calibrate``: a scale with which a student's probabilities fit true labels."""

from __future__ import annotations

import typer

from limbeck.commands.options import Functions, RunFolder
from limbeck.commands.printing import print_lines, print_pairs, print_table

calibrate_app = typer.Typer()


@calibrate_app.command()
def calibrate(run: RunFolder, functions: Functions = []) -> None:  # noqa: B006
    """Fit one scale of a student's logits to the validation labels, so that its probabilities can be believed.

    This is temperature scaling (Guo et al., 2017), and not the temperature of distillation. It is written to calibration.json
    in the run's folder. limbeck predict --calibrated and limbeck.load(RUN, calibrated=True) apply it, and nothing else does.
    """
    from limbeck.inference.calibration import CALIBRATION, calibrate_student

    found = calibrate_student(run, functions=functions)
    rows: list[tuple[str, ...]] = [("", "labels", "calibration error, %", "with the scale", "NLL", "with the scale")]
    for name, fit in (("validation", found.validation), ("test", found.test)):
        if fit is not None:
            errors = (f"{100 * error:.1f}" for error in (fit.error_before, fit.error_after))
            likelihoods = (f"{nll:.3f}" for nll in (fit.nll_before, fit.nll_after))
            rows.append((name, f"{fit.labels:,}", *errors, *likelihoods))
    print_table(f"Logits times {found.logit_scale:.3f}", rows)
    sure = "too sure of itself" if found.logit_scale < 1 else "not sure enough of itself"
    lines = [f"The student is {sure}. No decision changes with the scale."]
    if found.test is not None and found.test.nll_after >= found.test.nll_before:
        lines.append("On the test set the scale does not help: leave it out, or fit it on more validation examples.")
    print_lines(lines)
    print_pairs({"calibration": run / CALIBRATION})
