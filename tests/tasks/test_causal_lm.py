"""The metrics of a causal language model, from sums over examples, against formulas over all tokens at once."""

import torch
from torch.nn.functional import cross_entropy, kl_div

from limbeck.tasks import CausalLM
from limbeck.tasks.metrics import calibration_error


def draw(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_metrics_of_sums():
    task, logits = CausalLM(), draw(3, 7, 11)
    labels = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(1))
    labels[0, 2:] = -100
    names, sums = task.sums(logits, labels)
    found = task.metrics_of_sums(names, sums.double().sum(0))
    rows, known = logits[labels >= 0], labels[labels >= 0]
    nll = cross_entropy(rows, known)
    wanted = {
        "perplexity": nll.exp(),
        "log_likelihood": -nll,
        "accuracy": (rows.argmax(-1) == known).double().mean(),
        "calibration_error": torch.tensor(calibration_error(rows.softmax(-1), known)),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-5, atol=1e-6)


def test_comparisons_leave_out_columns_of_one_alone():
    student, teacher = draw(2, 3, 9), draw(2, 3, 12, seed=1)
    found = CausalLM().comparisons(student, teacher)
    theirs = teacher[..., :9]
    wanted = kl_div(student.log_softmax(-1), theirs.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found["teacher_kl"].double(), wanted, rtol=1e-5, atol=1e-6)
    for i in range(2):
        for j in range(3):
            both = set(student[i, j].topk(5).indices.tolist()) & set(theirs[i, j].topk(5).indices.tolist())
            assert round(5 * found["top5_overlap"][i, j].item()) == len(both)
