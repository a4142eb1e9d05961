"""The shortest way from a photo to an answer.

worker = Worker("detect").load_image("photo.jpg")
result = worker.infer()
worker.display_result("out.png")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stagemesh.client import Client, InferResult
from stagemesh.client.calls import DEFAULT_DEADLINE_S
from stagemesh.draw import draw, save
from stagemesh.errors import InvalidInput
from stagemesh.oip.tensors import Parameter

if TYPE_CHECKING:
    from PIL.Image import Image

    from stagemesh.cli.local.private import PrivateMesh


class Worker:
    """A client of one model that remembers its photo and its answer.

    `target` is the address of a gateway or stage. Without one the worker starts a mesh of its own, which serves this
    model out of `repository` (default: `models` of the checkout) and ends with `close`, the `with` block or the
    interpreter; that needs a checkout of the project. Errors are those of `Client`; ConfigError and MeshFailed where
    that mesh does not start.
    """

    def __init__(
        self,
        model: str,
        target: str | None = None,
        *,
        repository: str | Path | None = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> None:
        self.model = model
        self._mesh: PrivateMesh | None = None
        if target is None:
            self._mesh = _private_mesh(model, repository)
            target = self._mesh.target
        self._client = Client(target, deadline_s=deadline_s)
        self._photo: bytes | None = None
        self._result: InferResult | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection up, and end the mesh if it is the worker's own."""
        self._client.close()
        if self._mesh:
            self._mesh.close()

    def load_image(self, photo: str | Path | bytes) -> Worker:
        """Take a photo file, or the contents of one, for the next `infer`. OSError on reading."""
        self._photo = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        self._result = None
        return self

    def infer(self, **parameters: Parameter) -> InferResult:
        """Run the model on the photo; `parameters` go with the request, as in `infer(score_threshold=0.3)`."""
        self._result = self._client.infer_image(self.model, self._loaded(), parameters=parameters)
        return self._result

    def display_result(self, path: str | Path | None = None) -> Image:
        """Draw what was found on the photo, into the file `path` or, without one, onto the screen; infers if need be.

        Needs Pillow, the extra `draw`.
        """
        photo, result = self._loaded(), self._result or self.infer()
        image = draw(photo, result)
        if path is None:
            image.show(self.model)
        else:
            save(image, Path(path))
        return image

    def _loaded(self) -> bytes:
        if self._photo is None:
            raise InvalidInput("expected a photo, found none: call load_image first")
        return self._photo


def _private_mesh(model: str, repository: str | Path | None) -> PrivateMesh:
    from stagemesh.cli.local.private import PrivateMesh  # the command's machinery, which a plain client never needs

    return PrivateMesh(model, repository=Path(repository) if repository else None)
