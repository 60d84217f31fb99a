"""Is anybody's distillation loss right? Its behaviour on small random logits says so. This room imports the losses alone."""

from limbeck.check.checking import PROPERTIES, assert_loss, check_loss
from limbeck.check.verdicts import Finding, Report, Verdict

__all__ = ["PROPERTIES", "Finding", "Report", "Verdict", "assert_loss", "check_loss"]
