"""What the servicer says of its models, whatever the words of their errors."""

from __future__ import annotations

from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.rpc.context import Identity
from stagemesh.settings import ServiceSettings
from stagemesh.stage.house import House
from stagemesh.stage.lifecycle import Lifecycle
from stagemesh.stage.model_table import ModelTable
from stagemesh.stage.route import Router
from stagemesh.stage.servicer import StageServicer
from stagemesh.telemetry import Metrics
from tests.stage.test_lifecycle import Maker


async def test_the_index_holds_a_reason_that_can_not_be_encoded() -> None:
    table = ModelTable()
    table.refuse("m", "1", "no file 'a\udcff'")
    lifecycle = Lifecycle(House(ServiceSettings(), table, Router({}), {}, Metrics("stage")), Maker())
    servicer = StageServicer(Identity("stage", "here"), lifecycle, lambda: True)
    (model,) = (await servicer.repository_index(pb.RepositoryIndexRequest())).models
    assert model.reason == "no file 'a?'"
    await lifecycle.close()
