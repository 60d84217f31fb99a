"""The progress bar of the trainer, and checkpoints by the clock."""

import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from limbeck.training.callbacks import ProgressBar, TimedCheckpoints
from support.workbench import make_trainer


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


ALONE = SimpleNamespace(world_size=1)


@pytest.fixture
def clock(monkeypatch):
    """Return a list with the time that the checkpoints see."""
    now = [0.0]
    monkeypatch.setattr("limbeck.training.callbacks.time.monotonic", lambda: now[0])
    return now


def test_a_checkpoint_every_minute_and_rarely_where_writing_is_slow(clock):
    timed, saved = TimedCheckpoints(lambda: 0, 60), []
    timed.on_train_begin(ALONE, None, TrainerControl())
    for clock[0] in range(1, 1000):
        control = TrainerControl()
        timed.on_step_end(ALONE, None, control)
        assert not control.should_training_stop
        if control.should_save:
            saved.append(clock[0])
            clock[0] += 10  # seconds of writing
            timed.on_save(ALONE, None, control)
    assert saved == [60, 270, 480, 690, 900]  # 10 of 210 seconds are a part in 20 of the training between


def test_without_a_pause_only_a_signal_asks_for_a_checkpoint(clock):
    came = [0]
    timed, control = TimedCheckpoints(lambda: came[0], None), TrainerControl()
    timed.on_train_begin(ALONE, None, control)
    clock[0] = 1e9
    timed.on_step_end(ALONE, None, control)
    assert (control.should_save, control.should_training_stop, timed.stopped_by) == (False, False, 0)
    came[0] = signal.SIGTERM
    timed.on_step_end(ALONE, None, control)
    assert (control.should_save, control.should_training_stop, timed.stopped_by) == (True, True, signal.SIGTERM)


def test_a_stopped_training_has_its_checkpoint(tmp_path):
    trainer = make_trainer("module", tmp_path)
    trainer.add_callback(TimedCheckpoints(lambda: signal.SIGINT * (trainer.state.global_step >= 3), None))
    trainer.train()
    assert trainer.state.global_step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]
