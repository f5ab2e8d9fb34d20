"""Hypothesis strategies that several tests share."""

from hypothesis import strategies as st

from paceline.protocol.sampling import SamplingParams


def allowed_ids(vocabulary: int) -> st.SearchStrategy[tuple[int, ...]]:
    """All, often; else some, which may be named twice."""
    ids = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=vocabulary)
    return st.just(()) | ids.map(tuple)


def bad_words(vocabulary: int) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Sequences of which many are about to come; they may leave nothing."""
    word = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=3).map(tuple)
    every = tuple((token,) for token in range(vocabulary))
    return st.lists(word, max_size=5).map(tuple) | st.just(every)


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
        allowed_token_ids=allowed_ids(vocabulary),
        bad_words_token_ids=bad_words(vocabulary),
    )
