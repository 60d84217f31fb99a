"""Train the student of small.yaml in other ways, and add the perplexity of each on the test part to runs/smollm2/arms.jsonl.

    python examples/smollm2/prepare.py
    python examples/smollm2/arms.py              # all of them
    python examples/smollm2/arms.py hidden T=2   # these alone

A way whose result is in the file is not trained again. Each student reads every block once.
"""

import json
import sys
from pathlib import Path

from limbeck.commands.cache import build_cache
from limbeck.config import load_config
from limbeck.evaluation import Answers, answers_of
from limbeck.run.inputs import load_run_splits
from limbeck.run.teacher import load_teacher, open_stored_teacher
from limbeck.run.training import build_seeded_model, train

folder, config_file = Path("runs/smollm2"), Path(__file__).with_name("small.yaml")
STORES = {
    "hidden": "cache={format: hidden}",
    "draws": "cache={format: sampled, draws: 64}",
    "top-64": "cache={format: topk, k: 64}",
}
SHORT = "training.max_steps=8"
SLOWER = "training.learning_rate=2e-3"
ARMS = {
    "labels": ["distillation.alpha=0"],
    "hidden": [],
    "draws": [f"teacher.cache={folder}/store-draws"],
    "top-64": [f"teacher.cache={folder}/store-top-64"],
    "live": ["teacher.cache=null"],
    "labels, 8 steps": ["distillation.alpha=0", SHORT],
    "hidden, 8 steps": [SHORT],
    "live, 8 steps": ["teacher.cache=null", SHORT],
    "T=2": ["distillation.temperature=2"],
    "T=4": ["distillation.temperature=4"],
    "reverse_kl": ["distillation.divergence=reverse_kl"],
    "jsd": ["distillation.divergence=jsd"],
    "skew_kl": ["distillation.divergence=skew_kl"],
    "forward_kl, 2e-3": [SLOWER],
    "reverse_kl, 2e-3": ["distillation.divergence=reverse_kl", SLOWER],
    "jsd, 2e-3": ["distillation.divergence=jsd", SLOWER],
    "skew_kl, 2e-3": ["distillation.divergence=skew_kl", SLOWER],
    "T=1, alpha 0.9": ["distillation.alpha=0.9"],
    "T=2, alpha 0.9": ["distillation.temperature=2", "distillation.alpha=0.9"],
    "T=4, alpha 0.9": ["distillation.temperature=4", "distillation.alpha=0.9"],
}
"""What each way sets. Where it names no store, the hidden states teach, which the arm "hidden" has stored first."""

out = folder / "arms.jsonl"
done = {json.loads(line)["arm"] for line in out.read_text().splitlines()} if out.exists() else set()
splits = load_run_splits(load_config(config_file))
for name in [name for name in sys.argv[1:] or ARMS if name not in done]:
    if name in STORES:
        build_cache(load_config(config_file, [STORES[name]]), folder / f"store-{name}")
    shared = [f"teacher.cache={folder}/store-hidden", "training.num_train_epochs=1"]
    config = load_config(config_file, [*shared, *ARMS[name]])
    student = build_seeded_model(config.student, splits, config.seed)
    teacher = None
    if config.distillation.alpha > 0:
        live = config.teacher.cache is None
        teacher = load_teacher(config, splits, folder) if live else open_stored_teacher(config, splits)
    train(student, teacher, splits.train, config, folder=folder / "arms")
    answers = answers_of(student, splits.test)
    assert isinstance(answers, Answers)
    row = {"arm": name, "perplexity": round(answers.metrics["perplexity"], 2)}
    with out.open("a", encoding="utf-8") as file:
        print(json.dumps(row), file=file)
    print(row, flush=True)
