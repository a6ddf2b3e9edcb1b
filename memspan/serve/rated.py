"""Routes of blind ratings: two answers are written, people choose, the results are read."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.models.generate import Sampling
from memspan.serve.library import Library
from memspan.serve.ratings import Pair, Ratings, as_json
from memspan.serve.service import LibraryOf, Owner, Service, ServiceOf
from memspan.serve.streams import LINES

router = APIRouter(prefix="/v1/ratings", tags=["ratings"])
MODEL = "model"  # the system that answers without a memory
OF_MEMORY = "memory/"  # before the name of a memory whose answers are compared


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPair(_Body):
    """A question that two systems answer: each "memory/NAME", or "model" for the model without a memory."""

    question: str = Field(min_length=1, max_length=4000)
    systems: Annotated[list[str], Field(min_length=2, max_length=2)]


class Rating(_Body):
    """What a person prefers: "left", "right" or "tie"."""

    rater: str = Field(min_length=1, max_length=64)
    choice: str


def _ratings(library: Library, owner: str) -> Ratings:
    return Ratings(library.folder_of("ratings") / f"{owner}.sqlite")


def _shown(pair: Pair | None) -> dict[str, Any]:
    return {"pair": None if pair is None else vars(pair)}


@router.post("/pairs")
async def write_pair(body: NewPair, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Let two systems answer a question, and keep the answers on sides drawn by chance."""
    if body.systems[0] == body.systems[1]:
        raise UsageError("The two systems must be different.")
    service.rates.require_tokens(owner)
    answers = []
    for system in body.systems:
        answers.append(
            (system, await service.engine.call(owner, partial(_answer, service, owner, system, body.question)))
        )
    pair = await run_in_threadpool(lambda: _ratings(service.library, owner).add(body.question, answers))
    return _shown(pair)


@router.get("/pairs/next")
async def next_pair(
    owner: Owner, library: LibraryOf, rater: Annotated[str, Query(min_length=1, max_length=64)]
) -> dict[str, Any]:
    """A pair that this person has not rated; null if there is none."""
    return _shown(await run_in_threadpool(lambda: _ratings(library, owner).next(rater)))


@router.post("/pairs/{pair}")
async def rate(pair: str, body: Rating, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Keep what a person prefers."""
    await run_in_threadpool(lambda: _ratings(library, owner).rate(pair, body.rater, body.choice))
    return {"pair": pair, "choice": body.choice}


@router.get("")
async def results(owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Win rates, and how far the people who rated agree."""
    return as_json(await run_in_threadpool(lambda: _ratings(library, owner).results()))


@router.get("/lines", response_class=Response, responses=LINES)
async def lines(owner: Owner, library: LibraryOf) -> Response:
    """All ratings as JSON Lines, with the systems."""
    text = await run_in_threadpool(lambda: "".join(_ratings(library, owner).lines()))
    return Response(text, media_type="application/jsonl")


def _answer(service: Service, owner: str, system: str, question: str) -> str:
    """What a system answers, without anything that tells which system it is."""
    if system == MODEL:
        answerer = service.answerer or service.lm.answerer
        sampling = Sampling(max_new_tokens=service.limits.new_tokens)
        text = _joined(answerer.answer([{"role": "user", "content": question}], sampling))
        service.rates.charge(owner, sum(len(plain_ids(service.lm.tokenizer, each)) for each in (question, text)))
        return text
    if not system.startswith(OF_MEMORY):
        raise UsageError(f'A system must be "{MODEL}" or "{OF_MEMORY}NAME", got {system!r}.')
    memory = service.library.open(owner, system.removeprefix(OF_MEMORY))
    answer = service.lm.ask(memory, question, answerer=service.answerer)
    service.rates.charge(owner, answer.prompt_tokens + answer.answer_tokens)
    return answer.text


def _joined(parts: Iterator[str]) -> str:
    return "".join(parts).strip()
