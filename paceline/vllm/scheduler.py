"""vLLM's own scheduler, with draft tokens of a draft server in its requests."""

import os
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler as VllmScheduler

from paceline.addresses import checked
from paceline.engine.vllm.version import check_version
from paceline.errors import InvalidArgument
from paceline.vllm.remote_drafts import RemoteDrafts

DRAFT, WAIT = "PACELINE_VLLM_DRAFT", "PACELINE_VLLM_WAIT_MS"
"""Environment: the draft server's address, and how many milliseconds a step waits for drafts."""
MOST_WAIT_MS = 1000.0


class DraftingScheduler(VllmScheduler):  # type: ignore[misc]  # vLLM ships no types
    """Before a step, requests that decode get what their draft has; afterwards it is told.

    What is drafted changes no greedy token, nor the distribution of others: vLLM verifies it.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        """As vLLM's. InvalidArgument where the environment or --speculative-config is wrong."""
        super().__init__(*args, **named)
        check_version()
        config = self.vllm_config.speculative_config
        if config is None or config.method != "custom_class":
            limit = 'of method "custom_class" with model "paceline.vllm.NoDrafts"'
            raise InvalidArgument.of("--speculative-config", config and config.method, limit)
        address = checked(os.environ.get(DRAFT, ""), DRAFT)
        self._wait_seconds = _wait_seconds(os.environ.get(WAIT, "0"))
        size = self.vllm_config.model_config.get_vocab_size()
        self._drafts = RemoteDrafts(address, size, config.num_speculative_tokens)

    def add_request(self, request: Any) -> None:
        """One more; its draft begins to read."""
        super().add_request(request)
        params = request.sampling_params
        if params is not None and request.prompt_token_ids is not None:
            stop = frozenset(params.all_stop_token_ids)
            self._drafts.begin(
                request.request_id, request.prompt_token_ids, request.max_tokens, stop
            )

    def schedule(self, *args: Any, **named: Any) -> Any:
        """As vLLM's, with drafts."""
        decoding = [
            one for one in self.running if not one.is_prefill_chunk and one.output_token_ids
        ]
        if self._wait_seconds and decoding:
            wanted = [(one.request_id, one.num_tokens) for one in decoding]
            self._drafts.wait(wanted, self._wait_seconds)
        for request in decoding:
            drafts = self._drafts.take(request.request_id, request.num_tokens)
            room = self.max_model_len - request.num_tokens - 1
            request.spec_token_ids = drafts[: max(0, room)]
        return super().schedule(*args, **named)

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """As vLLM's; drafts are told what was decided."""
        before = {
            name: self.requests[name].num_tokens
            for name in scheduler_output.num_scheduled_tokens
            if name in self.requests
        }
        known = {name: self.requests[name] for name in before}
        result = super().update_from_output(scheduler_output, model_runner_output)
        for name, length in before.items():
            if new := list(known[name].all_token_ids[length:]):
                self._drafts.commit(name, new)
        self._drafts.keep(self.requests)
        return result

    def finish_requests(self, request_ids: Any, *args: Any, **named: Any) -> Any:
        """As vLLM's; their drafts end."""
        result = super().finish_requests(request_ids, *args, **named)
        self._drafts.keep(self.requests)
        return result

    def shutdown(self) -> None:
        """As vLLM's."""
        self._drafts.stop()
        super().shutdown()


def _wait_seconds(value: str) -> float:
    limit = f"a number of milliseconds from 0 to {MOST_WAIT_MS:g}"
    try:
        milliseconds = float(value)
    except ValueError as error:
        raise InvalidArgument.of(WAIT, value, limit) from error
    if not 0 <= milliseconds <= MOST_WAIT_MS:
        raise InvalidArgument.of(WAIT, value, limit)
    return milliseconds / 1e3
