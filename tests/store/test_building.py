"""Building a store: shards are whole or missing, several processes write the same bytes, other stores stay as they are."""

import math

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import Examples, FixedViews
from limbeck.data.examples import TensorRows
from limbeck.errors import ArgumentError, StoreError
from limbeck.models import LogProbabilities
from limbeck.store import Dense, Hidden, Sampled, TeacherStore, TopK, build_store, is_store, verify
from support.stores import CLASSES, CODECS, ROWS, build, contents, draw, every_codec, examples, teacher


def test_a_second_build_writes_nothing(tmp_path):
    assert (build(tmp_path).written, contents(tmp_path)) == (4, contents(tmp_path))
    before = contents(tmp_path)
    again = build(tmp_path)
    assert (again.written, again.found) == (0, 4)
    assert contents(tmp_path) == before


@every_codec
def test_several_processes_write_the_same_bytes_as_one(tmp_path, codec):
    build(tmp_path / "one", codec)
    for rank in (2, 0, 1):
        build(tmp_path / "three", codec, rank=rank, world_size=3)
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_missing_files_are_written_again(tmp_path):
    build(tmp_path)
    before = contents(tmp_path)
    for path in sorted(tmp_path.iterdir())[2:4]:
        path.unlink()
    with pytest.raises(StoreError, match=r"1 of 4 shards are missing, 000000000016-000000000032\.arrow first"):
        TeacherStore(tmp_path)
    assert build(tmp_path).written == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["teacher", "data", "codec"])
def test_a_store_of_another_teacher_data_or_codec_stays_as_it_is(tmp_path, change):
    build(tmp_path)
    before = contents(tmp_path)
    model = teacher(1 if change == "teacher" else 0)
    data = examples(seed=1 if change == "data" else 0)
    with pytest.raises(StoreError, match=rf"holds the store of something else \({change}: .* there, .* here\)"):
        build_store(model, data, tmp_path, Dense("float16" if change == "codec" else "float32"), shard_rows=16)
    assert contents(tmp_path) == before


def test_shards_of_another_size_are_not_mixed_in(tmp_path):
    """Their files have other names, so that neither build would see the other's."""
    build(tmp_path, shard_rows=16)
    with pytest.raises(StoreError, match=r"holds the store of something else \(shard_rows: 16 there, 10 here\)"):
        build(tmp_path, shard_rows=10)
    build(tmp_path / "other", shard_rows=10)
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(StoreError, match=r"holds the store of something else \(shard_rows: "):
        TeacherStore(tmp_path)


def test_an_arrow_file_of_another_build_is_refused(tmp_path):
    build(tmp_path / "one")
    build_store(teacher(1), examples(), tmp_path / "other", Dense("float32"), shard_rows=16, batch_size=7)
    name = "000000000016-000000000032.arrow"
    assert (tmp_path / "one" / name).stat().st_size == (tmp_path / "other" / name).stat().st_size
    (tmp_path / "other" / name).replace(tmp_path / "one" / name)
    with pytest.raises(StoreError, match=rf"{name}: of another store than its manifest \(teacher: "):
        TeacherStore(tmp_path / "one")


class TestClassNames:
    @settings(max_examples=10)
    @given(names=st.lists(st.text(), min_size=CLASSES, max_size=CLASSES, unique=True), data=st.data())
    def test_they_are_kept_and_belong_to_the_store(self, tmp_path_factory, names, data):
        folder = tmp_path_factory.mktemp("store")
        build(folder, class_names=names)
        assert TeacherStore(folder).description.class_names == tuple(names)
        others = data.draw(st.permutations(names))
        if others != names:
            with pytest.raises(StoreError, match="holds the store of something else"):
                build(folder, class_names=others)

    def test_a_name_for_each_column(self, tmp_path):
        with pytest.raises(StoreError, match="class_names: the teacher has 37 output columns, got 2 names") as caught:
            build(tmp_path, class_names=["a", "b"])
        assert caught.value.argument == "class_names"

    def test_long_lists_are_not_shown_whole(self, tmp_path):
        names = [f"class {i}" for i in range(CLASSES)]
        build(tmp_path, class_names=names)
        with pytest.raises(StoreError, match=r"\(class_names: class 7 is 'class 7' there, 'x' here\)"):
            build(tmp_path, class_names=[*names[:7], "x", *names[8:]])


