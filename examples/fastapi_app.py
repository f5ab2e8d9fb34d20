"""A web program: POST /generate streams an answer. Serves many requests at once.

pip install fastapi uvicorn, then: uvicorn fastapi_app:app, with PACELINE_ADDRESS set where the
orchestrator is not at localhost:7070.
"""

import math
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from paceline import errors
from paceline.client import Client

client = Client(os.environ.get("PACELINE_ADDRESS", "localhost:7070"), timeout=120)
app = FastAPI()

STATUS = {
    errors.InvalidArgument: 400,
    errors.FailedPrecondition: 400,
    errors.NotFound: 404,
    errors.Aborted: 409,
    errors.ResourceExhausted: 429,
    errors.Cancelled: 499,  # nginx's: who asked has gone
    errors.Unimplemented: 501,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
}
"""HTTP's word for each; the others are ours to mend, so 500."""


@app.exception_handler(errors.PacelineError)
async def refused(request: Request, error: errors.PacelineError) -> JSONResponse:
    """An error as its status, with when to come again where waiting helps."""
    after = getattr(error, "retry_after", None)
    headers = {} if after is None else {"Retry-After": str(max(1, math.ceil(after)))}
    status = next((STATUS[kind] for kind in type(error).mro() if kind in STATUS), 500)
    return JSONResponse({"detail": str(error)}, status, headers)


@app.post("/generate")
async def generate(body: dict[str, Any]) -> StreamingResponse:
    """As {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}."""
    generation = client.generate(
        body.get("messages"), max_tokens=body.get("max_tokens"), model=body.get("model", "")
    )
    deltas = aiter(generation)
    first = await anext(deltas, None)  # errors before it have a status of their own

    async def text() -> AsyncIterator[str]:
        async with generation:  # who goes away early ends the stream
            yield first.text if first is not None else ""
            async for delta in deltas:
                yield delta.text

    return StreamingResponse(text(), media_type="text/plain; charset=utf-8")
