from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fakes import MARKER, has_marker
from safelight.dropin.input_pictures import InputPictures, PictureReader
from safelight.dropin.sealed import SealedTensor
from safelight.errors import InvalidRequest, UnjudgedChannel

LEVEL = 1 / 255
SIDE = 8
MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "HSV")


def read(value: Any, name: str = "image", **more: Any) -> InputPictures:
    return PictureReader(name, **more).read(value)


def processor(*, mask: bool, normalise: bool) -> VaeImageProcessor:
    """Return the processor that diffusers' pipelines use, without the resizing."""
    return VaeImageProcessor(
        do_resize=False, vae_scale_factor=1, do_convert_rgb=not mask, do_convert_grayscale=mask, do_normalize=normalise
    )


def seen(value: Any, *, mask: bool, normalise: bool) -> np.ndarray[Any, Any]:
    """Return what the model sees of a value: number x height x width x channels, from 0 to 1."""
    with warnings.catch_warnings():
        # Of the range from -1 to 1, and of a palette with transparency, which are read all the same.
        warnings.simplefilter("ignore")
        tensor = processor(mask=mask, normalise=normalise).preprocess(value).float()
    pixels: np.ndarray[Any, Any] = ((tensor + 1) / 2 if normalise else tensor).permute(0, 2, 3, 1).numpy()
    return pixels


def shown(pictures: InputPictures) -> np.ndarray[Any, Any]:
    """Return what the screens see, in the same form."""
    return np.stack([np.asarray(image) for item in pictures.items for image in item]) / 255


def judged_as_seen(value: Any, *, mask: bool, normalise: bool) -> None:
    pictures = read(value, "mask_image" if mask else "image")
    own, theirs = shown(pictures), seen(value, mask=mask, normalise=normalise)
    grey = np.repeat(theirs, 3, axis=3) if theirs.shape[3] == 1 else theirs
    assert own.shape == grey.shape
    if mask:
        # The model reads a coloured mask as a grey one; the screens are shown its colours.
        own = np.stack([np.asarray(image.convert("L")) for item in pictures.items for image in item])[..., None] / 255
    assert np.abs(own - grey).max() <= LEVEL
    # And what is passed on is read as what was given.
    assert np.abs(seen(pictures.passed, mask=mask, normalise=normalise) - theirs).max() <= LEVEL / 2


@st.composite
def pil_pictures(draw: st.DrawFn) -> Image.Image:
    mode = draw(st.sampled_from(MODES))
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.frombuffer(draw(st.binary(min_size=SIDE * SIDE * 4, max_size=SIDE * SIDE * 4)), np.uint8)
    if mode == "P":
        picture = Image.fromarray(pixels.reshape(SIDE, SIDE, 4)[..., :3].copy()).quantize(8)
        if draw(st.booleans()):
            picture.info["transparency"] = draw(st.sampled_from([0, b"\x00\x80\xff"]))
        return picture
    if mode == "1":
        return Image.fromarray(pixels[: SIDE * SIDE].reshape(SIDE, SIDE) > 127)
    shaped = pixels[: SIDE * SIDE * bands].reshape(SIDE, SIDE, bands)
    return Image.frombytes(mode, (SIDE, SIDE), shaped.tobytes())


@given(st.lists(pil_pictures(), min_size=1, max_size=2), st.booleans(), st.booleans(), st.booleans())
def test_a_picture_of_any_mode_is_judged_as_the_model_sees_it(
    pictures: list[Image.Image], alone: bool, mask: bool, normalise: bool
) -> None:
    judged_as_seen(pictures[0] if alone else pictures, mask=mask, normalise=normalise)


@st.composite
def numbers(draw: st.DrawFn, *, mask: bool) -> Any:
    """Draw an array or tensor of one of the shapes that are read, or a list of them, with values from 0 to 1."""
    tensor = draw(st.booleans())
    channels = 1 if mask else draw(st.sampled_from([1, 3]))
    one = (channels, SIDE, SIDE) if tensor else (SIDE, SIDE, channels)
    flat = [(SIDE, SIDE)] if mask or not tensor else []
    many = [(2, *one), (1, *one)]
    stacked = [(2, SIDE, SIDE)] if mask else []
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    as_list = draw(st.booleans())
    shape = draw(st.sampled_from([one, *flat] if as_list else [one, *flat, *many, *stacked]))
    count = draw(st.integers(1, 3)) if as_list else 1
    values = [_values(generator, shape) for _ in range(count)]
    if tensor:
        dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
        values = [torch.from_numpy(value).to(dtype) for value in values]
    else:
        kind = draw(st.sampled_from([np.float32, np.float64]))
        values = [value.astype(kind) for value in values]
    return values if as_list else values[0]


