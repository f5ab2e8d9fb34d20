"""A web program: POST /generate streams an answer. Serves many requests at once.

pip install fastapi uvicorn, then: uvicorn fastapi_app:app, with PACELINE_ADDRESS set where the
orchestrator is not at localhost:7070.
"""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from paceline.client import Client
from paceline.errors import InvalidArgument, PacelineError, ResourceExhausted
from paceline.protocol.generation import GenerateRequest

client = Client(os.environ.get("PACELINE_ADDRESS", "localhost:7070"), timeout=120)
app = FastAPI()


@app.post("/generate")
async def generate(body: dict[str, Any]) -> StreamingResponse:
    """As {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}."""
    try:
        request = GenerateRequest(body.get("messages", ()), max_tokens=body.get("max_tokens"))
        generation = client.generate(request)
        pieces = aiter(generation)
        first = await anext(pieces, None)  # errors before it have a status of their own
    except PacelineError as error:
        status = {InvalidArgument: 400, ResourceExhausted: 429}.get(type(error), 503)
        raise HTTPException(status, str(error)) from error

    async def text() -> AsyncIterator[str]:
        async with aclosing(pieces):  # who goes away early ends the stream
            yield first.text if first is not None else ""
            async for delta in pieces:
                yield delta.text

    return StreamingResponse(text(), media_type="text/plain; charset=utf-8")
