"""The route /v1/embeddings: vectors of texts by the sentence encoder by which memories are searched."""

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from memspan.data.plain_text import plain_ids
from memspan.serve.replies import ApiError
from memspan.serve.requests import Strict
from memspan.serve.service import Owner, ServiceOf

router = APIRouter()
MOST_TEXTS = 2048


class EmbeddingRequest(Strict):
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None


@router.post("/v1/embeddings")
async def embed(body: EmbeddingRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """A vector of length one for each text; the model is the encoder's name, or the language model's."""
    lm, encoder = service.lm, service.lm.vectors.encoder
    if encoder is None:
        raise ApiError(400, "This server has no sentence encoder: start it with --encoder.", param="model")
    name = encoder.name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if body.model not in (name, encoder.name, service.model):
        raise ApiError(404, f"There is no model {body.model[:200]!r}.", code="model_not_found", param="model")
    if body.dimensions is not None and body.dimensions != encoder.size:
        raise ApiError(400, f"dimensions must be {encoder.size}, got {body.dimensions}.", param="dimensions")
    texts = [body.input] if isinstance(body.input, str) else body.input
    if any(not text.strip() for text in texts):
        raise ApiError(400, "A text must not be empty.", param="input")
    service.rates.require_tokens(owner)
    vectors = await service.engine.call(owner, lambda: encoder.passages(texts))
    tokens = sum(len(plain_ids(lm.tokenizer, text)) for text in texts)
    service.rates.charge(owner, tokens)
    data: list[dict[str, Any]] = []
    for index, vector in enumerate(vectors):
        numbers: Any = vector.tolist()
        if body.encoding_format == "base64":
            numbers = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": body.model, "data": data, "usage": usage}
