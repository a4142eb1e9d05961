"""The plug-in `image`: encoded photos in, images of the network's size out, with the way back to the photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.preprocess.crop import crop_of, parse_crop
from services.preprocess.decode import Photo, decode, no_reduction
from services.preprocess.geometry import Affine, Box, ResizeMode, Size, dynamic_size, place
from services.preprocess.normalise import Channels, Layout, Normalisation
from services.preprocess.resize import Interpolation, draw
from stagemesh.errors import InvalidInput
from stagemesh.oip.signature import Signature, TensorSpec
from stagemesh.oip.tensors import Parameter
from stagemesh.plugins import Arrays, Preprocessor
from stagemesh.repository import ModelFolder
from stagemesh.tables import check_range, check_unused

_SIDE_LIMIT = 16_384


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Keys of `[preprocess]` with plugin = "image".

    One of `size` (height, width) and `multiple_of` must be given. With `multiple_of` the image has the photo's own
    size, shrunk to `max_side` where it is larger, each side rounded up to the multiple; all photos of one request
    must then come to the same size. `resize`: "stretch" fills the size with the whole photo; "letterbox" keeps the
    photo's aspect, centred on `pad`; "center_crop" takes the centred part, `crop_ratio` of the largest one that has
    the aspect of the size. `background` shows through where a photo is transparent. `reduced_scale` decodes a JPEG
    at 1/2, 1/4 or 1/8 where it still is larger than needed: faster, but other pixels, so other scores. `dtype`
    "fp32" normalises here, for engines that don't: `layout`, `channels`, `mean` and `std` count only then.
    """

    size: tuple[int, int] | None = None
    multiple_of: int = 0
    max_side: int = 1920
    resize: ResizeMode = "stretch"
    interpolation: Interpolation = "linear"
    crop_ratio: float = 0.875
    pad: int = 0
    background: tuple[int, int, int] = (255, 255, 255)
    reduced_scale: bool = False
    max_pixels: int = 50_000_000
    dtype: Literal["uint8", "fp32"] = "uint8"
    layout: Layout = "NCHW"
    channels: Channels = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        self._check_size()
        check_range("crop_ratio", self.crop_ratio, 0.01, 1.0)
        check_range("pad", self.pad, 0, 255)
        check_range("max_pixels", self.max_pixels, 1, 1_000_000_000)
        for level in self.background:
            check_range("background", level, 0, 255)
        if 0.0 in self.std:
            raise ValueError(f"key 'std': expected no zero, found {list(self.std)}")
        if self.dtype == "uint8":
            floats_only = {"layout", "channels", "mean", "std"}
            check_unused(self, floats_only, "expected only with dtype = 'fp32', found it with 'uint8'")

    def _check_size(self) -> None:
        if (self.size is None) == (self.multiple_of == 0):
            raise ValueError("expected one of the keys 'size' and 'multiple_of', found both or none")
        for side in self.size or ():
            check_range("size", side, 1, _SIDE_LIMIT)
        check_range("multiple_of", self.multiple_of, 0, 1024)
        check_range("max_side", self.max_side, 1, _SIDE_LIMIT)
        if self.multiple_of and self.resize == "center_crop":
            raise ValueError("key 'resize': expected 'stretch' or 'letterbox' with multiple_of, found 'center_crop'")

    def normalisation(self) -> Normalisation | None:
        """What to do after resizing; None leaves uint8."""
        if self.dtype == "uint8":
            return None
        return Normalisation(self.layout, self.channels, self.mean, self.std)


class ImagePreprocessor(Preprocessor):
    """`image` BYTES [N] → `image` UINT8 [N, H, W, 3] RGB, `meta.transform` FP32 [N, 6], `meta.size` INT32 [N, 2].

    `meta.transform` is the row-major 2x3 matrix from the image's pixels to those of the photo, as it is seen upright;
    integers are pixel centres. `meta.size` is (height, width) of that photo. The request parameter `crop`,
    "x1,y1,x2,y2" in pixels of the photo, x2 and y2 outside, looks at that part of each photo only.
    """

    Options = ImageOptions

    def __init__(self, options: ImageOptions, folder: ModelFolder) -> None:
        super().__init__(options, folder)
        self._options = options
        self._normalisation = options.normalisation()

    def signature(self) -> Signature:
        """See the class."""
        height, width = self._options.size or (-1, -1)
        shape: tuple[int, ...] = (-1, height, width, 3)
        if self._normalisation:
            shape = self._normalisation.shape(-1, height, width)
        return Signature(
            inputs=(TensorSpec("image", "BYTES", (-1,)),),
            outputs=(
                TensorSpec("image", "FP32" if self._normalisation else "UINT8", shape),
                TensorSpec("meta.transform", "FP32", (-1, 6)),
                TensorSpec("meta.size", "INT32", (-1, 2)),
            ),
        )

    def run(self, inputs: Arrays, parameters: Mapping[str, Parameter]) -> Arrays:
        """Decode and resize photo by photo. Raises InvalidInput naming the photo, counted from 0."""
        crop = parse_crop(parameters)
        encoded = inputs["image"]
        batch = _Batch(len(encoded))
        for index, data in enumerate(encoded):
            try:
                self._add(batch, index, data, crop)
            except InvalidInput as error:
                raise InvalidInput(f"image[{index}] of {len(encoded)}: {error}", reason=error.reason) from error
        images: NDArray[Any] = batch.images
        if self._normalisation:
            images = self._normalisation.apply(batch.images)
        return {"image": images, "meta.transform": batch.transforms, "meta.size": batch.sizes}

    def _add(self, batch: _Batch, index: int, data: bytes, crop: Box | None) -> None:
        options = self._options
        photo = decode(
            data,
            max_pixels=options.max_pixels,
            background=options.background,
            reduction=self._reduction if options.reduced_scale and crop is None else no_reduction,
        )
        part = crop_of(_size(photo.pixels), crop)
        out = batch.room(index, self._image_size(photo.size if crop is None else part.size))
        placement = place(options.resize, part.size, _size(out), options.crop_ratio).moved(part.x, part.y)
        draw(photo.pixels, placement, options.interpolation, options.pad, out)
        batch.describe(index, photo, placement.back())

    def _image_size(self, photo: Size) -> Size:
        options = self._options
        return options.size or dynamic_size(photo, options.multiple_of, options.max_side)

    def _reduction(self, photo: Size) -> float:
        return min(place(self._options.resize, photo, self._image_size(photo), self._options.crop_ratio).scale)


class _Batch:
    """The outputs of a batch while they are filled; the first photo decides on the size."""

    def __init__(self, count: int) -> None:
        self.images = np.empty((count, 0, 0, 3), np.uint8)
        self.transforms = np.empty((count, 6), np.float32)
        self.sizes = np.empty((count, 2), np.int32)

    def room(self, index: int, size: Size) -> NDArray[np.uint8]:
        """The image [H, W, 3] to draw photo `index` into."""
        if index == 0:
            self.images = np.empty((len(self.images), *size, 3), np.uint8)
        expected = _size(self.images[0])
        if size != expected:
            raise InvalidInput(
                f"expected a photo that comes to {expected[1]} x {expected[0]} pixels as image[0] does, "
                f"found one that comes to {size[1]} x {size[0]}"
            )
        room: NDArray[np.uint8] = self.images[index]
        return room

    def describe(self, index: int, photo: Photo, to_pixels: Affine) -> None:
        self.transforms[index] = to_pixels.then(photo.to_full).row_major()
        self.sizes[index] = photo.size


def _size(image: NDArray[np.uint8]) -> Size:
    return image.shape[0], image.shape[1]
