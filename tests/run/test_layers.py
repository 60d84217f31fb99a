"""The layers of a teacher that a student begins with, and where a measured choice is kept."""

import pytest
import torch

from limbeck.data import DataConfig, load_splits
from limbeck.errors import ConfigError
from limbeck.models.shrink import TeacherLayers
from limbeck.run import layers as module
from limbeck.run.layers import layers_of_teacher
from support.language import llama, tokenizer, write_corpus


@pytest.fixture
def splits(tmp_path):
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    config = DataConfig(str(write_corpus(tmp_path / "texts")), tokenizer=str(tmp_path / "tokenizer"), max_length=32)
    return load_splits(config, task="causal_lm")


def test_a_measured_choice_is_made_once(splits, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    measured, answers_of = [], module.answers_of

    def counting(model, examples):
        measured.append(len(model.model.layers))
        return answers_of(model, examples)

    monkeypatch.setattr(module, "answers_of", counting)

    def choose(layers=2, model=None, choose="measured"):
        before = len(measured)
        chosen = layers_of_teacher("it", TeacherLayers(layers, choose), model or llama(layers=3), splits)
        return chosen, len(measured) - before

    chosen, passes = choose()
    assert (len(chosen), passes) == (2, 3)
    assert choose() == (chosen, 0)
    assert splits.notes.count(f"The student begins with the layers {chosen[0]}, {chosen[1]} of it.") == 1
    assert choose(layers=1)[1] == 5  # another number, other weights and other texts are measured
    changed = llama(layers=3)
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    assert choose(model=changed)[1] == 3
    splits.train.load._tokens[0, 0] += 1
    assert choose()[1] == 3
    kept = list((tmp_path / "cache" / "layers").iterdir())
    assert len(kept) == 4
    for file in kept:
        file.write_text("[")
    assert choose() == (choose()[0], 3)  # a broken file is no choice
    assert choose(choose="even") == ([0, 2], 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file"))
    assert [choose()[1], choose()[1]] == [3, 3]  # nothing can be kept there


def test_faults(splits):
    with pytest.raises(ConfigError, match=r"student.from_teacher.layers: the teacher has 3 layers, got 4"):
        layers_of_teacher("it", TeacherLayers(4), llama(layers=3), splits)
    with pytest.raises(ConfigError, match="is for language models"):
        layers_of_teacher("it", TeacherLayers(1), llama(), load_splits(DataConfig("digits")))
