import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import images as images_module
from limbeck.data.images import Augmentation, ImageFormat, read_idx
from limbeck.errors import ArgumentError, DataError


def idx(values: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_read_idx(packed, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    path = tmp_path / "images"
    (tmp_path / "images.gz" if packed else path).write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    assert np.array_equal(read_idx(path).numpy(), values)


def test_a_broken_idx_file(tmp_path):
    values = np.zeros((5, 4, 3), dtype=np.uint8)
    path = tmp_path / "images"
    with pytest.raises(DataError, match=r"no such file, nor images\.gz"):
        read_idx(path)
    for content in (idx(values)[:-1], b"", b"GIF89a", idx(values)[:6], struct.pack(">HBB", 0, 13, 1) + b"\0\0\0\0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a whole IDX file"):
            read_idx(path)
    path.unlink()
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(values))[:-4])
    with pytest.raises(DataError, match="not a whole IDX file"):
        read_idx(path)


def test_image_format(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "grey.png")
    grey = ImageFormat((6, 5), 1)([tmp_path / "grey.png", array, Image.fromarray(array)])
    assert grey.shape == (3, 1, 6, 5)
    for one in grey:
        torch.testing.assert_close(one[0], torch.from_numpy(array).float() / 255)
    coloured = ImageFormat((12, 10), 3, mean=[0.5, 0.4, 0.3], std=[0.5, 0.2, 0.1])([array])
    assert coloured.shape == (1, 3, 12, 10)
    plain = ImageFormat((12, 10), 3)([array])
    torch.testing.assert_close(coloured[0, 2], (plain[0, 2] - 0.3) / 0.1)
    (tmp_path / "note.png").write_text("not an image")
    with pytest.raises(DataError, match=r"note\.png: not an image"):
        ImageFormat((6, 5), 1)([tmp_path / "note.png"])


class TestAugmentation:
    @property
    def batch(self):
        generator = torch.Generator().manual_seed(0)
        return {"pixel_values": torch.rand(50, 2, 5, 6, generator=generator), "labels": torch.arange(50)}

    def test_a_shift_moves_whole_images_by_whole_pixels(self):
        shifted = Augmentation(shift=1)(self.batch)["pixel_values"]
        padded = torch.nn.functional.pad(self.batch["pixel_values"], (1, 1, 1, 1), mode="replicate")
        windows = [padded[:, :, i : i + 5, j : j + 6] for i in range(3) for j in range(3)]
        matches = torch.stack([(shifted == window).flatten(1).all(-1) for window in windows])
        assert matches.any(0).all()
        assert (matches.sum(1) > 0).all()  # all nine moves were drawn

    def test_a_flip_mirrors_about_half(self):
        flipped = Augmentation(flip=True)(self.batch)["pixel_values"]
        same = (flipped == self.batch["pixel_values"]).flatten(1).all(-1)
        mirrored = (flipped == self.batch["pixel_values"].flip(-1)).flatten(1).all(-1)
        assert (same ^ mirrored).all()
        assert 10 < mirrored.sum() < 40

    def test_mixup_mixes_images_and_labels_alike(self):
        view = Augmentation(mixup=0.5)(self.batch)
        share, partner = view["mixup_weight"], view["mixup_labels"]  # labels are row numbers here
        images = self.batch["pixel_values"]
        torch.testing.assert_close(view["pixel_values"], share * images + (1 - share) * images[partner])
        assert 0 <= share <= 1

    def test_cutmix_pastes_a_box_and_counts_its_area(self):
        images = self.batch["pixel_values"]
        for _ in range(20):
            view = Augmentation(cutmix=1.0)(self.batch)
            share, partner = view["mixup_weight"], view["mixup_labels"]
            kept = (view["pixel_values"] == images).all(1)
            assert (kept | (view["pixel_values"] == images[partner]).all(1)).all()
            moved = partner != torch.arange(50)
            torch.testing.assert_close(
                kept[moved].double().mean((1, 2)), torch.full((int(moved.sum()),), share).double()
            )
            box = ~kept[moved][0]
            assert box.sum() == box.any(0).sum() * box.any(1).sum()  # a rectangle

    def test_the_box_is_as_large_as_was_drawn_unless_the_border_cuts_it(self, monkeypatch):
        centre = {"height": 10, "width": 15}
        drawn = iter([10, 15] * 3)
        monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(next(drawn)))
        for share, cut in ((0.75, (10, 15)), (0.0, (20, 30)), (1.0, (0, 0))):
            rows, columns = images_module._box(20, 30, share)
            assert (rows.stop - rows.start, columns.stop - columns.start) == cut
            assert rows.start == centre["height"] - cut[0] // 2
            assert columns.start == centre["width"] - cut[1] // 2

    def test_with_mixup_and_cutmix_each_batch_has_one_of_both(self):
        images = self.batch["pixel_values"]
        views = [Augmentation(mixup=1.0, cutmix=1.0)(self.batch) for _ in range(40)]
        pasted = [(v["pixel_values"] == images).any() and v["mixup_weight"] not in (0, 1) for v in views]
        assert 8 < sum(map(bool, pasted)) < 32

    @pytest.mark.parametrize(
        "labels", [torch.tensor([-100, 1] * 25), torch.tensor([[-100.0, -100.0], [0.5, 0.5]] * 25)]
    )
    def test_images_without_a_label_are_mixed_with_each_other(self, labels):
        for augment in (Augmentation(mixup=1.0), Augmentation(cutmix=1.0)):
            view = augment(self.batch | {"labels": labels})
            assert torch.equal(view["mixup_labels"] == -100, labels == -100)
            without = augment({"pixel_values": self.batch["pixel_values"]})
            assert without.keys() == {"pixel_values"}

    def test_labels_of_pixels_have_no_area(self):
        with pytest.raises(ArgumentError, match="cutmix: labels of pixels"):
            Augmentation(cutmix=1.0)(self.batch | {"labels": torch.zeros(50, 5, 6).long()})

    def test_the_given_batch_is_left_alone_and_nothing_asked_is_nothing_done(self):
        batch = self.batch
        Augmentation(shift=2, flip=True, mixup=0.3)(batch)
        Augmentation(shift=2, flip=True, cutmix=0.3)(batch)
        assert batch.keys() == self.batch.keys()
        assert all(torch.equal(batch[name], self.batch[name]) for name in batch)
        assert Augmentation()(batch).keys() == batch.keys()

    @pytest.mark.parametrize(
        ("argument", "value"),
        [("shift", -1), ("shift", 1.5), ("flip", "no"), ("mixup", -0.1), ("mixup", float("nan")), ("cutmix", -1)],
    )
    def test_settings_that_are_none(self, argument, value):
        with pytest.raises(ArgumentError) as caught:
            Augmentation(**{argument: value})
        assert caught.value.argument == argument

    def test_is_on(self):
        assert not Augmentation().is_on
        assert all(
            Augmentation(**one).is_on for one in (dict(shift=1), dict(flip=True), dict(mixup=0.1), dict(cutmix=1.0))
        )

    def test_negative_settings(self):
        with pytest.raises(ValueError, match=r"^shift: .* got -1"):
            Augmentation(shift=-1)


@pytest.mark.parametrize("argument", ["mean", "std"])
def test_as_many_values_as_channels(argument):
    with pytest.raises(ArgumentError, match=f"^{argument}: expected one number, or one for each of 3 channels, got"):
        ImageFormat((2, 2), 3, **{argument: (0.5, 0.5)})
