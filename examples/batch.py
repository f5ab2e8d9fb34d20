"""Ask several things at once, without async: the servers put them into one batch."""

import sys
from concurrent.futures import ThreadPoolExecutor

from paceline.client import SyncClient
from paceline.errors import PacelineError
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import Sampling

PROMPTS = ("The capital of France is", "The opposite of hot is", "Two plus two is")

with (
    SyncClient(sys.argv[1] if len(sys.argv) > 1 else "localhost:7070") as client,
    ThreadPoolExecutor() as pool,
):

    def ask(prompt: str) -> str:
        request = GenerateRequest(
            prompt,
            sampling=Sampling(temperature=0),
            max_tokens=12,
            stop=(".", "\n"),
            logprobs=1,
        )
        result = client.generate(request).result()
        sure = sum(token.logprobs.logprob for token in result.choices[0].tokens if token.logprobs)
        return f"{prompt}{result.text}   (logprob {sure:.2f})"

    try:
        for answer in pool.map(ask, PROMPTS):
            print(answer)
    except PacelineError as error:  # as simulated targets have no logprobs
        sys.exit(str(error))
