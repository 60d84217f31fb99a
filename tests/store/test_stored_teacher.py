"""The stored teacher: a student's loss is the same as with the live teacher, as far as the format is exact."""

import pytest
import torch

from limbeck import distillation_loss, sparse_distillation_loss
from limbeck.errors import StoreError
from limbeck.store import StoredTeacher
from support.stores import CLASSES, INPUTS, build, draw, every_codec, live

IDS = torch.tensor([49, 0, 16, 15, 15, 31])


@every_codec
def test_the_loss_is_that_of_the_live_teacher(tmp_path, codec):
    """Compare the losses of the stored and the live teacher; draws must at least give a finite loss."""
    build(tmp_path, codec)
    output, student = StoredTeacher(tmp_path)({"example_id": IDS}), draw(len(IDS), CLASSES, seed=9)
    if output.logits is not None:
        loss = distillation_loss(student, output.logits, alpha=1, temperature=2.0)
        torch.testing.assert_close(
            loss, distillation_loss(student, live(IDS), alpha=1, temperature=2.0), rtol=0.02, atol=0
        )
    else:
        t = 2.0 if 2.0 in (*output.targets.log_normalizers, output.targets.drawn_at) else 1.0
        assert sparse_distillation_loss(student, output.targets, alpha=1, temperature=t).isfinite()


def test_a_batch_needs_ids(tmp_path):
    build(tmp_path)
    with pytest.raises(StoreError, match="example_id: missing"):
        StoredTeacher(tmp_path)({"pixel_values": draw(2, INPUTS)})
