"""The progress bar of the trainer."""

from types import SimpleNamespace

from transformers import TrainerControl

from limbeck.training.callbacks import ProgressBar


def state(step, *, main=True):
    return SimpleNamespace(max_steps=10, global_step=step, is_world_process_zero=main)


def test_the_bar_begins_where_the_run_was_resumed_and_follows_the_steps():
    bar, control = ProgressBar("Training"), TrainerControl()
    bar.on_train_begin(None, state(4), control)
    assert (bar._bar.n, bar._bar.total, bar._bar.disable) == (4, 10, False)
    bar.on_step_end(None, state(7), control)
    assert bar._bar.n == 7
    bar.on_log(None, state(7), control, logs={"loss": 0.5, "learning_rate": 0.1})
    assert bar._bar.postfix == "loss=0.5"
    bar.on_train_end(None, state(10), control)


def test_only_the_main_process_shows_the_bar():
    bar = ProgressBar("Training")
    bar.on_train_begin(None, state(0, main=False), TrainerControl())
    assert bar._bar.disable
    bar.on_train_end(None, state(0), TrainerControl())


def test_a_log_before_training_is_ignored():
    ProgressBar("Training").on_log(None, state(0), TrainerControl(), logs={"eval_loss": 1.0})
