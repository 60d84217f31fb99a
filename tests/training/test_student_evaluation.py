"""Evaluation by the trainer: the student alone, on every example once."""

from limbeck import DistillationArguments, DistillationTrainer
from support.workbench import CLASSES, Net, make_trainer, vectors


def test_compute_metrics_gets_the_logits(tmp_path):
    seen = {}

    def metrics(prediction):
        seen["shape"] = prediction.predictions.shape
        return {"mine": 1.0}

    data = vectors(13)
    args = DistillationArguments(str(tmp_path), per_device_eval_batch_size=5, use_cpu=True, disable_tqdm=True)
    trainer = DistillationTrainer(Net(), Net(24), args, eval_dataset=data, compute_metrics=metrics)
    evaluated = trainer.evaluate()
    assert seen["shape"] == (13, CLASSES)
    assert {"eval_mine", "eval_loss", "eval_accuracy"} <= evaluated.keys()
    assert trainer.predict(data).predictions.shape == (13, CLASSES)


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    trainer = make_trainer(
        "module", tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        load_best_model_at_end=True, metric_for_best_model="eval_accuracy", greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_metric == trainer.evaluate()["eval_accuracy"]
