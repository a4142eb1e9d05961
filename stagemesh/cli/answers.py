"""An inference answer, for people and for machines."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.text import Text

from stagemesh.cli import console
from stagemesh.cli.findings import Findings, findings
from stagemesh.client import InferResult
from stagemesh.client.answers import text_of
from stagemesh.errors import Origin, StagemeshError

_SHOWN_VALUES = 8
_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one file; `seconds` is the round trip as this side saw it, `picture` what was drawn of it."""

    path: Path
    seconds: float
    outcome: InferResult | StagemeshError | OSError
    picture: Path | None = None

    @property
    def ok(self) -> bool:
        return isinstance(self.outcome, InferResult)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of a classification."""

    rank: int
    label: str
    class_id: int
    probability: float


def ranking(result: InferResult) -> list[Ranked] | None:
    """The classes of the first image, best first; None where the answer is no classification."""
    if not {"labels", "scores", "class_ids"} <= result.keys() or "boxes" in result:
        return None
    rows = zip(result["labels"][0], result["class_ids"][0], result["scores"][0], strict=True)
    return [
        Ranked(rank, text_of(label), int(class_id), float(score))
        for rank, (label, class_id, score) in enumerate(rows, start=1)
    ]


def to_json(answer: Answer) -> dict[str, object]:
    """One JSON line: `file` and `ok`, then the result or the `error`."""
    head = {"file": str(answer.path), "ok": answer.ok, "time_ms": round(answer.seconds * 1e3, 2)}
    if not isinstance(answer.outcome, InferResult):
        return {**head, "error": _error(answer.outcome)}
    result = answer.outcome
    named: dict[str, object] = {
        "model": result.model_name,
        "version": result.model_version,
        "request_id": result.id,
    }
    if answer.picture:
        named["picture"] = str(answer.picture)
    if found := findings(result):
        return {**head, **named, found.noun: found.items}
    classes = ranking(result)
    if classes is None:
        return {**head, **named, "outputs": [_tensor(name, array) for name, array in result.items()]}
    labels = [
        {"rank": c.rank, "label": c.label, "class_id": c.class_id, "probability": round(c.probability, 6)}
        for c in classes
    ]
    return {**head, **named, "labels": labels}


def show(target: Console, path: Path, seconds: float, result: InferResult) -> None:
    """A table for one photo."""
    target.print(Text(f"{path}  {seconds * 1e3:.0f} ms, request {result.id}", style="bold"), soft_wrap=True)
    if found := findings(result):
        target.print(_found(target, found))
        return
    classes = ranking(result)
    target.print(_outputs(target, result) if classes is None else _classes(target, classes))


def _classes(target: Console, classes: list[Ranked]) -> RenderableType:
    bars = target.is_terminal
    rows = console.table(target, "rank", "label", "probability", *([""] if bars else []))
    for found in classes:
        bar = [Bar(1.0, 0.0, found.probability, width=_BAR_WIDTH, color="green")] if bars else []
        rows.add_row(str(found.rank), Text(found.label), f"{found.probability:.3f}", *bar)
    return rows


def _found(target: Console, found: Findings) -> RenderableType:
    if not found.items:
        return Text(f"no {found.noun}")
    rows = console.table(target, *found.items[0])
    for item in found.items:
        rows.add_row(*(Text(value if isinstance(value, str) else json.dumps(value)) for value in item.values()))
    return rows


def _outputs(target: Console, result: InferResult) -> RenderableType:
    rows = console.table(target, "output", "dtype", "shape", "values")
    for name, array in result.items():
        values = ", ".join(_shown(value) for value in array.ravel()[:_SHOWN_VALUES].tolist())
        more = ", …" if array.size > _SHOWN_VALUES else ""
        rows.add_row(Text(name), str(array.dtype), str(list(array.shape)), Text(values + more))
    return rows


def _shown(value: object) -> str:
    plain = _plain(value)
    return f"{plain:.6g}" if isinstance(plain, float) else repr(plain)


def _tensor(name: str, array: np.ndarray) -> dict[str, object]:
    values = [_plain(value) for value in array.ravel().tolist()]
    return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "values": values}


def _plain(value: object) -> object:
    """A value as JSON has it: text for bytes, null for NaN and infinities."""
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, bool | int):
        return value
    number = float(str(value))
    return number if math.isfinite(number) else None


def _error(error: StagemeshError | OSError) -> dict[str, str]:
    origin = getattr(error, "origin", None) or Origin()
    return {
        "status": getattr(error, "status", "") or getattr(error, "code", "UNREADABLE_FILE"),
        "reason": getattr(error, "reason", "UNREADABLE_FILE"),
        "message": str(error),
        "stage": origin.stage,
        "replica": origin.replica,
        "model": origin.model,
        "request_id": origin.request_id,
    }
