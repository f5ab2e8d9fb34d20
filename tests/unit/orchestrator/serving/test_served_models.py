"""Tokenizers of models: each fetched on its own, anew when its files are others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.serving.served_models import ServedModels
from paceline.errors import NotFound, PacelineError, Unavailable
from paceline.protocol.model import ModelInfo, TokenizerFiles

MODEL = ModelInfo("one", "print", "words", 100, 1000, (), 1, True, "here", tokenizer_hash="h")


@dataclass
class FakeReplica:
    model: ModelInfo
    hangs: asyncio.Event | None = None
    error: Exception | None = None
    asked: int = 0

    async def tokenizer_files(self) -> TokenizerFiles:
        self.asked += 1
        if self.hangs:
            await self.hangs.wait()
        if self.error:
            raise self.error
        raise NotFound("the model has none")


@dataclass
class FakePool:
    ready: list[FakeReplica] = field(default_factory=list)

    @property
    def all(self) -> list[FakeReplica]:
        return self.ready

    def pick(self, fits: Callable[[ModelInfo], bool], wanted: str) -> FakeReplica:
        for replica in self.ready:
            if fits(replica.model):
                return replica
        raise Unavailable(wanted)


def models_of(*replicas: FakeReplica) -> ServedModels:
    drafts = SimpleNamespace(ready=[], notice_models=lambda: None)
    return ServedModels(cast("Any", FakePool(list(replicas))), cast("Any", drafts))


async def test_a_target_that_hangs_stalls_no_other_model() -> None:
    hanging = FakeReplica(MODEL, hangs=asyncio.Event())
    other = FakeReplica(replace(MODEL, name="two", tokenizer_hash="other"))
    models = models_of(hanging, other)
    waiting = asyncio.create_task(models.pick("one"))
    model, _ = await models.pick("two")
    assert model.name == "two"
    assert not waiting.done()
    assert hanging.hangs is not None
    hanging.hangs.set()
    assert (await waiting)[0].name == "one"


async def test_another_target_is_asked_when_one_fails_and_all_that_ask_share_one_fetch() -> None:
    failing, well = FakeReplica(MODEL, error=Unavailable("gone")), FakeReplica(MODEL)
    models = models_of(failing, well)
    picks = [asyncio.create_task(models.pick("one")) for _ in range(3)]
    picks[0].cancel()
    await asyncio.gather(*picks[1:])
    assert (failing.asked, well.asked) == (1, 1)


async def test_a_silent_target_does_not_keep_the_tokenizer_of_others_away() -> None:
    silent, well = FakeReplica(MODEL, hangs=asyncio.Event()), FakeReplica(MODEL)
    models = models_of(silent, well)
    assert (await models.pick("one"))[0].name == "one"
    assert (silent.asked, well.asked) == (1, 1)
    with pytest.raises(NotFound, match="has none"):
        await models.tokenizer_files("one")


async def test_other_files_are_fetched_anew() -> None:
    replica = FakeReplica(MODEL)
    models = models_of(replica)
    before = (await models.pick("one"))[1]
    assert (await models.pick("one"))[1] is before
    replica.model = replace(MODEL, tokenizer_hash="corrected")
    assert (await models.pick("one"))[1] is not before


@pytest.mark.parametrize("error", [ZeroDivisionError(), Unavailable("gone")])
async def test_what_goes_wrong_with_one_tokenizer_ends_no_watch(error: Exception) -> None:
    bad = FakeReplica(MODEL, error=error)
    good = FakeReplica(replace(MODEL, name="two", tokenizer_hash="other"))
    models = models_of(bad, good)
    watch = asyncio.create_task(models.prepare())
    while not (bad.asked and good.asked):
        await asyncio.sleep(0)
    with pytest.raises(PacelineError):
        await models.pick("one")
    assert (await models.pick("two"))[0].name == "two"
    assert not watch.done()
    watch.cancel()
