"""What a request to load or unload a model asks for, in either variant of the protocol."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from stagemesh.errors import InvalidInput, Unsupported
from stagemesh.oip import open_inference_pb2 as pb

RepositoryRequest: TypeAlias = pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest

KEEP = "stagemesh_keep"
"""Parameter of a load: the generation that stays at hand for the requests that ask for it."""
RELEASE = "stagemesh_release"
"""Parameter of an unload: only this generation, which a load kept, ends."""
UNLOAD_DEPENDENTS = "unload_dependents"
"""Parameter that clients send with each unload; no model here depends on another."""


def requested_model(request: RepositoryRequest) -> str:
    """The name of the model; KServe's clients send it in the first field. Raises InvalidInput where there is none."""
    name = request.model_name or request.repository_name
    if not name:
        raise InvalidInput("expected the name of a model, found none")
    return name


def parameter(request: RepositoryRequest, wanted: str, ignored: Collection[str] = ()) -> str:
    """The value of the parameter `wanted`, "" where the request has none.

    Raises Unsupported for a model sent along in the request, InvalidInput for any other parameter not `ignored`.
    """
    for key in request.parameters:
        if key == "config" or key.startswith("file:"):
            raise Unsupported(
                f"parameter '{key[:80]}': a model is loaded from its folder in the server's repository alone; "
                "configuration and files of a client are not taken, for loading runs code"
            )
        if key != wanted and key not in ignored:
            raise InvalidInput(f"unknown parameter '{key[:80]}' of {request.DESCRIPTOR.name}")
    return request.parameters[wanted].string_param if wanted in request.parameters else ""
