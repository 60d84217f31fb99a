"""A student is recognised by what it is, through adapters, wrappers and subclasses, or refused."""

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.models.auto import modeling_auto

from limbeck import DistillationTrainer
from limbeck.errors import ArgumentError
from limbeck.models import forward_logits
from limbeck.tasks import CausalLM, Classification, recognise, resolve_task
from limbeck.training import DistillationArguments
from support.workbench import CLASSES, VOCABULARY, Net, bert, llama, pad, sentences, vectors

TINY = dict(
    vocab_size=VOCABULARY, hidden_size=16, d_model=16, num_hidden_layers=1, num_layers=1, encoder_layers=1, decoder_layers=1,
    num_attention_heads=2, num_key_value_heads=2, intermediate_size=16,
)  # fmt: skip
IDS = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 2]])


def of_transformers(name, **settings):
    """A small model of a class of Transformers, which no memory is allocated for."""
    cls = getattr(transformers, name)
    with torch.device("meta"):
        return cls(cls.config_class(**settings))


class Adapter(nn.Module):
    """A stand-in for PEFT's wrapper, which takes anything and passes it on."""

    def __init__(self, model):
        super().__init__()
        self.adapted = model

    def get_base_model(self):
        return self.adapted

    def forward(self, *args, **kwargs):
        return self.adapted(*args, **kwargs)


class OwnLlama(transformers.LlamaForCausalLM):
    pass


class Around(nn.Module):
    """An own module around a language model."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, input_ids, attention_mask=None):
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits


class OwnLM(nn.Module):
    """A language model from scratch."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, VOCABULARY)

    def forward(self, input_ids):
        return self.table(input_ids)


class OwnHead(transformers.BertPreTrainedModel):
    """What many people write: a backbone of Transformers with a head of their own."""

    def __init__(self, config):
        super().__init__(config)
        self.bert, self.head = transformers.BertModel(config), nn.Linear(config.hidden_size, 3)

    def forward(self, input_ids):
        return self.head(self.bert(input_ids).pooler_output)


def own_llama():
    return OwnLlama(llama().config)


class TestLanguageModels:
    @pytest.mark.parametrize(
        "student",
        [llama, own_llama, lambda: Adapter(llama()), lambda: Adapter(own_llama()), lambda: Adapter(Adapter(llama()))],
        ids=["plain", "subclass", "adapter", "adapted subclass", "adapter twice"],
    )
    def test_it_is_evaluated_on_the_next_token(self, student, tmp_path):
        torch.manual_seed(0)
        student, data = student(), sentences(16, causal=True)
        args = DistillationArguments(str(tmp_path), use_cpu=True, disable_tqdm=True)
        trainer = DistillationTrainer(student, llama(24), args, pad, data, data)
        batch = pad(data)
        with torch.no_grad():
            logits = forward_logits(student.eval(), batch)
        expected = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
    @pytest.mark.parametrize("task_type", ["CAUSAL_LM", None])
    def test_peft(self, task_type):
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(task_type=task_type, target_modules=["q_proj"])
        assert recognise(peft.get_peft_model(llama(), config)) == "causal_lm"

    def test_every_causal_language_model_of_transformers(self):
        """By its class alone: most need packages or gigabytes to be made."""
        from limbeck.tasks.recognition import _task_of_class

        shifted = 0
        for name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
            cls = getattr(transformers, name, None) if isinstance(name, str) else None
            if cls is not None and not name.startswith("XL"):
                own = type("Own", (cls,), {})
                assert _task_of_class(cls, None) == _task_of_class(own, None) == "causal_lm", name
                shifted += 1
        assert shifted > 100

    @pytest.mark.parametrize("name", ["LlavaForConditionalGeneration", "Qwen2VLForConditionalGeneration"])
    def test_models_that_see_images(self, name):
        from limbeck.tasks.recognition import _task_of_class

        cls = getattr(transformers, name)
        assert _task_of_class(cls, cls.config_class()) == "causal_lm"

    def test_remote_code_says_what_it_is(self):
        class Remote(transformers.PreTrainedModel):
            config_class = transformers.PreTrainedConfig

        config = transformers.PreTrainedConfig()
        assert recognise(Remote(config)) == "unknown"
        config.auto_map = {"AutoModelForCausalLM": "modeling_remote.Remote"}
        assert recognise(Remote(config)) == "causal_lm"


