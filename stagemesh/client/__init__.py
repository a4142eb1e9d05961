"""Clients of the mesh, or of any Open Inference Protocol server."""

from __future__ import annotations

from stagemesh.client.aio import AsyncClient
from stagemesh.client.answers import InferResult, ModelMetadata, ModelState, TensorInfo
from stagemesh.client.sync import Client

__all__ = ["AsyncClient", "Client", "InferResult", "ModelMetadata", "ModelState", "TensorInfo"]
