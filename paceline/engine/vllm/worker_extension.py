"""What vLLM's workers do beyond their own: they run our steps, and hand out logits.

vLLM makes its worker a subclass of WorkerExtension (the setting worker_extension_cls), in the
process of each rank. Its model runner computes logits and samples in two calls. Ours is the first
alone: what is sampled is decided by the decoders, and the next step says what the path has become.
"""

import itertools
from typing import Any

import torch
from vllm.distributed import get_pp_group, get_tp_group

from paceline.engine.interfaces import Rows, Span
from paceline.engine.torch.sampling.spans import picked_spans
from paceline.engine.vllm.step import Extension, WorkerStep

PATH = f"{__name__}.WorkerExtension"
"""As worker_extension_cls names it."""


class WorkerExtension:
    """Mixed into vLLM's worker of any device."""

    model_runner: Any

    @torch.inference_mode()
    def paceline_step(self, step: WorkerStep) -> list[Rows] | None:
        """Rows of each request, logits or picks; None on all ranks but one."""
        # Gives this thread its OpenMP threads: vLLM's attention on a CPU counts them before.
        torch.get_num_threads()
        runner = self.model_runner
        for extension in step.extensions:
            _extend(runner, extension)
        self.execute_model(step.output)  # type: ignore[attr-defined]
        state, runner.execute_model_state = runner.execute_model_state, None
        if state is None or not get_pp_group().is_last_rank or get_tp_group().rank_in_group:
            return None
        return _rows(state.logits, runner.input_batch.req_ids, step)

    def paceline_describe(self) -> dict[str, str]:
        """What decides the bits of this rank's rows, in words."""
        runner = self.model_runner
        backends = {group.backend.get_name() for groups in runner.attn_groups for group in groups}
        kind = torch.device(runner.device).type
        name = torch.cuda.get_device_name() if kind == "cuda" else ""
        return {"attention": "+".join(sorted(backends)), "device": kind, "machine": name}


def _extend(runner: Any, extension: Extension) -> None:
    """Make the path of a request that has been run what it is, from a position on."""
    state, position = runner.requests[extension.name], extension.position
    if position < state.num_prompt_tokens:
        state.prompt_token_ids = state.prompt_token_ids[:position]
        state.num_prompt_tokens = position
    output, start = state.output_token_ids, position - state.num_prompt_tokens
    del output[start:]
    # Drafts that were accepted stand in KV: what they were nobody reads.
    output.extend([0] * (start - len(output)))
    output.extend(extension.token_ids)
    batch = runner.input_batch
    row = batch.req_id_to_index.get(extension.name)
    if row is None:  # it comes into the batch with this step
        return
    end = position + len(extension.token_ids)
    batch.token_ids_cpu[row, position:end] = extension.token_ids
    batch.is_token_ids[row, position:end] = True
    batch.num_prompt_tokens[row] = state.num_prompt_tokens
    batch.num_tokens_no_spec[row] = end


def _rows(logits: torch.Tensor, names: list[str], step: WorkerStep) -> list[Rows]:
    """Rows by request, in the step's order; vLLM's are in the order of its batch."""
    drafts = step.output.scheduled_spec_decode_tokens
    ends = list(itertools.accumulate(1 + len(drafts.get(name, ())) for name in names))
    end_of = dict(zip(names, ends, strict=True))
    starts = [(end_of[one.name] - one.rows, end_of[one.name]) for one in step.wanted]
    at = [row for start, end in starts for row in range(start, end)]
    if at != list(range(len(logits))):
        logits = logits[torch.tensor(at, dtype=torch.long).to(logits.device)]
    return picked_spans(logits, [Span(0, (), one.rows, one.picks) for one in step.wanted])
