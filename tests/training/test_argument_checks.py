"""Training arguments are tried before a training begins, and each fault names its argument."""

import pytest
import torch

from limbeck.training.argument_checks import argument_faults

GPU = torch.accelerator.is_available()


@pytest.mark.parametrize(
    ("settings", "argument", "message"),
    [
        ({"load_best_model_at_end": True}, "load_best_model_at_end", "requires the save and eval strategy to match"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type", "requires an eval strategy"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type", "min_lr"),
        ({"lr_scheduler_kwargs": {"cycles": 2}}, "lr_scheduler_kwargs", "unexpected keyword argument 'cycles'"),
        (
            {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"cycles": 2}},
            "lr_scheduler_kwargs",
            "has no effect on constant.",
        ),
        ({"optim": "sgd", "optim_args": "momentum"}, "optim_args", 'as in "momentum=0.9'),
        ({"optim": "sgd", "optim_args": "momentum=high"}, "optim_args", "could not convert string to float"),
        (
            {"optim": "sgd", "optim_args": "momentum=0.9, momentun=1"},
            "optim_args",
            "momentun=1 changes nothing in sgd.",
        ),
        ({"optim": "lomo"}, "optim", "lomo"),
        ({"report_to": ["tensorbord"]}, "report_to", "Did you mean tensorboard?"),
        ({"metric_for_best_model": "f1"}, "metric_for_best_model", "expected one of loss, accuracy, "),
        ({"deepspeed": "ds.json"}, "deepspeed", ""),
        ({"fsdp": True}, "fsdp", "needs several processes"),
        ({"accelerator_config": {"splt_batches": True}}, "accelerator_config", "splt_batches"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor", "dataloader_num_workers > 0"),
        ({"debug": "everything"}, "debug", "not a valid DebugOption"),
        pytest.param({"fp16": True}, "fp16", "needs a GPU", marks=pytest.mark.skipif(GPU, reason="needs no GPU")),
        pytest.param({"bf16": True}, "bf16", "use_cpu", marks=pytest.mark.skipif(GPU, reason="needs no GPU")),
    ],
    ids=str,
)
def test_a_fault_names_its_argument(settings, argument, message):
    faults = argument_faults(settings)
    assert list(faults) == [argument]
    assert message in faults[argument]


def test_all_faults_are_found_at_once():
    settings = {
        "load_best_model_at_end": True, "debug": "everything", "optim_args": "x", "lr_scheduler_kwargs": {"x": 1},
        "report_to": "nothing_known",
    }  # fmt: skip
    assert set(argument_faults(settings)) == set(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true", "learning_rate": 0.1},
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}, "warmup_steps": 0.1},
        {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True, "report_to": "none"},
        {"metric_for_best_model": "eval_accuracy", "max_steps": 3, "use_cpu": True, "bf16": True},
        {"optim": "adafactor", "accelerator_config": {"split_batches": True}},
    ],
    ids=str,
)
def test_what_trains_has_no_faults(settings):
    assert argument_faults(settings) == {}


def test_what_is_refused_already_gives_no_second_fault():
    settings = {"eval_strategy": "sometimes", "load_best_model_at_end": True}
    assert argument_faults(settings, refused=["eval_strategy"]) == {}
