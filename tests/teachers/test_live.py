"""Live teachers, and how other objects become teachers."""

import copy

import pytest
import torch
from torch import nn

from limbeck.errors import ArgumentError, ModelError
from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher, OnnxTeacher, Teacher, TeacherOutput, as_teacher
from limbeck.teachers.live import _is_elsewhere, check_separate
from support.onnx_files import write_linear


def test_a_live_teacher_runs_its_model_in_eval_mode_without_a_graph():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 3)).train()
    teacher = LiveTeacher(model)
    batch = {"x": torch.randn(5, 4), "labels": torch.zeros(5)}
    first, second = teacher(batch).logits, teacher(batch).logits
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert isinstance(teacher, Teacher)
    assert not isinstance(teacher, nn.Module)


def test_a_live_teacher_casts_inputs_to_its_dtype_and_leaves_ids_alone():
    model = nn.Embedding(5, 3)
    assert LiveTeacher(model, torch.bfloat16)({"input_ids": torch.tensor([[1, 2]])}).logits.dtype == torch.bfloat16
    assert LiveTeacher(nn.Linear(4, 3), torch.float64)({"x": torch.randn(2, 4)}).logits.dtype == torch.float64


def test_an_onnx_file_teaches_by_its_inputs_names(tmp_path):
    weight = torch.randn(4, 3)
    path = write_linear(tmp_path / "m.onnx", weight.numpy(), inputs=("age", "size"), softmax=True)
    teacher = OnnxTeacher(path, "probabilities")
    assert teacher.columns == {"age", "size"}
    batch = {name: torch.randn(5, 4) for name in ("age", "size", "other")}
    expected = ((batch["age"] + batch["size"]) @ weight).softmax(-1)
    torch.testing.assert_close(teacher(batch).logits.softmax(-1), expected)


