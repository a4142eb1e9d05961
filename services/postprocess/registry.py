"""The plug-ins of this service by name; each is imported only when a model asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stagemesh.plugins import Plugin


def _classify() -> type[Plugin]:
    from services.postprocess.classify import ClassifyPostprocessor

    return ClassifyPostprocessor


POSTPROCESSORS: Mapping[str, Callable[[], type[Plugin]]] = {"classify": _classify}
