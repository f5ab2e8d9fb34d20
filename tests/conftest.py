"""What all tests share."""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")
os.environ["TQDM_DISABLE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny models are quicker on one thread than on two that wait for each other."""
    torch.set_num_threads(1)
