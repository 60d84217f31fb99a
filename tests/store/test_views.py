"""Stores of augmented views: the student sees a view that the teacher saw too."""

import pytest
import torch

from limbeck import DistillationArguments, DistillationTrainer
from limbeck.data import Examples, FixedViews, identity_collate
from limbeck.data.examples import TensorRows
from limbeck.errors import StoreError
from limbeck.store import Dense, Sampled, StoredTeacher, TeacherStore, TopK, build_store, verify
from limbeck.teachers import LiveTeacher
from support.stores import contents, draw

VIEWS = FixedViews(3, shift=2, flip=True, seed=5)
IMAGES = draw(20, 1, 6, 6)


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 37))


def examples():
    return Examples(TensorRows("pixel_values", IMAGES), torch.arange(20) % 37).subset(
        torch.tensor([19, 3, 4, 11, 7, 0])
    )


def build(folder, codec=None, views=VIEWS, **options):
    return build_store(model(), examples(), folder, codec or Dense("float32"), views=views, shard_rows=4, **options)


def batch(ids):
    return {"pixel_values": IMAGES[ids], "example_id": ids}


@pytest.mark.parametrize("codec", [Dense("float32"), Dense("int8"), TopK(5, (2.0,), "float32"), Sampled(3)], ids=repr)
def test_the_stored_teacher_saw_what_the_student_sees(tmp_path, codec):
    build(tmp_path, codec)
    stored, live = StoredTeacher(tmp_path), LiveTeacher(model())
    assert stored.views == VIEWS
    seen = set()
    for seed in range(10):
        torch.manual_seed(seed)
        shown = stored.views(batch(torch.tensor([11, 0, 19, 11])))
        seen |= set(shown["view_id"].tolist())
        output, truth = stored(shown), live({"pixel_values": shown["pixel_values"]}).logits
        if output.logits is not None:
            torch.testing.assert_close(output.logits, truth, rtol=0, atol=1e-6 if codec.dtype == "float32" else 0.02)
        elif output.targets.log_probs is not None:
            torch.testing.assert_close(
                output.targets.log_probs, truth.log_softmax(-1).topk(5).values, rtol=1e-5, atol=1e-5
            )
    assert seen == {0, 1, 2}
    assert verify(tmp_path) == []


def test_views_depend_on_the_seed_the_example_and_the_number_alone():
    ids = torch.arange(20)
    one = VIEWS.select(batch(ids), torch.ones(20, dtype=torch.long))["pixel_values"]
    torch.manual_seed(1)
    again = VIEWS.select(batch(ids.flip(0)), torch.ones(20, dtype=torch.long))["pixel_values"].flip(0)
    assert torch.equal(one, again)
    for other in (FixedViews(3, 2, True, seed=6).select(batch(ids), torch.ones(20, dtype=torch.long)),
                  VIEWS.select(batch(ids), torch.full((20,), 2))):  # fmt: skip
        assert not torch.equal(one, other["pixel_values"])


def test_every_shift_and_either_side_are_equally_likely():
    """Move one bright pixel over many views: each of the nine places has a ninth of the light."""
    picture = torch.zeros(1, 1, 5, 5)
    picture[..., 2, 2] = 1
    count, views = 4000, FixedViews(4000, shift=1, flip=True)
    many = {"pixel_values": picture.expand(count, -1, -1, -1), "example_id": torch.zeros(count, dtype=torch.long)}
    places = views.select(many, torch.arange(count))["pixel_values"].mean(0)[0]
    assert places.sum() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(places[1:4, 1:4], torch.full((3, 3), 1 / 9), rtol=0, atol=0.02)
    edge = torch.zeros(1, 1, 5, 5)
    edge[..., 0] = 1
    mirrored = FixedViews(4000, flip=True).select(
        many | {"pixel_values": edge.expand(count, -1, -1, -1)}, torch.arange(count)
    )
    assert mirrored["pixel_values"][:, 0, 0, 4].mean() == pytest.approx(0.5, abs=0.03)


def test_several_processes_write_the_same_bytes(tmp_path):
    build(tmp_path / "one")
    for rank in (1, 0):
        build(tmp_path / "two", rank=rank, world_size=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_store_of_other_views_stays_as_it_is(tmp_path):
    build(tmp_path)
    for other in (None, FixedViews(3, shift=2, flip=True, seed=6)):
        with pytest.raises(StoreError, match="holds the store of something else"):
            build(tmp_path, views=other)


def test_a_view_is_needed_and_must_be_one_that_was_stored(tmp_path):
    build(tmp_path)
    store = TeacherStore(tmp_path)
    ids = torch.tensor([3, 7])
    with pytest.raises(StoreError, match=r"has 3 views of each example, and the batch no number"):
        store.look_up(ids)
    with pytest.raises(StoreError, match=r"view: expected a number from 0 to 2"):
        store.look_up(ids, torch.tensor([0, 3]))
    build(tmp_path / "plain", views=None)
    with pytest.raises(StoreError, match=r"has one view of each example, and the batch a number"):
        TeacherStore(tmp_path / "plain").look_up(ids, torch.tensor([0, 0]))


@pytest.mark.parametrize(
    "wrong", [dict(count=1, flip=True), dict(count=5000, flip=True), dict(count=2), dict(count=2, shift=-1)]
)
def test_wrong_views_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^views: "):
        FixedViews(**wrong)


def test_the_trainer_shows_the_student_the_stored_views(tmp_path):
    """Train a student from the store and one beside the live teacher: on the same views they learn the same."""
    build(tmp_path / "store")

    def student_of(teacher, augment):
        student = model(seed=1)
        args = DistillationArguments(
            output_dir=str(tmp_path / "run"), max_steps=12, per_device_train_batch_size=3, alpha=1.0, learning_rate=0.05,
            save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        DistillationTrainer(student, teacher, args, identity_collate, examples(), augment=augment).train()
        return student[1].weight.detach()

    stored = student_of(tmp_path / "store", None)
    torch.testing.assert_close(stored, student_of(model(), VIEWS), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(stored, student_of(model(), None), atol=1e-3)
    with pytest.raises(ValueError, match="augment: the stored teacher was asked about FixedViews"):
        student_of(tmp_path / "store", FixedViews(3, shift=1))
