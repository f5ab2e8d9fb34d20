"""The probe, the reference and the fingerprint find a machine or a forward pass that is wrong."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor
from torch.nn import functional

from paceline.engine.interfaces import StartedEngine
from paceline.engine.torch import attention as attention_module
from paceline.engine.torch import fused, linear, loading, row_pieces, startup
from paceline.engine.torch.attention import SpanRows
from paceline.engine.torch.exactness import operators
from paceline.engine.torch.exactness.fingerprint import forward_config
from paceline.engine.torch.exactness.instruction_set import onednn_level
from paceline.engine.torch.kv_cache import LayerCache, SessionCache
from paceline.engine.torch.layer_operators import TorchOperators
from paceline.engine.torch.native import attention as native_attention
from paceline.engine.torch.native.attention import NativeAttention
from paceline.engine.torch.native.library import ATTENTION, OPERATORS, library
from paceline.engine.torch.native.operators import NativeOperators
from paceline.engine.torch.padding import batch_invariant as padding_of
from paceline.engine.torch.query_limit import most_queries
from paceline.engine.torch.startup import start_torch
from paceline.errors import FailedPrecondition
from paceline.protocol.features import BRANCHES
from target_server.settings import TargetSettings
from tests.tiny_models import CONFIGS, tiny_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[str, str], Path] = {}

    def make(family: str = "llama", dtype: str = "bfloat16") -> Path:
        if (family, dtype) not in made:
            folder = tmp_path_factory.mktemp(family)
            made[family, dtype] = tiny_model(folder, family, dtype=dtype)
        return made[family, dtype]

    return make


@pytest.fixture
def nothing_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found of real operators does not hold for those of a test."""
    monkeypatch.setattr(operators, "_FOUND", {})
    monkeypatch.setattr(operators, "_SAME", {})


def start(folder: Path, dtype: str = "bfloat16", **settings: Any) -> StartedEngine:
    threads = torch.get_num_threads()
    small = {"max_batched_tokens": 64, "threads": 1, **settings}  # as quick as can be
    try:
        started = start_torch(
            TargetSettings(model=str(folder), dtype=dtype, **small), CollectorRegistry()
        )
    finally:
        torch.set_num_threads(threads)
    started.engine.stop()
    return started


def fingerprint(folder: Path, dtype: str = "bfloat16", **settings: Any) -> str:
    return start(folder, dtype, **settings).model.fingerprint


def off_from(rows: int, function: Callable[..., Tensor], at: int) -> Callable[..., Tensor]:
    """`function`, a bit off for operands of `rows` rows and more, as another kernel is."""

    def other(*args: Any, **kwargs: Any) -> Tensor:
        y = function(*args, **kwargs)
        factor = 1.01 if y.dtype == torch.bfloat16 else 1 + 1e-6
        return y * factor if args[0].shape[at] >= rows else y

    return other


