"""Stores that an earlier Limbeck wrote: they can be read and verified, and what is written today is what was written then.

The folders in ``fixtures`` were written once, by version 1 of the format, those in ``version-2`` and ``version-3`` by these.
The teachers' weights and inputs are small multiples of 1/8, so that their logits are exact on every machine, and what a store
should hold is computed from them here.
"""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import nn

from limbeck.data import Examples, FixedViews
from limbeck.data.examples import TensorRows
from limbeck.errors import StoreError
from limbeck.outputs import fingerprint_of_tokens
from limbeck.store import Dense, Hidden, Sampled, StoredTeacher, TeacherStore, TopK, build_store, verify

FIXTURES = Path(__file__).parent / "fixtures"
VIEWS = FixedViews(2, shift=1, flip=True, seed=3)
CODECS = {"dense": Dense("int8"), "topk": TopK(3, (2.0,)), "sampled": Sampled(4), "hidden": Hidden("float16")}
IDS = torch.tensor([9, 2, 5])
CLASS_NAMES = ("a", "b", "<c>", "d\n", "e")
every_store = pytest.mark.parametrize("name", CODECS)
every_version = pytest.mark.parametrize("version", ["", "version-2", "version-3"], ids=["1", "2", "3"])


class Tokenizer:
    """As much of a tokenizer as a store asks for."""

    def get_vocab(self):
        return {f"token-{i}": i for i in range(11)}


def numbers(*shape):
    """Return multiples of 1/8 from -5/8 to 5/8."""
    return ((torch.arange(torch.Size(shape).numel()) * 7 % 11 - 5) / 8).reshape(shape)


def set_weights(model):
    """Set a model's weights to ``numbers`` and return the model."""
    for parameter in model.parameters():
        parameter.data = numbers(*parameter.shape)
    return model