class TestOwnModules:
    def targets(self, student, labels, ids=IDS):
        task = resolve_task("auto", student)
        assert isinstance(task, Classification)
        return task, task.targets({"input_ids": ids} | ({} if labels is None else {"labels": labels}))

    @given(data=st.data())
    def test_labels_that_are_the_input_make_it_a_language_model(self, data):
        counted = torch.tensor(data.draw(st.lists(st.booleans(), min_size=8, max_size=8))).view(2, 4)
        labels = IDS.where(counted, torch.tensor(-100))
        if not counted.any():
            self.targets(OwnLM(), labels)
            return
        with pytest.raises(ArgumentError, match=r"task: the student is a module of your own.*task='causal_lm'"):
            self.targets(OwnLM(), labels)
        task, targets = self.targets(Around(llama()), labels)
        assert task.align(torch.zeros(2, 4, 5)).shape == (2, 3, 5)
        assert torch.equal(targets.labels, labels[:, 1:])

    def test_labels_that_are_not_leave_it_as_it_is(self):
        for labels in (torch.tensor([1, 2]), IDS.roll(-1, 1), IDS % 3):
            task, targets = self.targets(OwnLM(), labels)
            assert targets.labels is labels
            assert task.align(IDS) is IDS

    @pytest.mark.parametrize("labels", [None, IDS.roll(-1, 1)])
    def test_a_language_model_inside_with_other_labels_stays_open(self, labels):
        with pytest.raises(ArgumentError, match=r"task: the student is built around a causal language model"):
            self.targets(Around(llama()), labels)
        self.targets(Around(llama()), torch.tensor([1, 0]))  # a label for each text

    def test_a_named_task_is_not_questioned(self):
        assert resolve_task("classification", Around(llama())).targets({"input_ids": IDS, "labels": IDS}).labels is IDS
        assert isinstance(resolve_task("causal_lm", bert()), CausalLM)

    def test_an_own_head(self):
        assert recognise(OwnHead(bert().config)) == "unknown"
        assert recognise(Net()) == recognise(Around(OwnHead(bert().config))) == "unknown"


class TestWhatNoTaskKnows:
    @pytest.mark.parametrize(
        "name",
        ["BertForQuestionAnswering", "BartForQuestionAnswering", "Wav2Vec2ForCTC", "BertModel", "XLNetLMHeadModel"],
    )
    def test_it_is_refused_by_name(self, name):
        student = of_transformers(name)
        for form in (student, Adapter(student)):
            with pytest.raises(ArgumentError, match=rf"task: {name} is of no kind .*task='classification'"):
                resolve_task("auto", form)

    def test_detection(self):
        from limbeck.tasks.recognition import _task_of_class

        for table in ("OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION", "QUESTION_ANSWERING", "DEPTH_ESTIMATION"):
            for name in getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES").values():
                if isinstance(name, str) and isinstance(cls := getattr(transformers, name, None), type):
                    assert _task_of_class(cls, None) is None, name
                    assert _task_of_class(type("Own", (cls,), {}), None) is None, name

    @pytest.mark.parametrize("problem", ["ordinal"])
    def test_a_problem_that_no_task_has(self, problem):
        student = bert()
        vars(student.config)["problem_type"] = problem  # earlier versions of Transformers refuse it themselves
        with pytest.raises(ArgumentError, match=f"BertForSequenceClassification is configured for {problem}"):
            resolve_task("auto", student)

    @pytest.mark.parametrize("name", ["BartForConditionalGeneration", "T5ForConditionalGeneration"])
    def test_encoder_and_decoder(self, name):
        task = resolve_task("auto", of_transformers(name))
        assert task.name == "encoder_decoder"
        batch = {"input_ids": IDS, "decoder_input_ids": IDS, "labels": IDS}
        assert task.targets(batch).labels is IDS
        assert task.align(IDS) is IDS  # the decoder's input is shifted already
        assert recognise(of_transformers("BartForSequenceClassification")) == "classification"


class TwoHeads(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(6, 8), nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)
        self.form = form

    def forward(self, x):
        hidden = self.body(x).tanh()
        logits = self.first(hidden)
        match self.form:
            case "second head":
                return logits, self.second(hidden)
            case "second head by name":
                return {"logits": logits, "aux": self.second(hidden)}
            case "frozen head":
                return logits, self.second(hidden).detach()
            case "hidden":
                return logits, hidden
            case _:
                return logits, None


@pytest.mark.parametrize("form", ["second head", "second head by name", "frozen head", "hidden", "none"])
def test_a_head_that_no_loss_reaches(form, tmp_path):
    args = DistillationArguments(str(tmp_path), use_cpu=True, max_steps=1, disable_tqdm=True)
    trainer = DistillationTrainer(TwoHeads(form), Net(), args, train_dataset=vectors())
    if form.startswith("second"):
        with pytest.raises(ArgumentError, match=r"model: the student returns 2 outputs.* 2 weights"):
            trainer.train()
    else:
        assert trainer.train().global_step == 1


def test_one_output_column(tmp_path):
    data = [{"x": torch.randn(6), "labels": torch.tensor(0)} for _ in range(8)]
    args = DistillationArguments(str(tmp_path), use_cpu=True, max_steps=1, disable_tqdm=True)
    trainer = DistillationTrainer(nn.Linear(6, 1), nn.Linear(6, 1), args, train_dataset=data, eval_dataset=data)
    for use in (trainer.train, trainer.evaluate):
        with pytest.raises(ArgumentError, match="one output column"):
            use()
