import pytest

from support.texts import word_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    """The folder of a tokenizer."""
    folder = tmp_path / "tokenizer"
    word_tokenizer().save_pretrained(folder)
    return str(folder)
