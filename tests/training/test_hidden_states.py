"""The term of hidden states: by hand in float64, with and without the fused loss, its linear maps, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.models.hidden_term import HiddenTerm, even_layers
from limbeck.training.hidden_states import HiddenStates
from support.language import llama

IDS = torch.arange(24).reshape(3, 8)


def trainer_of(folder, student, teacher, hidden, **options):
    options = {"alpha": 0.5, "temperature": 2.0, "save_strategy": "no"} | options
    args = DistillationArguments(
        str(folder), use_cpu=True, disable_tqdm=True, logging_strategy="no", per_device_train_batch_size=3, max_steps=2,
        learning_rate=1e-2, hidden=hidden, **options,
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in IDS]
    return DistillationTrainer(student, teacher, args, train_dataset=rows)


def by_hand(student, teacher, pairs, distance, projectors):
    """Return the mean over layers and predicted positions, from the states that Transformers itself returns."""
    ours, theirs = (model.model.layers for model in (student, teacher))
    found = {}

    def keep(_layer, _inputs, output, key):
        found[key] = output if isinstance(output, torch.Tensor) else output[0]

    hooks = [
        layer.register_forward_hook(lambda *given, key=key: keep(*given, key))
        for layers, side in ((ours, 0), (theirs, 1))
        for i, layer in enumerate(layers)
        for key in [(side, i)]
    ]
    student(IDS), teacher(IDS)
    for hook in hooks:
        hook.remove()
    values = []
    for i, j in enumerate(pairs):
        a, b = found[0, i][:, :-1], found[1, j][:, :-1].detach()
        a = a @ projectors[i].weight.double().T if projectors else a
        values.append((a - b).square().mean() if distance == "mse" else 1 - cosine_similarity(a, b, -1).mean())
    return sum(values) / len(values)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize(("size", "pairs"), [(16, None), (32, [0, 3])])
def test_the_term_and_its_gradient_by_hand(distance, size, pairs):
    student, teacher = llama(size, layers=2).double(), llama(32, layers=4, seed=1).double()
    term = HiddenStates(HiddenTerm(3.0, pairs, distance), student, teacher, seed=0)
    assert len(term.projectors) == (0 if size == 32 else 2)
    with term.recording():
        student(IDS)
        with torch.no_grad():
            teacher(IDS)
    loss = term(lambda values: values[:, :-1], torch.ones(3, 7, dtype=torch.bool), None)
    expected = 3 * by_hand(student, teacher, pairs or [1, 3], distance, term.projectors)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    weight = student.model.layers[0].mlp.down_proj.weight
    ours, theirs = (torch.autograd.grad(value, weight)[0] for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fused", [False, "auto"])
def test_it_is_added_to_the_loss(tmp_path, fused):
    """Whole logits and the fused loss add the same term, whose gradient reaches the student and the linear maps."""
    losses, gradients = [], []
    for hidden in (None, {"weight": 0.5}):
        student, teacher = llama(16, layers=1), llama(32, layers=2, vocabulary=29, seed=1)
        trainer = trainer_of(tmp_path, student, teacher, hidden, fused_loss=fused)
        loss = trainer.compute_loss(student, {"input_ids": IDS, "labels": IDS})
        loss.backward()
        losses.append(loss.item())
        gradients.append(student.model.layers[0].mlp.down_proj.weight.grad)
    assert trainer._fuses is None if fused is False else trainer._fuses[1]
    expected = 0.5 * by_hand(student.double(), teacher.double(), [1], "mse", trainer._hidden_states.projectors)
    assert losses[1] - losses[0] == pytest.approx(expected.item(), rel=1e-3)
    assert (gradients[1] - gradients[0]).abs().max() > 1e-6
    assert trainer._hidden_states.projectors[0].weight.grad is not None


def test_the_linear_maps_are_trained_and_not_saved_with_the_student(tmp_path):
    student, teacher = llama(16, layers=1), llama(32, layers=2, vocabulary=29, seed=1)
    trainer = trainer_of(tmp_path, student, teacher, {"weight": 1.0}, save_strategy="steps", save_steps=2)
    before = trainer._hidden_states.projectors[0].weight.clone()
    trainer.train()
    assert not torch.equal(before, trainer._hidden_states.projectors[0].weight)
    checkpoint = tmp_path / "checkpoint-2"
    kept = load_file(checkpoint / "hidden_states.safetensors")
    torch.testing.assert_close(kept["projectors.0.weight"], trainer._hidden_states.projectors[0].weight)
    assert set(load_file(checkpoint / "model.safetensors")) <= set(student.state_dict())


def test_splitting_a_batch_leaves_the_term(tmp_path):
    student, teacher = llama(16, layers=1), llama(16, layers=2, vocabulary=29, seed=1)
    trainer = trainer_of(tmp_path, student, teacher, {"weight": 1.0, "distance": "cosine"})
    parts = [
        trainer.compute_loss(student, {"input_ids": x, "labels": x}, num_items_in_batch=21) for x in IDS.split([1, 2])
    ]
    whole = trainer.compute_loss(student, {"input_ids": IDS, "labels": IDS})
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ({"weight": 0.0}, "hidden: .*weight"),
        ({"layers": [5]}, r"hidden: layers names one of the teacher's 2 layers"),
        ({"layers": [0, 1]}, r"for each of the student's 1, got \[0, 1\]"),
        ({"depth": 3}, "hidden: .*depth"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, hidden, message):
    with pytest.raises(ArgumentError, match=message):
        trainer_of(tmp_path, llama(16, layers=1), llama(32, layers=2, vocabulary=29), hidden)


def test_teachers_without_layers_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="hidden: needs one model that is run beside the student"):
        trainer_of(tmp_path, llama(), lambda batch: torch.zeros(3, 8, 29), {})


def test_layers_are_spaced_evenly():
    assert even_layers(3, 30) == [9, 19, 29]
    assert even_layers(2, 2) == [0, 1]
    assert all(0 <= i < 3 for i in even_layers(5, 3))
