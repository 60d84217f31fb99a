"""Stores of dense prediction: each pixel of the teacher's logits has a position."""

import pytest
import torch
from torch import nn

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.data import Examples, FixedViews, identity_collate
from limbeck.errors import StoreError
from limbeck.store import Dense, Hidden, Sampled, StoredTeacher, TeacherStore, TopK, build_store, verify
from limbeck.teachers import LiveTeacher
from support.stores import draw

ROWS, V, HEIGHT, WIDTH = 7, 4, 4, 6
IMAGES = draw(ROWS, 1, HEIGHT, WIDTH)
LABELS = torch.randint(-1, V, (ROWS, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).where(
    torch.arange(ROWS)[:, None, None] != 3, -1
)


def images(rows):
    labels = LABELS[rows].where(LABELS[rows] >= 0, -100)
    return {"pixel_values": IMAGES[rows], "labels": labels, "mask": torch.ones_like(labels, dtype=torch.bool)}


def examples():
    return Examples(images, torch.zeros(ROWS), task="dense_prediction")


def model(stride, seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(1, V, 3, padding=1, stride=stride)


def build(folder, codec, stride=1, **options):
    return build_store(model(stride), examples(), folder, codec, batch_size=2, shard_rows=3, **options)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("views", [None, FixedViews(2, shift=1, flip=True)])
def test_every_pixel_has_the_teachers_logits(tmp_path, stride, views):
    build(tmp_path, Dense("float32"), stride, views=views)
    batch = examples().__getitems__([5, 0, 5, 3])
    stored = StoredTeacher(tmp_path)
    shown = batch if views is None else stored.views(batch)
    torch.testing.assert_close(stored(shown).logits, LiveTeacher(model(stride))(shown).logits, rtol=0, atol=1e-6)
    assert stored.store.description.pixels == (HEIGHT // stride, WIDTH // stride)
    assert TeacherStore(tmp_path).positions == ROWS * (1 if views is None else 2) * HEIGHT * WIDTH // stride**2
    assert verify(tmp_path) == []


def test_a_view_moves_the_labels_with_the_image():
    coordinates = torch.arange(HEIGHT * WIDTH).reshape(1, 1, HEIGHT, WIDTH).expand(5, -1, -1, -1)
    batch = {"pixel_values": coordinates.float(), "labels": coordinates[:, 0], "example_id": torch.arange(5)}
    shown = FixedViews(9, shift=2, flip=True)(batch)
    assert (shown["labels"] == shown["pixel_values"][:, 0]).all()
    assert (shown["labels"] != batch["labels"]).any()


def losses_and_weights(folder, teacher, stride=1):
    student = model(1, seed=4)
    args = DistillationArguments(
        str(folder), task="dense_prediction", temperature=2.0, alpha=0.7, max_steps=4, per_device_train_batch_size=3,
        logging_steps=1, learning_rate=0.1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = DistillationTrainer(student, teacher, args, identity_collate, examples())
    trainer.train()
    return [log["loss"] for log in trainer.state.log_history if "loss" in log], list(student.parameters())


@pytest.mark.filterwarnings("ignore:.* are interpolated to ")
@pytest.mark.parametrize(
    ("codec", "stride"), [(Dense("float32"), 1), (Dense("float32"), 2), (TopK(V, (2.0,), "float32"), 1)], ids=str
)
def test_a_run_from_a_store_is_the_live_run(tmp_path, codec, stride):
    """With all classes listed, a top-k list is exact too."""
    build(tmp_path / "store", codec, stride)
    live, weights = losses_and_weights(tmp_path, model(stride))
    stored, same = losses_and_weights(tmp_path, StoredTeacher(tmp_path / "store"))
    assert stored == pytest.approx(live, rel=1e-5)
    for one, other in zip(weights, same, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_draws_of_each_pixel_come_in_their_places(tmp_path):
    build(tmp_path, Sampled(3, 0.02))  # so cold that the likeliest class is drawn
    batch = examples().__getitems__([6, 1])
    drawn = StoredTeacher(tmp_path)(batch).targets.ids
    likeliest = model(1)(batch["pixel_values"]).argmax(1)
    assert drawn.shape == (2, HEIGHT, WIDTH, 3)
    assert (drawn == likeliest.unsqueeze(-1)).double().mean() > 0.9


@pytest.mark.parametrize("codec", [TopK(2), Sampled(2)])
def test_a_few_classes_of_a_pixel_cannot_be_interpolated(tmp_path, codec):
    with pytest.raises(StoreError, match=r"format: .* the teacher's 2 x 3 logits are interpolated to images of 4 x 6"):
        build(tmp_path / "store", codec, stride=2)
    assert not (tmp_path / "store").exists()


def test_hidden_states_and_images_of_several_sizes_are_refused(tmp_path):
    over_rows = nn.Sequential(model(1), nn.Linear(WIDTH, WIDTH))
    with pytest.raises(StoreError, match=r"format: hidden keeps the inputs of a linear layer"):
        build_store(over_rows, examples(), tmp_path / "hidden", Hidden("float32"))

    def sizes(rows):
        return {"pixel_values": torch.zeros(len(rows), 1, 4 + 2 * (rows[0] // 3), 6)}

    several = Examples(sizes, torch.zeros(ROWS), task="dense_prediction")
    with pytest.raises(StoreError, match=r"gives 6 x 6 logits for example 3, and 4 x 6 for the first"):
        build_store(model(1), several, tmp_path / "sizes", Dense(), shard_rows=3)
    assert not list((tmp_path / "sizes").glob("*3-*.json"))


def test_changed_labels_leave_a_store_as_it_is(tmp_path):
    build(tmp_path, Dense())
    relabelled = Examples(lambda rows: {**images(rows), "labels": LABELS[rows] * 0}, torch.zeros(ROWS))
    TeacherStore(tmp_path).check(examples=relabelled)
