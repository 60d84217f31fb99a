"""The journal of a search: claims, results, and the trials of dead workers."""

import subprocess
import sys

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from limbeck.temperature import Quality, Trial
from limbeck.temperature.journal import Journal

A, B = Trial(1.0, 0), Trial(2.0, 0, alpha=0.5, divergence="jsd")


@pytest.fixture(params=["memory", "file"])
def journal(request, tmp_path):
    return Journal(None if request.param == "memory" else tmp_path / "journal", "study")


def test_a_trial_is_claimed_once(journal):
    first, second = journal.claim([A, B]), journal.claim([A, B])
    assert (first[1], second[1]) == (A, B)
    assert journal.claim([A, B]) is None
    journal.mark_failed(first[0])
    assert journal.claim([A, B])[1] == A
    journal.mark_finished(second[0], 0.75)
    assert journal.results() == {B: 0.75}


@given(correct=st.lists(st.booleans(), min_size=1, max_size=40))
def test_what_is_known_of_each_example_is_kept(correct):
    journal = Journal(None, "study")
    brier = np.linspace(0, 2, len(correct), dtype=np.float32)
    both, plain = Quality(0.5, np.array(correct), brier), Quality.of_scores(brier)
    for trial, quality in ((A, both), (B, plain), (Trial(3.0, 0), 0.25)):
        journal.mark_finished(journal.claim([trial])[0], quality)
    kept = journal.qualities()
    assert (kept[A].value, kept[A].scores.tolist(), kept[A].scores.dtype) == (0.5, correct, bool)
    assert kept[A].brier.tolist() == kept[B].scores.tolist() == brier.tolist()
    assert kept[B].brier is None
    assert kept[Trial(3.0, 0)] == Quality(0.25)
    assert journal.results() == {trial: quality.value for trial, quality in kept.items()}


def test_another_process_reads_what_one_has_kept(tmp_path):
    one = Journal(tmp_path / "journal", "study")
    one.mark_finished(one.claim([A])[0], Quality.of_scores([True, False, True]))
    assert Journal(tmp_path / "journal", "study").qualities()[A].scores.tolist() == [True, False, True]


def test_workers_share_a_file_and_studies_do_not_mix(tmp_path):
    one, other = Journal(tmp_path / "journal", "study"), Journal(tmp_path / "journal", "study")
    number, _ = one.claim([A])
    assert other.claim([A]) is None
    one.mark_finished(number, 0.5)
    assert other.results() == {A: 0.5}
    assert Journal(tmp_path / "journal", "another study").results() == {}


def test_the_trial_of_a_dead_process_of_this_machine_is_claimed_again(tmp_path):
    code = (
        "import sys; from limbeck.temperature import Trial; from limbeck.temperature.journal import Journal; "
        "print(Journal(sys.argv[1], 'study').claim([Trial(1.0, 0)]) is not None)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "journal")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "True"
    journal = Journal(tmp_path / "journal", "study")
    own = journal.claim([B])
    assert journal.claim([A, B]) is None
    journal.mark_lost_as_failed(patience=1e9)
    assert journal.claim([A, B])[1] == A  # the trial of this process, which is alive, stays claimed
    assert own[1] == B


def test_a_worker_on_another_machine_is_waited_for(tmp_path):
    """Its trial is failed after the patience, and only once a finished student shows how long one takes."""
    elsewhere = Journal(tmp_path / "journal", "study", host="elsewhere")
    assert elsewhere.claim([A]) is not None
    journal = Journal(tmp_path / "journal", "study")
    journal.mark_lost_as_failed(patience=0.0)
    assert journal.claim([A]) is None  # no student has finished, so it is not known how long one takes
    number, _ = journal.claim([B])
    journal.mark_finished(number, 0.5)
    journal.mark_lost_as_failed(patience=60.0)
    assert journal.claim([A]) is None


def test_a_study_that_was_begun_with_optuna_alone_is_continued(tmp_path):
    """The study's direction and the attributes of its trials are a file format, which earlier searches have written."""
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    study = optuna.create_study(storage=storage, study_name="study", direction="maximize")
    for seed, quality in ((0, 0.25), (1, None)):
        trial = study.ask()
        trial.set_user_attr("worker", ["elsewhere", 7])
        trial.set_user_attr("trial", {"temperature": 2.0, "seed": seed, "alpha": None, "divergence": "jsd"})
        if quality is not None:
            study.tell(trial, quality)
    journal = Journal(tmp_path / "journal", "study")
    done, running = Trial(2.0, 0, divergence="jsd"), Trial(2.0, 1, divergence="jsd")
    assert journal.results() == {done: 0.25}
    assert journal.claim([running]) is None
    assert journal.claim([running, A])[1] == A
    written = study.get_trials()[-1].user_attrs
    assert written["trial"] == {"temperature": 1.0, "seed": 0, "alpha": None, "divergence": None, "policy": None}
    assert set(written) == {"worker", "trial"}
