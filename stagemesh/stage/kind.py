"""What tells one stage from another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Meta(Enum):
    """What a stage does with `meta.*` inputs that its model does not take."""

    REFUSE = "refuse"
    PASS = "pass"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage: its name, whether requests merge into batches, and how it treats `meta.*`."""

    name: str
    merges: bool
    meta: Meta


PREPROCESS = StageKind("preprocess", merges=False, meta=Meta.REFUSE)
INFER = StageKind("infer", merges=True, meta=Meta.PASS)
POSTPROCESS = StageKind("postprocess", merges=False, meta=Meta.DROP)
