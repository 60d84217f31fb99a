"""The architecture: imports point down, importing is light, the public names are listed, and files stay short."""

import subprocess
import sys
from pathlib import Path

import limbeck

SOURCE = Path(limbeck.__file__).parent
ROOT = SOURCE.parents[1]


def test_imports_point_down():
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def loaded_by(code: str) -> set[str]:
    """Run code in a new process and return the top-level modules that are loaded after it."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_the_package_loads_nothing_and_the_losses_load_torch_alone():
    heavy = {"torch", "transformers", "datasets", "pydantic", "sklearn", "typer", "pyarrow", "matplotlib"}
    assert not loaded_by("import limbeck") & heavy
    assert loaded_by("import limbeck.losses, limbeck.check") & heavy == {"torch"}
    assert loaded_by("from limbeck import distillation_loss, DistillationLoss") & heavy == {"torch"}


def test_help_loads_neither_torch_nor_transformers():
    code = "from limbeck.commands.cli import main\ntry:\n    main(['{}', '--help'])\nexcept SystemExit:\n    pass"
    for command in ("demo", "distill", "compare", "evaluate", "predict", "check"):
        assert not loaded_by(code.format(command)) & {"torch", "transformers", "datasets", "sklearn"}


def test_the_public_names():
    assert set(limbeck.__all__) == {
        "ArgumentError", "ArgumentTypeError", "CollapsedTeacherWarning", "ConfigError", "DataError", "DistillationArguments",
        "DistillationLoss", "DistillationTrainer", "Divergence", "Ensemble", "LimbeckError", "LossParts", "ModelError",
        "SparseTargets", "StoreError", "StoredTeacher", "Teacher", "TeacherOutput", "__version__", "build_store",
        "distillation_loss", "distillation_loss_parts", "linear_distillation_loss", "linear_distillation_loss_parts",
        "load", "logit_mse_loss", "sparse_distillation_loss", "sparse_distillation_loss_parts",
        "sparse_linear_distillation_loss", "sparse_linear_distillation_loss_parts",
    }  # fmt: skip
    for name in limbeck.__all__:
        assert getattr(limbeck, name)


def test_files_stay_under_400_lines():
    lines = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 400} == {}