@pytest.mark.usefixtures("nothing_is_known_yet")
@pytest.mark.parametrize(
    ("above", "family", "dtype"), [(32, "llama", "bfloat16"), (48, "gemma3", "float32")]
)
def test_where_many_rows_are_other_rows_linears_run_in_pieces(
    above: int,
    family: str,
    dtype: str,
    folders: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with AMX: batch-invariant all the same, and the fingerprint says which counts agree."""
    plain = fingerprint(folders(family, dtype), dtype)
    monkeypatch.setattr(operators, "_FOUND", {})
    if linear._APPLY is not None:
        monkeypatch.setattr(linear, "_APPLY", off_from(above + 1, linear._APPLY, 0))
    dense = off_from(above + 1, functional.linear, 0)
    monkeypatch.setattr(operators, "functional", SimpleNamespace(linear=dense))
    monkeypatch.setattr(linear, "functional", SimpleNamespace(linear=dense))
    started = start(folders(family, dtype), dtype)
    assert started.model.batch_invariant
    assert started.model.fingerprint != plain


@pytest.mark.usefixtures("nothing_is_known_yet")
def test_a_linear_layer_that_looks_at_where_a_row_lies_is_refused(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_place(x: Tensor, *rest: Any) -> Tensor:
        return functional.linear(x, *rest) * (1 + torch.arange(x.shape[0])[:, None] % 2 * 1e-6)

    monkeypatch.setattr(linear.DenseLinear, "__call__", lambda self, x: by_place(x, self._weight))
    with pytest.raises(FailedPrecondition, match=r"llama.*DenseLinear 64 .*--allow-inexact"):
        start(folders(dtype="float32"), "float32")


@pytest.mark.usefixtures("in_torch")
def test_attention_that_looks_at_the_count_of_queries_sees_few(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", off_from(64, whole, 2))
    most_queries.cache_clear()
    try:
        assert start(folders()).model.batch_invariant
    finally:
        most_queries.cache_clear()


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between products torch does all."""
    monkeypatch.setattr(loading, "native_operators", lambda *_, **__: None)


def attention_off(keys: int) -> Callable[..., Tensor]:
    """Attention that is off beyond so many keys for single rows."""
    whole = functional.scaled_dot_product_attention

    def other(query: Tensor, key: Tensor, *rest: Any, **named: Any) -> Tensor:
        y: Tensor = whole(query, key, *rest, **named)
        return y * 1.05 if key.shape[2] > keys and query.shape[2] <= 8 else y

    return other


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("keys", [0, 512])
def test_attention_that_is_off_for_few_rows_is_refused(
    keys: int, folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that begins with the second page of KV."""
    monkeypatch.setattr(attention_module, "most_queries", lambda *_: 4096)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention_off(keys))
    with pytest.raises(FailedPrecondition, match=r"beside other sessions|copied prefix"):
        start(folders())


@pytest.mark.usefixtures("in_torch")
def test_a_function_that_looks_at_its_whole_tensor_is_refused(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    silu = functional.silu
    monkeypatch.setattr(operators, "same_everywhere", lambda *_: True)
    monkeypatch.setattr(functional, "silu", off_from(20, silu, 0))
    with pytest.raises(FailedPrecondition, match="beside other sessions"):
        start(folders())


@pytest.mark.usefixtures("in_torch")
@pytest.mark.usefixtures("nothing_is_known_yet")
def test_such_a_function_runs_by_rows(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    silu = functional.silu

    def by_place(x: Tensor) -> Tensor:
        return silu(x) * (1.0 if x.numel() % 64 == 0 and x.is_contiguous() else 1.01)

    monkeypatch.setattr(functional, "silu", by_place)
    assert start(folders()).model.batch_invariant


def test_a_copy_that_is_not_the_prefix_is_refused(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "paceline.engine.torch.kv_cache._head",
        lambda buffer, length: None if buffer is None else buffer * 1.01,
    )
    with pytest.raises(FailedPrecondition, match="behind a copied prefix"):
        start(folders())


@pytest.mark.usefixtures("in_torch")
def test_what_is_refused_is_served_when_asked_for(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "most_queries", lambda *_: 4096)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention_off(0))
    assert not start(folders(), allow_inexact=True).model.batch_invariant


needs_native = pytest.mark.skipif(library(ATTENTION) is None, reason="nothing is compiled here")


@pytest.fixture
def attends_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU for which oneDNN packs no bf16."""
    monkeypatch.setattr(linear, "_packs", lambda: False)


@needs_native
@pytest.mark.usefixtures("attends_in_c")
def test_attention_in_c_that_is_off_for_few_rows_is_refused(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = NativeAttention.__call__

    def other(self: NativeAttention, index: int, query: Tensor, *rest: Any) -> Tensor:
        y: Tensor = attend(self, index, query, *rest)
        return y * 1.05 if query.shape[0] <= 8 else y

    monkeypatch.setattr(NativeAttention, "__call__", other)
    with pytest.raises(FailedPrecondition, match="alone in steps of a few rows"):
        start(folders())


@needs_native
@pytest.mark.usefixtures("attends_in_c")
@pytest.mark.parametrize("keeps", [False, True])
def test_branches_in_c_that_are_kept_are_not_named(
    keeps: bool, folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = native_attention._piece

    def other(rows: SpanRows, kept: Any, **_: bool) -> Any:
        return piece(rows, kept, keeps=True)

    if keeps:
        monkeypatch.setattr(native_attention, "_piece", other)
    model = start(folders()).model
    assert model.batch_invariant
    assert (BRANCHES in model.features) == (not keeps)


def from_the_first_fork(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SpanRows, "in_turn", property(lambda self: (self, *self.branches)))


def nothing_put_back(patch: pytest.MonkeyPatch) -> None:
    def note(span: SpanRows, layer: LayerCache, key: Tensor, value: Tensor) -> None:
        for one in span.branches:
            at = slice(one.start, one.stop)
            layer.branches.append((one.position, key[:, at], value[:, at]))

    patch.setattr(attention_module, "_put_back", note)


def nothing_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionCache, "take_branch", lambda *_: None)


@pytest.mark.usefixtures("in_torch")
@pytest.mark.parametrize("fault", [None, from_the_first_fork, nothing_put_back, nothing_taken])
def test_branches_are_named_where_their_rows_have_the_same_bits(
    fault: Callable[[pytest.MonkeyPatch], None] | None,
    folders: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target starts, and is exact, all the same."""
    if fault is not None:
        fault(monkeypatch)
    with structlog.testing.capture_logs() as lines:
        model = start(folders()).model
    assert model.batch_invariant
    assert (BRANCHES in model.features) == (fault is None)
    said = [line for line in lines if line["event"] == "branches are not taken"]
    assert len(said) == (fault is not None)


Operators = type[TorchOperators]


def no_rotation(operators: Operators, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "rotate", lambda _self, heads, _cos, _sin: heads)


def another_scale(operators: Operators, patch: pytest.MonkeyPatch) -> None:
    attend: Any = operators.attend
    patch.setattr(operators, "attend", lambda own, at, q, *rest: attend(own, at, 3 * q, *rest))


def no_norm(operators: Operators, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "normalize", lambda _self, x, weight: x * weight)


def a_window(_: Operators, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fused, "_window", lambda config, attention: 8)


def no_mask(operators: Operators, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "attend", TorchOperators.attend)  # that in C has no masks to leave out
    patch.setattr(SpanRows, "mask", lambda *_: None)


WRONG = (no_rotation, another_scale, no_norm, a_window, no_mask)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("fault", WRONG)
def test_a_decoder_that_computes_another_model_is_refused(
    fault: Callable[[Operators, pytest.MonkeyPatch], None],
    dtype: str,
    folders: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operators = NativeOperators if dtype == "bfloat16" and library(OPERATORS) else TorchOperators
    fault(operators, monkeypatch)
    with pytest.raises(FailedPrecondition, match="'llama' is not computed right here"):
        start(folders(dtype=dtype), dtype)


def test_a_window_that_is_left_out_is_seen(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_window", lambda config, attention: None)
    with pytest.raises(FailedPrecondition, match="'mistral' is not computed right here"):
        start(folders("mistral", "float64"), "float64")


def test_equal_things_have_equal_fingerprints(folders: Callable[..., Path]) -> None:
    folder = folders()
    assert fingerprint(folder) == fingerprint(folder, max_batched_tokens=128)


CONFIG = CONFIGS["mistral"][0](sliding_window=24).to_dict()


@pytest.mark.parametrize(
    "changed",
    [
        {"sliding_window": 32},
        {"rms_norm_eps": 1e-5 * 1.1},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1.0}},
        {"layer_types": ["sliding_attention"]},
        {"logit_scale": 0.5},
        {"hidden_act": "gelu"},
        {"text_config": {"query_pre_attn_scalar": 8}},
    ],
)
def test_what_the_forward_pass_reads_is_in_the_fingerprint(changed: dict[str, Any]) -> None:
    assert forward_config({**CONFIG, **changed}) != forward_config(CONFIG)


@pytest.mark.parametrize(
    "changed",
    [
        {"_name_or_path": "/elsewhere"},
        {"transformers_version": "9.9"},
        {"architectures": None},
        {"eos_token_id": [1, 2]},
        {"attention_dropout": 0.5},
        {"use_cache": False},
        dict(reversed(CONFIG.items())),
    ],
)
def test_what_it_does_not_read_is_not(changed: dict[str, Any]) -> None:
    assert forward_config({**changed, **{k: v for k, v in CONFIG.items() if k not in changed}}) == (
        forward_config(CONFIG)
    )


def test_windows_of_two_sizes_are_two_models(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "mistral", dtype="bfloat16")
    plain = fingerprint(folder)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"sliding_window": 24', '"sliding_window": 600'))
    assert fingerprint(folder) != plain


SETTINGS: list[dict[str, Any]] = [{"weights": "int8"}, {"weights": "int4"}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_weights_are_in_the_fingerprint(
    settings: dict[str, Any], folders: Callable[..., Path]
) -> None:
    quantized = start(folders(), **settings).model
    assert quantized.batch_invariant
    assert quantized.fingerprint != fingerprint(folders())


def change_instructions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(startup, "instruction_set", lambda: "AVX512_CORE_AMX")


def change_padding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        startup,
        "batch_invariant",
        lambda *a: dataclasses.replace(padding_of(*a), min_rows=8),
    )


def change_decoder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fused, "ARCHITECTURES", set[str]())


def change_classes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operators, "_FOUND", {})
    patch.setattr(operators, "find_pieces", lambda *_: row_pieces.RowPieces(2, 4, 32))


def change_threads(patch: pytest.MonkeyPatch) -> None:
    original = operators.BatchInvariantOperators._note_bits

    def note(self: operators.BatchInvariantOperators, *args: Any) -> None:
        original(self, *args)
        self._by_threads = True

    patch.setattr(operators.BatchInvariantOperators, "_note_bits", note)


@pytest.mark.parametrize(
    "change",
    [change_instructions, change_padding, change_decoder, change_classes, change_threads],
)
def test_what_decides_the_bits_is_in_the_fingerprint(
    change: Callable[[pytest.MonkeyPatch], None],
    folders: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = fingerprint(folders())
    change(monkeypatch)
    assert fingerprint(folders()) != plain


AVX512 = dict.fromkeys(
    ("avx", "avx2", "sse4_1", "avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_vnni"),
    True,
)
AMX = {**AVX512, **dict.fromkeys(("avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"), True)}


@pytest.mark.parametrize(
    ("flags", "environment", "level"),
    [
        (AMX, {}, "AVX512_CORE_AMX"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "avx512_core_bf16"}, "AVX512_CORE_BF16"),
        (AMX, {"DNNL_MAX_CPU_ISA": "AVX2"}, "AVX2"),
        (AMX, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "AVX512_CORE_AMX"),
        (AVX512, {}, "AVX512_CORE_VNNI"),
        # A limit above what there is changes nothing.
        (AVX512, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "AVX512_CORE_VNNI"),
        ({}, {}, "generic"),
    ],
)
def test_the_instruction_set_is_what_the_cpu_has_and_the_environment_leaves(
    flags: dict[str, bool], environment: dict[str, str], level: str
) -> None:
    assert onednn_level({"architecture": "x86_64", **flags}, environment) == level