def test_a_full_disk_leaves_whole_shards(tmp_path, monkeypatch):
    from limbeck.store import shards

    build(tmp_path, rank=0, world_size=4)  # one shard
    real = pa.ipc.new_stream

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.pa.ipc, "new_stream", full)
    with pytest.raises(StoreError, match=r"No space left on device\); 1 of 4 shards are whole\. Make room"):
        build(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(shards.pa.ipc, "new_stream", real)
    build(tmp_path)
    assert verify(tmp_path) == []


class TestErrors:
    def test_no_examples_or_an_example_twice(self, tmp_path):
        for rows in (torch.tensor([], dtype=torch.long), torch.tensor([3, 4, 3])):
            with pytest.raises(StoreError, match="examples: expected at least one, each once") as caught:
                build_store(teacher(), examples().subset(rows), tmp_path, Dense())
            assert isinstance(caught.value, ArgumentError)
            assert caught.value.argument == "examples"
        assert not list(tmp_path.iterdir())

    def test_logits_that_the_format_cannot_hold(self, tmp_path):
        model = teacher()
        model[2].bias.data[0] = 1e6
        with pytest.raises(StoreError, match="beyond float16") as caught:
            build_store(model, examples(), tmp_path, Dense("float16"))
        assert isinstance(caught.value, ArgumentError)
        assert caught.value.argument == "dtype"


class Fixed(torch.nn.Module):
    """A teacher that returns given rows: an example is the number of its row."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows
        self.output = torch.nn.Linear(rows.shape[1], rows.shape[1], bias=False)
        self.output.weight.data = torch.eye(rows.shape[1])

    def forward(self, x):
        return self.output(self.rows[x.long()])


class Direct(Fixed):
    """The same without a linear layer, which would make NaN of a class at -inf."""

    def forward(self, x):
        return self.rows[x.long()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["nan", "inf", "all -inf"])
@pytest.mark.parametrize("codec", [*CODECS, Hidden("float32"), Hidden("float16")], ids=repr)
@settings(max_examples=4)
@given(data=st.data())
def test_rows_without_probabilities_are_refused_in_every_format(codec, value, tmp_path_factory, data):
    wrong = sorted(data.draw(st.sets(st.integers(1, 29), min_size=1, max_size=14)))
    rows = draw(30, 6)
    if value == -math.inf:
        rows[wrong] = value
    else:
        for row in wrong:
            rows[row, data.draw(st.integers(0, 5))] = value
    folder = tmp_path_factory.mktemp("store")
    ids = ", ".join(map(str, wrong[:10]))
    with pytest.raises(StoreError, match=r"Ids of the examples: " + ids) as caught:
        build_store(Fixed(rows), Examples(TensorRows("x", torch.arange(30)), torch.zeros(30)), folder, codec)
    assert caught.value.argument in ("teacher", "dtype")
    assert is_store(folder) is False


def test_an_absent_class_is_stored(tmp_path):
    rows = draw(5, 6)
    rows[:, 3] = -math.inf
    for codec in (Dense("float32"), Dense("float16"), Dense("bfloat16"), TopK(3), Sampled(4)):
        folder = tmp_path / repr(codec)
        build_store(Direct(rows), Examples(TensorRows("x", torch.arange(5)), torch.zeros(5)), folder, codec)
        assert verify(folder) == []


def test_a_finite_logit_never_becomes_infinite(tmp_path):
    for codec, large in ((Dense("bfloat16"), 3.4e38), (Dense("float16"), -1e5), (Hidden("float16"), 1e5)):
        rows = draw(5, 6)
        rows[2, 1] = large
        with pytest.raises(StoreError, match=rf"go beyond {codec.dtype} \(.*Ids of the examples: 2\.") as caught:
            build_store(Fixed(rows), Examples(TensorRows("x", torch.arange(5)), torch.zeros(5)), tmp_path, codec)
        assert caught.value.argument == "dtype"


def test_a_link_to_nothing_is_named(tmp_path):
    build(tmp_path)
    (tmp_path / "notes").symlink_to(tmp_path / "gone")
    with pytest.raises(StoreError, match="notes: is a link to a file that is not there") as caught:
        verify(tmp_path)
    assert len(caught.value.faults) == 1
    assert is_store(tmp_path)
    (tmp_path / "notes").unlink()
    name = "000000000016-000000000032.arrow"
    (tmp_path / name).rename(tmp_path / "gone")
    (tmp_path / name).symlink_to(tmp_path / "gone")
    assert len(TeacherStore(tmp_path)) == ROWS
    (tmp_path / "gone").unlink()
    with pytest.raises(StoreError, match=rf"1 of 4 shards are missing, {name} first"):
        TeacherStore(tmp_path)
    assert build(tmp_path).written == 1
    assert verify(tmp_path) == []
    for name in ("000000000016-000000000032.json", "000000000000-000000000016.json"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / "gone")
        with pytest.raises(StoreError) as caught:
            TeacherStore(tmp_path)
        assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(examples=[{"x": 1}]), "examples: expected limbeck.data.Examples.* got list"),
        (dict(codec="dense"), "codec: expected one of Dense, TopK, Sampled, Hidden, got str"),
        (dict(teacher=lambda batch: batch), "teacher: expected a module, got function"),
        (dict(views=2), "views: expected limbeck.data.FixedViews, got int"),
        (
            dict(views=FixedViews(2, 1, False, 0), examples=Examples(TensorRows("x", draw(3, 8)), torch.zeros(3))),
            "views: are",
        ),
        (dict(batch_size=0), "batch_size: expected at least 1"),
        (dict(shard_rows=0), "shard_rows: expected at least 1"),
        (dict(rank=2, world_size=2), "rank: expected a number from 0 to 1, got 2"),
        (dict(class_names=["a"] * CLASSES), "the name 'a' for several classes"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, changed, message):
    given = dict(teacher=teacher(), examples=examples(), folder=tmp_path / "store", codec=Dense()) | changed
    with pytest.raises(ArgumentError, match=message):
        build_store(**given)
    assert not (tmp_path / "store").exists()


def test_probabilities_are_refused_or_stored_as_their_logarithms(tmp_path):
    forest = torch.nn.Sequential(teacher(), torch.nn.Softmax(-1))
    with pytest.raises(StoreError, match="teacher: every row that it returned lies in"):
        build_store(forest, examples(), tmp_path, Dense("float32"))
    assert not list(tmp_path.iterdir())
    build_store(LogProbabilities(forest), examples(), tmp_path, Dense("float32"))
    rows = examples()
    batch = rows.__getitems__(range(8))
    with torch.no_grad():
        expected = forest(rows.load(rows.ids[:8].tolist()).popitem()[1])
    torch.testing.assert_close(TeacherStore(tmp_path).look_up(batch["example_id"]).logits.softmax(-1), expected)