class TestWhereItIs:
    """A teacher that was placed by its loader answers as before, wherever the training is."""

    def model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

    @pytest.mark.parametrize("offload", ["cpu", "disk"])
    def test_offloaded_weights_stay_offloaded(self, offload, tmp_path):
        from accelerate import cpu_offload, disk_offload

        rows, plain, device = torch.randn(5, 4), self.model(), torch.device("cpu")
        model = self.model()
        model = cpu_offload(model, device) if offload == "cpu" else disk_offload(model, str(tmp_path), device)
        teacher = as_teacher(model).to(device)
        torch.testing.assert_close(teacher({"x": rows}).logits, plain(rows))
        assert {weight.device.type for weight in model.parameters()} == {"meta"}

    @pytest.mark.filterwarnings("ignore")  # torch announces its successor, torchao
    def test_quantised_weights_are_neither_moved_nor_converted(self):
        rows = torch.randn(5, 4)
        model = torch.ao.quantization.quantize_dynamic(self.model(), {nn.Linear}, dtype=torch.qint8)
        teacher = as_teacher(model).to(torch.device("meta"))  # a training elsewhere
        assert torch.equal(teacher({"x": rows}).logits, model(rows))
        assert (model(rows) - self.model()(rows)).abs().max() < 0.05
        with pytest.raises(ArgumentError, match="teacher_dtype: the teacher is quantised"):
            as_teacher(model, dtype=torch.bfloat16)

    def test_which_devices_are_another(self):
        places = [("cpu", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda", "cuda:1"), ("cuda:1", "cuda:0"), ("cuda:0", "cpu")]
        found = [_is_elsewhere(torch.device(own), torch.device(training)) for own, training in places]
        assert found == [False, False, False, True, True]


class TestAsTeacher:
    def test_a_teacher_is_returned_as_it_is(self):
        teacher = InMemoryTeacher(torch.zeros(2, 3))
        assert as_teacher(teacher, dtype=torch.bfloat16) is teacher

    def test_a_module_is_frozen_and_converted(self):
        model = nn.Linear(4, 3)
        teacher = as_teacher(model, dtype=torch.bfloat16)
        assert isinstance(teacher, LiveTeacher)
        assert teacher.model is model
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.weight.dtype == torch.bfloat16

    def test_an_object_without_the_base_class_keeps_its_own_device_and_view(self):
        class Foreign:
            single_view = True
            device = None

            def to(self, device):
                moved = Foreign()
                moved.device = device
                return moved

            def __call__(self, batch):
                return TeacherOutput(torch.zeros(len(batch["x"]), 3, device=self.device))

        teacher = as_teacher(Foreign())
        assert teacher.single_view
        assert teacher.to(torch.device("meta")) is teacher
        assert teacher({"x": torch.zeros(2)}).logits.device.type == "meta"

    def test_a_function_may_return_logits(self):
        teacher = as_teacher(lambda batch: batch["x"] * 2)
        assert torch.equal(teacher.to(torch.device("cpu"))({"x": torch.ones(2, 3)}).logits, torch.full((2, 3), 2.0))
        assert not teacher.single_view

    @pytest.mark.parametrize(("source", "name"), [(3, "int"), ("gpt2", "str"), (nn.Linear, "the class Linear")])
    def test_what_cannot_be_called_with_a_batch_is_refused(self, source, name):
        with pytest.raises(TypeError, match=rf"^experts: expected a module, a Teacher or a callable, got {name}\."):
            as_teacher(source, argument="experts")


def test_shared_parameters_are_refused():
    student = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    for teacher in (student, nn.Sequential(student[0], nn.Linear(3, 3)), LiveTeacher(student)):
        with pytest.raises(ValueError, match="teacher: it shares parameters"):
            check_separate(teacher, student)
    for teacher in (copy.deepcopy(student), LiveTeacher(nn.Linear(4, 3)), InMemoryTeacher(torch.zeros(2, 3)), None):
        check_separate(teacher, student)


class TestModelsThatStay:
    """A loader has spread or quantised the teacher: moving or converting it would break it."""

    def placed(self, **attributes):
        class Placed(torch.nn.Linear):
            def to(self, *args, **kwargs):
                raise AssertionError("moved")

        model = torch.nn.Sequential(Placed(4, 3))
        for name, value in attributes.items():
            setattr(model[0], name, value)
        model.to = model[0].to
        return model

    @pytest.mark.parametrize(
        "attributes", [{"hf_device_map": {"": 0}}, {"is_quantized": True}, {"hf_quantizer": "bnb"}]
    )
    def test_it_is_not_moved(self, attributes):
        teacher = LiveTeacher(self.placed(**attributes)).to(torch.device("cpu"))
        assert teacher({"x": torch.zeros(2, 4)}).logits.shape == (2, 3)
        with pytest.raises(AssertionError, match="moved"):
            LiveTeacher(self.placed()).to(torch.device("cpu"))

    def test_a_quantised_one_is_not_converted(self):
        with pytest.raises(ArgumentError, match="teacher_dtype: the teacher is quantised"):
            LiveTeacher(self.placed(is_quantized=True), torch.bfloat16)

    def test_its_logits_come_to_where_the_batch_is(self):
        class Elsewhere(torch.nn.Linear):
            def forward(self, x):
                return torch.zeros(2, 3)

        assert LiveTeacher(Elsewhere(4, 3))({"x": torch.zeros(2, 4, device="meta")}).logits.device.type == "meta"


@pytest.mark.parametrize(
    "output",
    [torch.ones(2, 3), (torch.ones(2, 3), None), {"logits": torch.ones(2, 3)}, TeacherOutput(torch.ones(2, 3))],
    ids=["tensor", "tuple", "mapping", "TeacherOutput"],
)
def test_a_callable_may_return_what_a_model_returns(output):
    assert torch.equal(as_teacher(lambda batch: output)({}).logits, torch.ones(2, 3))


def test_a_callable_that_returns_no_logits():
    with pytest.raises(ModelError, match="function returned NoneType"):
        as_teacher(lambda batch: None)({})


def test_a_callable_keeps_no_graph():
    model = torch.nn.Linear(4, 3)
    assert not as_teacher(lambda batch: model(batch["x"]))({"x": torch.zeros(2, 4)}).logits.requires_grad


def test_a_teacher_with_models_of_its_own_must_be_separate():
    class Own(Teacher):
        def __init__(self, model):
            self.models = [model]

        def __call__(self, batch):
            return TeacherOutput(self.models[0](batch["x"]))

    student = torch.nn.Linear(4, 3)
    for teacher in (Own(student), LiveTeacher(student), Ensemble([Ensemble([Own(student)])])):
        with pytest.raises(ArgumentError, match="shares parameters"):
            check_separate(teacher, student)
    check_separate(Own(torch.nn.Linear(4, 3)), student)
