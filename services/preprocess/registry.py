"""The plug-ins of this service by name; each is imported only when a model asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stagemesh.plugins import Plugin


def _image() -> type[Plugin]:
    from services.preprocess.image import ImagePreprocessor

    return ImagePreprocessor


PREPROCESSORS: Mapping[str, Callable[[], type[Plugin]]] = {"image": _image}
