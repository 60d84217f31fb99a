"""Compare with the own code of other libraries: every row of docs/how-to/move-from-other-tools.md that is marked "test".

The peers are the dependency group of that name, which ``make test`` installs; without them these tests are skipped.
"""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from limbeck import distillation_loss, linear_distillation_loss

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import peers

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
N, V, D_S, D_T = 12, 53, 8, 16
LABELS = torch.arange(N) % V
LABELS[[2, 7]] = -100
COUNTED = LABELS != -100


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STUDENT, TEACHER = draw(N, V, scale=3), draw(N, V, seed=1, scale=3)
HIDDEN = (draw(N, D_S), draw(V, D_S, seed=1), draw(N, D_T, seed=2), draw(V, D_T, seed=3))


def of_logits(loss):
    leaf = STUDENT.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    return value.detach(), leaf.grad


def of_hidden(loss):
    x, w = (z.clone().requires_grad_() for z in HIDDEN[:2])
    value = loss(x, w, *HIDDEN[2:])
    value.backward()
    return value.detach(), x.grad, w.grad


def agree(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class TestTorch:
    @pytest.mark.parametrize("t", [1.0, 3.0])
    def test_kl_div_and_cross_entropy(self, t):
        def torchs(s):
            kl = F.kl_div(F.log_softmax(s / t, -1)[COUNTED], F.softmax(TEACHER / t, -1)[COUNTED], reduction="batchmean")
            return 0.7 * t * t * kl + 0.3 * F.cross_entropy(s, LABELS, label_smoothing=0.1)

        agree(
            of_logits(lambda s: distillation_loss(s, TEACHER, LABELS, temperature=t, alpha=0.7, label_smoothing=0.1)),
            of_logits(torchs),
        )

    def test_kl_div_with_a_mean_over_classes_is_too_small(self):
        """``reduction="mean"`` is 1 / V of the truth."""
        theirs = of_logits(
            lambda s: V * 4 * F.kl_div(F.log_softmax(s / 2, -1), F.softmax(TEACHER / 2, -1), reduction="mean")
        )
        agree(of_logits(lambda s: distillation_loss(s, TEACHER, alpha=1, temperature=2.0)), theirs)

    def test_soft_cross_entropy_has_the_same_gradient(self):
        ours = of_logits(lambda s: distillation_loss(s, TEACHER, alpha=1, temperature=1.0))
        torchs = of_logits(lambda s: F.cross_entropy(s, TEACHER.softmax(-1)))
        torch.testing.assert_close(ours[1], torchs[1], rtol=1e-5, atol=1e-7)


class TestLiger:
    @pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
    @pytest.mark.parametrize("t", [1.0, 2.0])
    def test_the_chunked_distillation_loss(self, beta, t):
        """weight_soft_loss is alpha without T²; the same beta; both means over the positions that have a label."""
        if peers.liger_jsd() is None:
            pytest.skip("liger-kernel is not installed")
        loss = peers.liger_jsd()(
            weight_hard_loss=0.4, weight_soft_loss=0.6, beta=beta, temperature=t, compiled=False, chunk_size=5
        )

        def theirs(x, w, y, v):
            value = loss(x, w, y, v, LABELS)
            return value[0] if isinstance(value, tuple) else value

        def ours(x, w, y, v):
            options = dict(temperature=t, alpha=0.6, divergence="jsd", beta=beta, compensate=False, chunk=5)
            return linear_distillation_loss(x, w, y, v, LABELS, **options)

        agree(of_hidden(ours), of_hidden(theirs))

    def test_it_pads_a_smaller_vocabulary_with_likely_classes_and_ours_does_not(self):
        """A defect: the student's missing classes get logit 0. Here padding takes no part."""
        if peers.liger_jsd() is None:
            pytest.skip("liger-kernel is not installed")
        x, w, y, v = HIDDEN
        w, v = 0.1 * w, torch.cat([0.1 * v, torch.zeros(20, D_T)])  # all logits small, so a logit of 0 is likely
        loss = peers.liger_jsd()(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, temperature=1.0, compiled=False)
        value = loss(x, w, y, v, LABELS)
        theirs = value[0] if isinstance(value, tuple) else value
        options = dict(temperature=1.0, alpha=1, vocab_size=V)
        ours = linear_distillation_loss(x, w, y, v, LABELS, **options)
        truth = distillation_loss(x @ w.T, y @ v[:V].T, LABELS, temperature=1.0, alpha=1)
        torch.testing.assert_close(ours, truth)
        assert abs(theirs - truth) > 0.02 * truth

    def test_a_class_that_both_lack_is_nan_there(self):
        if peers.liger_jsd() is None:
            pytest.skip("liger-kernel is not installed")
        x, w, y, v = HIDDEN
        bias = torch.zeros(V)
        bias[0] = -math.inf
        labels = LABELS.clamp(min=1)
        loss = peers.liger_jsd()(weight_hard_loss=0.5, weight_soft_loss=0.5, temperature=1.0, compiled=False)
        assert loss(x, w, y, v, labels, bias, bias).isnan()
        options = dict(student_bias=bias, teacher_bias=bias, temperature=1.0, alpha=0.5, divergence="jsd")
        assert linear_distillation_loss(x, w, y, v, labels, **options).isfinite()

    def test_it_refuses_a_larger_vocabulary_of_the_student(self):
        if peers.liger_jsd() is None:
            pytest.skip("liger-kernel is not installed")
        x, w, y, v = HIDDEN
        loss = peers.liger_jsd()(weight_hard_loss=0.0, weight_soft_loss=1.0, temperature=1.0, compiled=False)
        with pytest.raises(RuntimeError):
            loss(x, w, y, v[:-5], LABELS)


class TestTorchtune:
    @pytest.fixture(autouse=True)
    def _there(self):
        self.module = peers.torchtune_losses()
        if self.module is None:
            pytest.skip("torchtune is not installed")

    def test_forward_kl(self):
        """A cross-entropy: it lacks the teacher's entropy, and has the same gradient."""
        theirs = of_logits(lambda s: self.module.ForwardKLLoss()(s, TEACHER, LABELS))
        ours = of_logits(lambda s: distillation_loss(s, TEACHER, LABELS, temperature=1.0, alpha=1))
        entropy = -(TEACHER.softmax(-1) * TEACHER.log_softmax(-1)).sum(-1)[COUNTED].mean()
        agree((ours[0] + entropy, ours[1]), theirs)

    def test_reverse_kl(self):
        theirs = of_logits(lambda s: self.module.ReverseKLLoss()(s, TEACHER, LABELS))
        options = dict(temperature=1.0, alpha=1, divergence="reverse_kl")
        agree(of_logits(lambda s: distillation_loss(s, TEACHER, LABELS, **options)), theirs)

    @pytest.mark.parametrize("ratio", [0.3, 0.5])
    def test_symmetric_kl(self, ratio):
        """Forward and reverse KL, weighted; their forward part lacks the teacher's entropy."""

        def ours(s):
            forward = distillation_loss(s, TEACHER, LABELS, temperature=1.0, alpha=1)
            reverse = distillation_loss(s, TEACHER, LABELS, temperature=1.0, alpha=1, divergence="reverse_kl")
            return ratio * forward + (1 - ratio) * reverse

        theirs = of_logits(lambda s: self.module.SymmetricKLLoss(ratio)(s, TEACHER, LABELS))
        value, gradient = of_logits(ours)
        entropy = -(TEACHER.softmax(-1) * TEACHER.log_softmax(-1)).sum(-1)[COUNTED].mean()
        agree((value + ratio * entropy, gradient), theirs)

    def test_a_class_that_both_lack_gives_a_gradient_of_nan_there(self):
        student, teacher = STUDENT.clone(), TEACHER.clone()
        student[:, 0] = teacher[:, 0] = -math.inf
        labels = LABELS.clamp(min=1)

        def gradient(loss):
            leaf = student.clone().requires_grad_()
            loss(leaf).backward()
            return leaf.grad

        options = dict(temperature=1.0, alpha=1, divergence="reverse_kl")
        assert gradient(lambda s: distillation_loss(s, teacher, labels, **options)).isfinite().all()
        assert gradient(lambda s: self.module.ReverseKLLoss()(s, teacher, labels)).isnan().any()


class TestTRL:
    @pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("t", [1.0, 2.0])
    def test_the_chunked_divergence(self, beta, t):
        """For each token, without T²; the same beta; logit scale and soft-cap alike."""
        divergence = peers.trl_divergence()
        if divergence is None:
            pytest.skip("trl is not installed")

        def theirs(x, w, y, v):
            return divergence.apply(x, w, None, y, v, None, beta, t, 0.5, 4.0, 1.5, None)[0][COUNTED].mean()

        def ours(x, w, y, v):
            layers = dict(student_logit_scale=0.5, student_softcap=4.0, teacher_logit_scale=1.5)
            options = dict(temperature=t, alpha=1, divergence="jsd", beta=beta, compensate=False)
            return linear_distillation_loss(x, w, y, v, LABELS, **layers, **options)

        agree(of_hidden(ours), of_hidden(theirs))

    def test_a_class_that_both_lack_is_nan_there(self):
        divergence = peers.trl_divergence()
        if divergence is None:
            pytest.skip("trl is not installed")
        x, w, y, v = HIDDEN
        bias = torch.zeros(V)
        bias[0] = -math.inf
        assert divergence.apply(x, w, bias, y, v, bias, 0.5, 1.0, 1.0, None, 1.0, None)[0].isnan().any()


class TestTRLsGKD:
    @pytest.fixture(autouse=True)
    def _there(self):
        self.trainer = peers.trl_gkd()
        if self.trainer is None:
            pytest.skip("trl is not installed")

    @pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("t", [1.0, 2.0])
    def test_generalized_jsd_loss(self, beta, t):
        theirs = of_logits(lambda s: self.trainer.generalized_jsd_loss(s, TEACHER, LABELS, beta=beta, temperature=t))
        options = dict(temperature=t, alpha=1, divergence="jsd", beta=beta, compensate=False)
        agree(of_logits(lambda s: distillation_loss(s, TEACHER, LABELS, **options)), theirs)

    def test_the_trainer_passes_no_temperature_to_its_loss(self):
        """A defect: ``GKDConfig.temperature`` changes the sampling alone. The loss is at T = 1."""
        student, teacher = draw(2, 6, V, scale=3), draw(2, 6, V, seed=1, scale=3)
        labels = torch.arange(12).reshape(2, 6)

        class Teacher(torch.nn.Module):
            def forward(self, **inputs):
                return SimpleNamespace(logits=teacher)

        trainer = SimpleNamespace(
            teacher_model=Teacher(), beta=0.3, temperature=5.0, generalized_jsd_loss=self.trainer.generalized_jsd_loss
        )
        inputs = {"input_ids": labels, "attention_mask": torch.ones_like(labels), "labels": labels}
        theirs = self.trainer.compute_loss(trainer, lambda **inputs: SimpleNamespace(logits=student), inputs)
        options = dict(temperature=1.0, alpha=1, divergence="jsd", beta=0.3)
        ours = distillation_loss(student[:, :-1], teacher[:, :-1], labels[:, 1:], **options)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

    def test_a_class_that_both_lack_is_nan_there(self):
        student, teacher = STUDENT.clone(), TEACHER.clone()
        student[:, 0] = teacher[:, 0] = -math.inf
        options = dict(temperature=1.0, alpha=1, divergence="jsd", beta=0.3)
        assert distillation_loss(student, teacher, LABELS.clamp(min=1), **options).isfinite()
        assert self.trainer.generalized_jsd_loss(student, teacher, beta=0.3).isnan()

    def test_bfloat16_logits_lose_most_of_a_small_divergence_there(self):
        teacher = draw(64, 2000, scale=2.0)
        student = (teacher + 0.3 * draw(64, 2000, seed=1)).bfloat16()
        teacher = teacher.bfloat16()
        options = dict(temperature=10.0, alpha=1, divergence="jsd", beta=0.3, compensate=False)
        truth = distillation_loss(student.double(), teacher.double(), **options)
        torch.testing.assert_close(distillation_loss(student, teacher, **options).double(), truth, rtol=1e-3, atol=0)
        theirs = self.trainer.generalized_jsd_loss(student, teacher, beta=0.3, temperature=10.0).double()
        assert abs(theirs - truth) > 0.2 * truth
