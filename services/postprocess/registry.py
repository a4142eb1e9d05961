"""The plug-ins of this service by name; each is imported only when a model asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stagemesh.plugins import Plugin


def _classify() -> type[Plugin]:
    from services.postprocess.classify import ClassifyPostprocessor

    return ClassifyPostprocessor


def _detect() -> type[Plugin]:
    from services.postprocess.detect import DetectPostprocessor

    return DetectPostprocessor


def _pose() -> type[Plugin]:
    from services.postprocess.pose import PosePostprocessor

    return PosePostprocessor


def _segment() -> type[Plugin]:
    from services.postprocess.segment import SegmentPostprocessor

    return SegmentPostprocessor


POSTPROCESSORS: Mapping[str, Callable[[], type[Plugin]]] = {
    "classify": _classify,
    "detect": _detect,
    "pose": _pose,
    "segment": _segment,
}