def _values(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    values = generator.random(shape)
    values.flat[:2] = (0, 1)
    return values


@given(st.data(), st.booleans(), st.booleans())
def test_arrays_and_tensors_are_judged_as_the_model_sees_them(data: st.DataObject, mask: bool, normalise: bool) -> None:
    judged_as_seen(data.draw(numbers(mask=mask)), mask=mask, normalise=normalise)


@given(st.data(), st.integers(0, 2))
def test_one_negative_value_means_another_range_for_all_that_are_handed_in_together(
    data: st.DataObject, place: int
) -> None:
    value = data.draw(numbers(mask=False))
    spoilt = value[place % len(value)] if isinstance(value, list) else value
    spoilt.reshape(-1)[:8] = -0.5
    judged_as_seen(value, mask=False, normalise=True)
    read_again = seen(read(value).passed, mask=False, normalise=False)
    assert 0 <= read_again.min() and read_again.max() <= 1, "a processor that knows no negative values reads the same"


def test_a_marker_is_found_in_every_form() -> None:
    picture = Image.new("RGB", (16, 16), MARKER)
    array = np.asarray(picture).astype(np.float32) / 255
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    hidden = picture.convert("RGBA")
    hidden.putalpha(0)
    forms: list[Any] = [picture, hidden, picture.quantize(), array, array[None], tensor, tensor[None], tensor * 2 - 1]
    for form in forms:
        for value in (form, [form], [[form], [form]]):
            assert all(has_marker(image) for item in read(value).items for image in item)
            assert len(read(value).items) == (2 if isinstance(value, list) and isinstance(value[0], list) else 1)


def test_what_transparency_hides_is_shown_to_the_screens_and_to_the_model() -> None:
    hidden = Image.new("RGBA", (16, 16), (*MARKER, 0))
    pictures = read(hidden)
    assert pictures.passed.mode == "RGB" and has_marker(pictures.passed)


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "RGBa", "RGBX", "PA"])
@pytest.mark.parametrize("name", ["image", "mask_image", "ip_adapter_image"])
def test_a_picture_of_a_rare_mode_is_made_plain_before_it_is_judged_and_passed_on(mode: str, name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 8, len(mode) if mode in ("RGBa", "RGBX", "PA") else 3))
    pictures = read(Image.frombytes(mode, (8, 8), noise.astype(np.uint8).tobytes()), name)
    assert pictures.passed.mode == "RGB" and pictures.passed.info == {}
    assert pictures.passed.tobytes() == pictures.items[0][0].tobytes()


def test_the_numbers_of_a_copy_lie_in_memory_as_they_did() -> None:
    # A model rounds otherwise where they do not, and the picture would not be the plain pipeline's bit for bit.
    spread = torch.rand(8, 8, 3).permute(2, 0, 1)[None]
    for value in (spread, spread * 2 - 1):
        assert read(value).passed.stride() == value.stride()
    assert torch.equal(read(spread).passed, spread)


def test_what_was_judged_cannot_be_changed_any_more() -> None:
    picture, array, tensor = Image.new("RGB", (8, 8)), np.zeros((8, 8, 3)), torch.zeros(1, 3, 8, 8)
    read_before = [read(value) for value in (picture, array, tensor)]
    picture.paste(MARKER, (0, 0, 8, 8))
    array[:] = 1
    tensor.fill_(1)
    for pictures in read_before:
        assert np.asarray(pictures.passed).max() == 0
        assert not has_marker(pictures.items[0][0])


