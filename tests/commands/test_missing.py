"""The message about a package that is not installed names the package as pip knows it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from limbeck.commands.missing import missing_package_message

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
MODULES = {"scikit-learn": "sklearn", "pillow": "PIL", "ruamel.yaml": "ruamel.yaml"}


@pytest.mark.parametrize("extra", ["train", "search", "report", "onnx", "export", "vision"])
def test_every_package_of_an_extra(extra):
    for requirement in PROJECT["optional-dependencies"][extra]:
        package = re.match(r"[\w.-]+", requirement)[0]
        message = missing_package_message(MODULES.get(package, package) + ".part")
        assert re.search(rf"\(or install Limbeck with its extra .*'{extra}'.*\)", message)
        assert f"pip install '{package}" in message.replace("ruamel-yaml", "ruamel.yaml")  # one name to pip


def test_a_package_of_a_package_and_a_source_without_metadata(monkeypatch):
    expected = "is not installed. Install Limbeck with its extra 'train'."
    assert missing_package_message("tokenizers.models") == f"tokenizers {expected}"

    def requires(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", requires)
    assert missing_package_message("optuna") == f"optuna {expected}"
