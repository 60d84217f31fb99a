"""``limbeck cache`` end to end: a student from the store is the live teacher's student, and no teacher is run."""

import json
import os
import re
import subprocess
import sys

import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file

from limbeck.store import TeacherStore, verify
from support.command_line import limbeck, run_limbeck
from support.runs import options

CONFIG = """\
data: {name: digits, labelled: 100}
teacher: {model: TEACHER}
student: {model: mlp, settings: {hidden: [16]}}
distillation: {temperature: 4, alpha: 0.9}
training: {max_steps: 60, per_device_train_batch_size: 64, learning_rate: 1e-2, save_strategy: "no", logging_steps: 10}
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A folder with config.yaml, and live/ with a trained teacher and the student that it taught."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "config.yaml").write_text(CONFIG.replace("TEACHER", str(folder / "live" / "teacher")))
    train = (
        "teacher={model: cnn, settings: {width: 8}, training: "
        "{max_steps: 60, per_device_train_batch_size: 64, learning_rate: 5e-3}}"
    )
    run_limbeck("distill", folder / "config.yaml", "--out", folder / "live", "--set", train)
    return folder


@pytest.fixture(scope="module")
def store(live):
    run_limbeck("cache", "build", live / "config.yaml", "--out", live / "store", "--set", "cache.dtype=float32")
    return live / "store"


def distil(capsys, live, run, *overrides):
    return limbeck(capsys, "distill", live / "config.yaml", "--out", run, *options(*overrides))


def weights(run):
    return load_file(run / "student" / "model.safetensors")


def test_a_student_from_the_store_is_the_live_teachers_student(live, store, tmp_path, capsys):
    # The config names no model, so no teacher can be loaded.
    status, out, err = distil(capsys, live, tmp_path / "run", f"teacher={{cache: {store}}}")
    assert status == 0, err
    assert "student" in out
    for name, tensor in weights(tmp_path / "run").items():
        torch.testing.assert_close(tensor, weights(live / "live")[name], rtol=1e-4, atol=1e-5)
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]
    assert list(results) == ["student"]
    status, out, _ = limbeck(capsys, "evaluate", tmp_path / "run")
    assert status == 0


@pytest.mark.parametrize(
    "keep", ["{format: topk, k: 4}", "{format: sampled, draws: 30}", "{format: dense, dtype: int8}"]
)
def test_every_format_teaches(live, tmp_path, capsys, keep):
    arguments = ("cache", "build", live / "config.yaml", "--out", tmp_path / "store", "--set", f"cache={keep}")
    status, out, err = limbeck(capsys, *arguments)
    assert status == 0, err
    assert "mean |Δ log p|" in out
    status, _, err = distil(capsys, live, tmp_path / "run", f"teacher={{cache: {tmp_path / 'store'}}}")
    assert status == 0, err
    accuracy = {
        run: json.loads((run / "metrics.json").read_text())["results"]["student"]["accuracy"]
        for run in (tmp_path / "run", live / "live")
    }
    assert accuracy[tmp_path / "run"] > accuracy[live / "live"] - 0.05


def test_views_of_augmented_examples(live, tmp_path, capsys):
    """The store's views are the student's; another augmentation is refused by name."""
    store, shifted = tmp_path / "store", "data.augmentation={shift: 1}"
    build = ("cache", "build", live / "config.yaml", "--out", store, "--set", "cache.views=3")
    status, _, err = limbeck(capsys, *build)
    assert (status, err) == (2, "cache.views: without shift or flip they would all be the same.\n")
    assert limbeck(capsys, *build, "--set", "data.augmentation={shift: 1, mixup: 0.2}")[0] == 2
    assert limbeck(capsys, *build, "--set", shifted)[0] == 0
    assert "3 of each, shift 1, flip False" in limbeck(capsys, "cache", "info", store)[1]
    status, _, err = distil(capsys, live, tmp_path / "run", f"teacher={{cache: {store}}}", shifted)
    assert status == 0, err
    for i, other in enumerate(("seed=0", "data.augmentation={shift: 2}", "data.augmentation={shift: 1, cutmix: 1}")):
        status, _, err = distil(capsys, live, tmp_path / f"run-{i}", f"teacher={{cache: {store}}}", other)
        assert status == 2
        assert "  data.augmentation: the stored teacher was asked about views with shift 1, flip False" in err


def test_a_store_behind_a_url(live, store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    url = f"file://{tmp_path / 'remote'}"
    arguments = ("cache", "build", live / "config.yaml", "--out", url, "--set", "cache.dtype=float32")
    assert limbeck(capsys, *arguments)[0] == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "remote").iterdir()} == {
        p.name: p.read_bytes() for p in store.iterdir()
    }
    assert limbeck(capsys, "cache", "verify", url)[:2] == (0, f"{url}: whole\n")
    assert distil(capsys, live, tmp_path / "run", f"teacher={{cache: {url!r}}}")[0] == 0
    for name, tensor in weights(tmp_path / "run").items():
        torch.testing.assert_close(tensor, weights(live / "live")[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # two processes start, twice
def test_two_processes_build_the_store_together(live, store, tmp_path):
    """Real processes, started as a user starts them, that talk over gloo."""
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [
        *(sys.executable, *launch.split(), "--dynamo_backend", "no", "--main_process_port", "0", "-m", "limbeck"),
        *("cache", "build", str(live / "config.yaml"), "--out", str(tmp_path / "two"), "--set", "cache.dtype=float32"),
        *("--set", "cache.shard_rows=100"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert verify(tmp_path / "two") == []
    assert len(list((tmp_path / "two").glob("*.arrow"))) == 11
    two, one = TeacherStore(tmp_path / "two"), TeacherStore(store)
    ids = torch.from_numpy(one.ids)
    torch.testing.assert_close(two.look_up(ids).logits, one.look_up(ids).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache", ["{format: hidden, dtype: float32}", "{format: topk, k: 4, shard_rows: 500}"])
def test_build_and_info_state_one_size(live, tmp_path, capsys, cache):
    """The bytes are those of all files, and the payload is the same number wherever it stands."""
    _, built, _ = limbeck(
        capsys, "cache", "build", live / "config.yaml", "--out", tmp_path / "store", "--set", f"cache={cache}"
    )
    _, info, _ = limbeck(capsys, "cache", "info", tmp_path / "store")
    (line,) = [line.split("bytes", 1)[1].strip() for line in built.splitlines() if "in all files" in line]
    assert line in info
    assert int(line.split()[0].replace(",", "")) == sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    payload = re.search(r"files: ([\d.]+) payload for each example", line)[1]
    if "topk" in cache:
        assert re.search(rf"TopK\(k=4, .*\)  +{payload} ", built)
    assert re.findall(r"Dense\(dtype='int8'\) +([\d.]+)", built + info) == ["18.0", "18.0"]


def test_info_verify_export(live, store, tmp_path, capsys):
    status, out, _ = limbeck(capsys, "cache", "info", store)
    assert status == 0
    assert "Dense(dtype='float32')" in out
    assert "40.0 payload for each example (+" in out
    assert "TopK(k=8" in out
    assert "TopK(k=64" not in out  # there are ten classes
    assert limbeck(capsys, "cache", "verify", store)[:2] == (0, f"{store}: whole\n")
    status, _, _ = limbeck(capsys, "cache", "export", store, "--parquet", tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert status == 0
    assert table.num_rows == 1097
    assert table.column_names == ["id", "logits"]


def test_a_changed_byte_is_named(store, tmp_path, capsys):
    for path in store.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = next(tmp_path.glob("*.arrow"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    status, _, err = limbeck(capsys, "cache", "verify", tmp_path)
    assert status == 2
    assert err.startswith(f"{path}: its checksum is xxh3_128:")


class TestErrors:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["teacher={cache: nowhere}"], "nowhere: there is no such folder. Build a store first."),
            (
                ["teacher={settings: {}}"],
                "teacher.model: missing. Name a model, or in cache a store of a teacher's outputs.",
            ),
            (["teacher={cache: STORE}", "data.mean=0.3"], "made from another data ("),
            (
                ["teacher={cache: STORE}", "data.augmentation={shift: 1}"],
                "data.augmentation: the stored teacher was asked about one view",
            ),
            (["teacher={cache: STORE}", "data.transfer=labelled"], "made from another data ("),
        ],
    )
    def test_a_store_that_does_not_fit(self, live, store, tmp_path, capsys, overrides, message):
        status, _, err = distil(capsys, live, tmp_path / "run", *(o.replace("STORE", str(store)) for o in overrides))
        assert status == 2
        assert message in err
        assert not (tmp_path / "run").exists()

    def test_a_temperature_that_the_store_does_not_know(self, live, tmp_path, capsys):
        limbeck(
            capsys, "cache", "build", live / "config.yaml", "--out", tmp_path / "store", "--set", "cache.format=topk"
        )
        given = (f"teacher={{cache: {tmp_path / 'store'}}}", "distillation.temperature=2")
        status, _, err = distil(capsys, live, tmp_path / "run", *given)
        assert status == 2
        told = (
            "distillation.temperature: the teacher's log-normaliser at T = 2 is not among the targets (there are: 1, 4)"
        )
        assert err.startswith(f"--set distillation.temperature=2  {told}")

    def test_another_teacher_is_not_written_over(self, live, store, tmp_path, capsys):
        before = {path.name: path.read_bytes() for path in store.iterdir()}
        given = ("--set", "cache.dtype=float16")
        status, _, err = limbeck(capsys, "cache", "build", live / "config.yaml", "--out", store, *given)
        assert status == 2
        assert "holds the store of something else (codec: " in err
        assert {path.name: path.read_bytes() for path in store.iterdir()} == before

    def test_comparing_needs_the_teacher_itself(self, live, store, tmp_path, capsys):
        given = ("--out", tmp_path / "run", "--set", f"teacher={{cache: {store}}}")
        status, _, err = limbeck(capsys, "compare", live / "config.yaml", *given)
        assert status == 2
        assert "teacher.model: needed here" in err

    def test_a_folder_for_the_store_is_needed(self, live, capsys):
        status, _, err = limbeck(capsys, "cache", "build", live / "config.yaml")
        assert status == 2
        assert "teacher.cache: name the folder" in err


def test_examples_that_are_mixed_cannot_be_stored(live, tmp_path, capsys):
    for name in ("mixup", "cutmix"):
        options = ("--set", f"data.augmentation.{name}=1.0", "--out", str(tmp_path / "store"))
        status, _, err = limbeck(capsys, "cache", "build", live / "config.yaml", *options)
        assert (status, (tmp_path / "store").exists()) == (2, False)
        assert f"data.augmentation.{name}: mixes other examples in every batch" in err
