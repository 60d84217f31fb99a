"""Every command with a class for each pixel."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.commands.temperature_search import CHOICE, SEARCH
from limbeck.config import load_config
from limbeck.data import load_splits
from limbeck.models import load_model
from limbeck.models.networks import FCN
from limbeck.run.training import train
from support.command_line import limbeck, run_limbeck
from support.runs import options
from support.scenes import VALUES, save_scenes

CONFIG = """\
data: {name: DATA/images, masks: DATA/masks, classes: {0: background, 7: bright, 128: dark}, labelled: 4}
teacher:
  model: unet
  settings: {width: 4, depth: 1}
  training: {max_steps: 40, per_device_train_batch_size: 8, learning_rate: 3e-2}
student: {model: fcn, settings: {width: 4, layers: 2}}
distillation: {temperature: 2}
training: {max_steps: 4, per_device_train_batch_size: 4, learning_rate: 1e-2, save_strategy: "no", logging_steps: 2}
compare: {seeds: 2, temperatures: [2]}
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    save_scenes(folder, {"train": 16, "validation": 2, "test": 4})
    config = folder / "config.yaml"
    config.write_text(CONFIG.replace("DATA", str(folder)))
    return config, folder / "run", run_limbeck("compare", config, "--out", folder / "run")


def test_compare(compared):
    _, run, printed = compared
    told = json.loads((run / "metrics.json").read_text())
    assert told["teacher"]["mean_iou"] > 0.5
    of_classes = [told["teacher"][f"iou of {name}"] for name in ("background", "bright", "dark")]
    assert told["teacher"]["mean_iou"] == pytest.approx(np.mean(of_classes))
    assert set(told["arms"]["labels alone"]) >= {"accuracy", "mean_iou", "nll", "agreement", "validation_mean_iou"}
    assert "transfer set, teacher's hard labels" in told["arms"]
    assert told["errors"]["labels alone"] > 0
    for header in ("mean IoU, %", "Intersection over union of each class, %"):
        assert header in printed
    assert "Intersection over union of each class" in (run / "report.html").read_text()


def test_evaluate_tells_what_a_loop_by_hand_finds(compared, capsys):
    _, run, _ = compared
    status, out, err = limbeck(capsys, "evaluate", run)
    assert status == 0, err
    splits = load_splits(load_config(run / "config.yaml").data)
    student, batch = load_model(run / "student"), splits.test.as_one_batch()
    decided, labels = student(batch["pixel_values"]).argmax(1), batch["labels"]
    known = labels != -100
    ious = [((decided == c) & (labels == c)).sum() / (((decided == c) & known) | (labels == c)).sum() for c in range(3)]
    row = next(line for line in out.splitlines() if line.startswith("student")).split()
    assert f"{100 * sum(ious).item() / 3:.1f}" in row
    assert f"{100 * (decided == labels)[known].double().mean().item():.1f}" in row


def test_predict_writes_masks_of_the_size_of_the_image(compared, tmp_path, capsys):
    _, run, _ = compared
    Image.fromarray(np.full((16, 20), 120, np.uint8)).save(tmp_path / "plain.png")
    status, out, err = limbeck(capsys, "predict", run, tmp_path / "plain.png", "--out", tmp_path / "masks", "--json")
    assert status == 0, err
    told = json.loads(out)
    assert told["mask"] == str(tmp_path / "masks" / "plain.png")
    with Image.open(told["mask"]) as mask:
        assert mask.size == (20, 16)
        values = np.array(mask)
    assert set(values.flatten().tolist()) <= set(VALUES)
    assert told["shares"]["background"] == pytest.approx((values == 0).mean())
    assert limbeck(capsys, "predict", run, tmp_path / "plain.png")[1].split("\t")[1] == told["label"]


def test_distill_with_another_teacher_and_a_page(compared, tmp_path, capsys):
    config, run, _ = compared
    teacher = options(
        f"teacher={{model: {run / 'teacher'}}}", "data.augmentation={shift: 1, flip: true}", "data.image_size=[8, 12]"
    )
    status, _, err = limbeck(capsys, "distill", config, "--out", tmp_path / "run", *teacher)
    assert status == 0, err
    assert "mean_iou" in json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]["student"]


