"""What real servers promise on our own engine, promised by a target on vLLM: the same tests.

Tokens are compared by equality: random models have no two tokens that are nearly as good. Left out
are the few tests that need an output to end by itself: this tiny model goes on where ours stops.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.contract import (
    test_exactness,
    test_extreme_parameters,
    test_long_proposals,
    test_structured_combined,
    test_structured_output,
)
from tests.contract.test_exactness import (  # noqa: F401
    draft_folders,
    pair,
    target_folder,
    test_a_client_that_leaves_frees_its_sessions,
    test_a_draft_with_another_vocabulary_is_benched_and_harms_nobody,
    test_a_prompt_longer_than_a_step_is_cut_and_stalls_nobody,
    test_a_stream_resumes_at_every_token_as_if_nothing_had_been,
    test_branches_change_no_token,
    test_eight_streams_at_once_are_each_as_alone,
    test_lookup_changes_no_token_and_is_never_waited_for_in_vain,
    test_speculation_changes_no_token,
)
from tests.contract.test_extreme_parameters import (  # noqa: F401
    folder,
    test_every_parameter_that_is_let_through_gives_an_output,
)
from tests.contract.test_long_proposals import (  # noqa: F401
    test_as_many_rows_as_a_step_leaves_to_blocks_are_verified,
)
from tests.contract.test_structured_combined import (  # noqa: F401
    client,
    test_a_stop_string_ends_the_output_before_it_is_whole,
    test_logprobs_are_the_same_and_the_models_own,
)
from tests.contract.test_structured_output import (  # noqa: F401
    Running,
    folders,
    running,
    test_choices_and_a_resumed_stream_are_held_to_it,
)
from tests.vllm.targets import Targets, tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MODULES = (
    test_exactness,
    test_extreme_parameters,
    test_long_proposals,
    test_structured_combined,
    test_structured_output,
)


@pytest.fixture(scope="module", autouse=True)
def on_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All targets of these tests, and models with heads that vLLM takes."""
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    # Sockets have short names.
    targets = Targets(Path(tmp_path_factory.mktemp("t")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "target", targets.target)
        for module in MODULES:
            patch.setattr(module, "tiny_model", tiny_model)
        yield
    targets.close()


async def test_outputs_are_valid_whole_and_the_same_with_and_without_speculation(
    running: Running,  # noqa: F811
) -> None:
    """Sampled; greedily the model does not end."""
    tested = test_structured_output
    await tested.test_outputs_are_valid_whole_and_the_same_with_and_without_speculation(
        running, 1.0
    )