class Lying(Image.Image):
    """A picture that shows one reader a harmless copy, and itself to the next."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0
        self.marker = Image.new("RGB", (16, 16), MARKER)
        self._size, self._mode = (16, 16), "RGB"

    def convert(self, *args: Any, **kwargs: Any) -> Image.Image:
        self._asked += 1
        return Image.new("RGB", (16, 16)) if self._asked == 1 else self.marker


def test_a_picture_that_answers_differently_each_time_is_asked_once() -> None:
    pictures = read(Lying())
    assert type(pictures.passed) is Image.Image
    assert has_marker(pictures.passed) is has_marker(pictures.items[0][0]) is False


@pytest.mark.parametrize(
    "value",
    [
        "zorblax",
        b"zorblax",
        {"image": Image.new("RGB", (8, 8))},
        3,
        object(),
        [],
        [[]],
        [Image.new("RGB", (8, 8)), "zorblax"],
        [Image.new("RGB", (8, 8)), np.zeros((8, 8, 3))],
        [np.zeros((8, 8, 3)), torch.zeros(3, 8, 8)],
        [[[Image.new("RGB", (8, 8))]]],
        Image.new("I", (8, 8)),
        Image.new("I;16", (8, 8)),
        Image.new("F", (8, 8)),
        Image.new("La", (8, 8)),
        Image.new("RGB", (0, 8)),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), bool),
        np.full((8, 8, 3), "zorblax"),
        np.full((8, 8, 3), None),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        np.full((8, 8, 3), 255.0),
        np.full((8, 8, 3), -1.1),
        np.full((8, 8, 3), np.nan),
        np.full((8, 8, 3), np.inf),
        torch.full((3, 8, 8), torch.nan),
        np.zeros((8, 8, 4)),
        np.zeros((3, 8, 8)),
        np.zeros((0, 8, 8, 3)),
        np.zeros((1, 1, 8, 8, 3)),
        torch.zeros(8, 8),
        torch.zeros(1, 1, 3, 8, 8),
        torch.zeros(3, 8, 8, device="meta"),
        torch.zeros(3, 8, 8).to_sparse(),
        torch.nn.Parameter(torch.zeros(3, 8, 8)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_be_seen_otherwise_than_it_is_judged_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="^image: ") as refused:
        read(value)
    assert "zorblax" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [np.zeros((8, 8, 3)), torch.zeros(3, 3, 8, 8), torch.zeros(1, 4, 8, 8), np.full((8, 8), -1.0)],
    ids=["colours", "channels", "latents", "negative"],
)
def test_a_mask_has_one_channel_and_no_negative_values(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="mask_image"):
        read(value, "mask_image", latents=True)


@pytest.mark.parametrize("value", [np.zeros((8, 8, 3)), torch.zeros(1, 3, 224, 224), [torch.zeros(3, 8, 8)]])
def test_an_adapters_picture_must_be_one_that_its_reader_sees_as_everybody_does(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="ip_adapter_image: must be a PIL picture"):
        read(value, "ip_adapter_image")
    assert read([[Image.new("RGB", (8, 8), MARKER)]], "ip_adapter_image").items[0][0].getpixel((0, 0)) == MARKER


def test_where_a_pipeline_reads_numbers_in_its_own_way_only_masks_and_what_is_numbers_always_may_be_given_so() -> None:
    for value in (np.zeros((8, 8, 3)), torch.zeros(1, 3, 8, 8), SealedTensor(torch.zeros(1, 4, 8, 8))):
        with pytest.raises(InvalidRequest, match="image: must be a PIL picture"):
            read(value, by_pipeline_alone=True, latents=True)
    assert len(read(torch.zeros(2, 3, 8, 8), "hint", by_pipeline_alone=True).items) == 2
    assert len(read(np.zeros((8, 8)), "mask_image", by_pipeline_alone=True).items) == 1
    assert len(read([Image.new("RGB", (8, 8))], by_pipeline_alone=True).items) == 1


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 16, 8, 8), (1, 9, 8, 8), (4, 8, 8), (1, 8, 8, 8)])
def test_a_tensor_with_other_channels_is_latents_and_refused_unless_they_are_let_in(shape: tuple[int, ...]) -> None:
    latents = torch.ones(shape)
    for value in (latents, [latents]):
        with pytest.raises(UnjudgedChannel, match=r"image: .*allow={'latents'}"):
            read(value)
        pictures = read(value, latents=True)
        assert not any(pictures.items)
    assert pictures.passed[0] is not latents and torch.equal(pictures.passed[0], latents)


def test_what_could_be_a_picture_is_latents_where_the_pipelines_latents_have_as_many_channels() -> None:
    value = torch.zeros(1, 3, 8, 8)
    assert read(value, latent_channels=4).items
    with pytest.raises(UnjudgedChannel, match="as many channels as latents"):
        read(value, latent_channels=3)


def test_sealed_latents_are_opened_with_their_origins_whatever_their_shape() -> None:
    sealed = SealedTensor(torch.ones(2, 3, 8, 8), [{"prompt": "tea"}])
    pictures = read(sealed)
    assert type(pictures.passed) is torch.Tensor and pictures.passed.shape == (2, 3, 8, 8)
    assert pictures.items == () and pictures.origins == ({"prompt": "tea"},)
    assert read([sealed[0], sealed[1]]).origins == ({"prompt": "tea"},) * 2


def test_pictures_and_latents_are_not_mixed() -> None:
    with pytest.raises(InvalidRequest, match="pictures or latents, not both"):
        read([torch.zeros(4, 8, 8), torch.zeros(3, 8, 8)], latents=True)