class Tokens(nn.Module):
    """A language model of one embedding and one linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.output = nn.Embedding(12, 4), nn.Linear(4, 11)

    def forward(self, input_ids):
        return self.output(self.embedding(input_ids))


def load_sequences(rows):
    lengths = torch.tensor([2 + row % 3 for row in rows])
    mask = (torch.arange(4) < lengths[:, None]).long()
    return {
        "input_ids": torch.tensor([[(row + at) % 12 for at in range(4)] for row in rows]) * mask,
        "attention_mask": mask,
    }


IMAGES = numbers(10, 1, 3, 3)


def teacher(name):
    if name == "topk":
        return set_weights(Tokens())
    return set_weights(nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 5)))


def examples(name):
    load = load_sequences if name == "topk" else TensorRows("pixel_values", IMAGES)
    return Examples(load, torch.zeros(10)).subset(IDS)


def build(name, folder):
    views, names = VIEWS if name == "dense" else None, None if name == "topk" else CLASS_NAMES
    tokenizer = Tokenizer() if name == "topk" else None
    return build_store(
        teacher(name), examples(name), folder, CODECS[name], views=views, class_names=names, tokenizer=tokenizer,
        shard_rows=2,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    """Return a folder with copies of all fixtures, which a test may change."""
    return shutil.copytree(FIXTURES, tmp_path / "stores")


def logits(name, batch):
    with torch.no_grad():
        return teacher(name)(batch["input_ids"] if name == "topk" else batch["pixel_values"])


class TestReading:
    @every_store
    @every_version
    def test_an_old_store_is_whole(self, copy, name, version):
        assert verify(copy / version / name) == []
        store = TeacherStore(copy / version / name)
        assert store.ids.tolist() == [2, 5, 9]
        store.check(teacher=teacher(name), examples=examples(name))
        with pytest.raises(StoreError, match="made from another teacher"):
            store.check(teacher=nn.Linear(2, 2))
        with pytest.raises(StoreError, match="made from another data"):
            store.check(examples=examples(name).subset(torch.tensor([0, 1])))
        assert store.description.class_names == (CLASS_NAMES if version and name != "topk" else None)
        vocabulary = fingerprint_of_tokens(Tokenizer().get_vocab())
        assert store.description.vocabulary == (vocabulary if version == "version-3" and name == "topk" else None)

    @every_version
    def test_int8_logits_of_every_view(self, copy, version):
        stored = StoredTeacher(copy / version / "dense")
        assert stored.views == VIEWS
        batch = {"pixel_values": IMAGES[IDS], "example_id": IDS}
        for number in (0, 1):
            shown = VIEWS.select(batch, torch.full((3,), number))
            truth = logits("dense", shown)
            step = (truth.amax(-1) - truth.amin(-1)) / 254
            assert ((stored(shown).logits - truth).abs().amax(-1) <= 0.51 * step).all()

    @every_version
    def test_top_k_lists_of_every_token(self, copy, version):
        batch = examples("topk").load(IDS.tolist()) | {"example_id": IDS}
        targets, truth, mask = (
            StoredTeacher(copy / version / "topk")(batch).targets,
            logits("topk", batch),
            batch["attention_mask"].bool(),
        )
        assert (targets.ids[~mask] == -1).all()
        for t, stored in ((1.0, targets.log_probs), (2.0, targets.at(2.0))):
            expected = (truth / t).log_softmax(-1).gather(-1, targets.ids.clamp(min=0))
            torch.testing.assert_close(stored[mask], expected[mask], rtol=2e-3, atol=1e-3)
            if version == "version-3":
                rest = 1 - (truth / t).softmax(-1).gather(-1, targets.ids.clamp(min=0)).sum(-1)
                torch.testing.assert_close(targets.log_rest_at(t)[mask].exp().float(), rest[mask])
        torch.testing.assert_close(truth.gather(-1, targets.ids.clamp(min=0))[mask], truth.topk(3).values[mask])

    @every_version
    def test_draws(self, copy, version):
        targets = TeacherStore(copy / version / "sampled").look_up(IDS).targets
        assert targets.ids.tolist() == [[0, 3, 4, 0], [3, 4, 1, 3], [3, 1, 3, 4]]

    @every_version
    def test_hidden_states(self, copy, version):
        truth = logits("hidden", {"pixel_values": IMAGES[IDS]})
        assert torch.equal(TeacherStore(copy / version / "hidden").look_up(IDS).logits, truth)  # exact in float16


class TestWriting:
    @every_store
    @pytest.mark.parametrize("version", ["version-2", "version-3"])
    def test_a_build_goes_on_with_a_store_of_its_version(self, copy, name, version):
        folder = copy / version / name
        before = sorted(path.name for path in folder.iterdir())
        again = build(name, folder)
        assert (again.written, again.found) == (0, 2)
        (folder / "000000000000-000000000002.json").unlink()
        assert build(name, folder).written == 1
        assert before == sorted(path.name for path in folder.iterdir())
        assert verify(folder) == []

    @every_store
    def test_a_build_leaves_a_whole_store_of_version_1_and_does_not_complete_one(self, copy, name):
        """Its fingerprint saw 64 examples, so the shards that are missing could be made from other data in silence."""
        again = build(name, copy / name)
        assert (again.written, again.found) == (0, 2)
        (copy / name / "000000000000-000000000002.json").unlink()
        before = {path.name: path.read_bytes() for path in (copy / name).iterdir()}
        with pytest.raises(StoreError, match="begun by an earlier version of Limbeck"):
            build(name, copy / name)
        assert before == {path.name: path.read_bytes() for path in (copy / name).iterdir()}

    @every_store
    def test_a_store_written_today_has_the_old_format(self, tmp_path, name):
        """Compare file names, manifests and schemas. pyarrow and zlib may pack the same content into other bytes."""
        build(name, tmp_path)
        for old in sorted((FIXTURES / "version-3" / name).iterdir()):
            new = tmp_path / old.name
            if old.suffix == ".json":
                ours, theirs = (json.loads(path.read_text()) for path in (new, old))
                assert list(ours) == list(theirs)
                for key in ("rows", "description"):
                    assert json.dumps(ours[key]) == json.dumps(theirs[key])
            elif old.suffix == ".arrow":
                ours, theirs = (pa.ipc.open_stream(path.read_bytes()).read_all() for path in (new, old))
                assert ours.schema.equals(theirs.schema, check_metadata=True)
                assert ours.num_rows == theirs.num_rows
            else:
                assert new.read_bytes() == old.read_bytes()
        assert len(list(tmp_path.iterdir())) == len(list((FIXTURES / "version-3" / name).iterdir()))
