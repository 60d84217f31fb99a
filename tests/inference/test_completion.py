"""What a language model writes, against a loop that takes the likeliest token at each step."""

import pytest
import torch

from limbeck.data import Preprocessing
from limbeck.inference.completion import complete
from support.language import llama, tokenizer


@pytest.mark.parametrize(
    "habit",
    [{"repetition_penalty": 3.0}, {"no_repeat_ngram_size": 1}, {"min_length": 20}, {"num_beams": 2}],
    ids=str,
)
def test_the_likeliest_token_is_written_whatever_the_habits_of_the_model(habit):
    net, read = llama().eval(), Preprocessing([], task="causal_lm", tokenizer=tokenizer())
    net.generation_config.update(**habit)
    ids = read.tokenizer("w3 w4 w5")["input_ids"]
    start, end = len(ids), read.tokenizer.eos_token_id
    with torch.no_grad():
        while len(ids) < start + 8 and ids[-1] != end:
            ids.append(int(net(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = read.tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert complete(net, read, ["w3 w4 w5", "w7"], 8)[0] == expected
    assert len(set(expected.split())) < len(expected.split())  # a penalty would change it
