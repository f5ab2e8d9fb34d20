"""Hypothesis strategies that several tests share."""

from hypothesis import strategies as st

from paceline.protocol.sampling import SamplingParams


def sampling_params(vocabulary: int) -> st.SearchStrategy[SamplingParams]:
    """Every parameter, neutral ones often."""
    return st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
        top_k=st.sampled_from([0, 0, 1, 3, vocabulary + 5]),
        top_p=st.sampled_from([1.0, 1.0, 0.01, 0.5, 0.95]),
        min_p=st.sampled_from([0.0, 0.0, 0.05, 0.5, 1.0]),
        repetition_penalty=st.sampled_from([1.0, 1.0, 0.8, 1.3]),
        presence_penalty=st.sampled_from([0.0, 0.0, -1.0, 1.5]),
        frequency_penalty=st.sampled_from([0.0, 0.0, -0.5, 0.7]),
        logit_bias=st.dictionaries(
            st.integers(0, vocabulary - 1), st.floats(-5.0, 5.0), max_size=2
        ),
        min_tokens=st.sampled_from([0, 0, 3]),
    )