def test_a_step_is_the_formula_by_hand(compared, tmp_path):
    """Labelled and unlabelled images in one batch: every pixel but the ignored ones learns from the teacher."""
    config, run, _ = compared
    steps = [
        "training.max_steps=1",
        "training.per_device_train_batch_size=16",
        "training.optim=sgd",
        "training.max_grad_norm=0",
    ]
    steps += ["training.lr_scheduler_type=constant", "training.learning_rate=0.5", "training.logging_strategy=no"]
    settings = load_config(config, steps)
    splits = load_splits(settings.data)
    teacher = load_model(run / "teacher")
    torch.manual_seed(3)
    student = FCN(1, 3, width=4, layers=2)
    theirs = copy.deepcopy(student).double().train()
    train(student, teacher, splits.train, settings, folder=tmp_path)

    batch = splits.train.as_one_batch()
    images, labels = batch["pixel_values"].double(), batch["labels"]
    counted = batch["mask"]
    assert counted.sum() > (labels != -100).sum()
    with torch.no_grad():
        soft_targets = (teacher.double()(images) / 2).softmax(1).movedim(1, -1)[counted]
    logits = theirs(images).movedim(1, -1)
    soft = (soft_targets * (soft_targets.log() - (logits[counted] / 2).log_softmax(-1))).sum() * 4
    known = labels != -100
    hard = -logits.log_softmax(-1)[known].gather(-1, labels[known][:, None]).sum()
    ((0.9 * soft + 0.1 * hard) / counted.sum()).backward()
    for ours, expected in zip(student.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), expected - 0.5 * expected.grad, rtol=1e-4, atol=1e-6)


def test_a_segformer_is_built_for_the_classes_and_a_module_may_return_a_mapping(compared, tmp_path, capsys):
    from transformers import SegformerConfig

    SegformerConfig(
        num_encoder_blocks=1, depths=[1], sr_ratios=[1], hidden_sizes=[8], patch_sizes=[3], strides=[4],
        decoder_hidden_size=8, num_attention_heads=[1], mlp_ratios=[1],
    ).save_pretrained(tmp_path / "segformer")  # fmt: skip
    config, _, _ = compared
    settings = ["data.channels=3", f"student={{model: {tmp_path / 'segformer'}, from_scratch: true}}"]
    teacher = "teacher={model: support.scenes:trained}"
    status, out, err = limbeck(
        capsys, "distill", config, "--check", *options(f"out={tmp_path}/run", *settings, teacher)
    )
    assert status == 0, err
    assert "segformer, " in out


@pytest.mark.parametrize(
    ("command", "settings", "message"),
    [
        (("distill",), ["data.augmentation={mixup: 0.2}"], "data.augmentation.mixup: mixes images with one answer"),
        (("distill",), ["student.model=cnn", "data.image_size=8", "student.settings={}"], "expects (N, C, H, W)"),
        (("distill",), ["task=masked_lm"], "data.masks: has no effect on texts for masked_lm"),
        (
            ("distill",),
            ["task=classification"],
            "task: classification, but the labels of the data are for dense_prediction",
        ),
    ],
)
def test_what_is_refused(compared, tmp_path, capsys, command, settings, message):
    config, _, _ = compared
    status, _, err = limbeck(capsys, *command, config, *options(f"out={tmp_path / 'run'}", *settings))
    assert status == 2
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_store_in_every_command(compared, tmp_path, capsys):
    config, run, _ = compared
    store, views = tmp_path / "store", "data.augmentation={shift: 1, flip: true}"
    model = options(f"teacher={{model: {run / 'teacher'}}}", views, "cache.views=2")
    assert "bytes / pixel" in run_limbeck("cache", "build", config, "--out", store, *model)
    told = run_limbeck("cache", "info", store)
    assert "8 x 12 of each" in told
    assert "payload for each pixel" in told
    assert run_limbeck("cache", "verify", store).strip().endswith("whole")
    stored = options(f"teacher={{cache: {store}}}", views)
    run_limbeck("distill", config, "--out", tmp_path / "run", *stored)
    assert "mean_iou" in json.loads((tmp_path / "run" / "metrics.json").read_text())["results"]["student"]
    run_limbeck("temperature", "analyze", config, "--out", tmp_path / "analysis", *stored)
    analysis = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    assert analysis["classes"] == 3
    assert 16 * 8 * 12 - 40 < analysis["examples"] <= 16 * 8 * 12 - 16  # a view may repeat the corner without a label


@pytest.mark.slow
def test_a_temperature_is_searched_and_analysed(compared, tmp_path):
    config, run, _ = compared
    search = "search={temperatures: [1, 2, 4], seeds: 1}"
    model = options(f"teacher={{model: {run / 'teacher'}}}", search, "training.max_steps=1")
    run_limbeck("temperature", "search", config, "--out", tmp_path / "search", *model)
    choice = json.loads((tmp_path / "search" / SEARCH / CHOICE).read_text())
    assert choice["temperature"] in (1, 2, 4)
    assert all(0 <= student["validation_mean_iou"] <= 1 for student in choice["students"])
    run_limbeck("temperature", "analyze", config, "--out", tmp_path / "analysis", *model)
    assert json.loads((tmp_path / "analysis" / "analysis.json").read_text())["calibration"] is not None
