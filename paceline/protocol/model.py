"""What a server says of its model and its machine, as plain values."""

import hashlib
import json
import math
from dataclasses import dataclass, field

from paceline.protocol.sampling import Sampling

NO_KV_TOKENS = 2**31
"""Tokens of a page where there is no KV."""


@dataclass(frozen=True, slots=True)
class KVSize:
    """KV of a server, in pages of page_tokens: a session takes whole ones.

    reserve: of the pages, kept for streams that come from a lost server.
    """

    page_tokens: int
    pages: int
    reserve: int = 0

    @property
    def is_none(self) -> bool:
        """Whether it is that of a drafter without a model: a page there is any number of tokens."""
        return self.page_tokens >= NO_KV_TOKENS

    def pages_of(self, length: int) -> int:
        """Pages that so many tokens take."""
        return math.ceil(length / self.page_tokens)

    def pages_for(self, *, resumes: bool) -> int:
        """Pages there are for sessions that resume, or for new ones."""
        return self.pages if resumes else self.pages - self.reserve

    def most(self, *, resumes: bool) -> int:
        """Most tokens of prompt and output that one session can ever have."""
        return max(0, self.page_tokens * self.pages_for(resumes=resumes))


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores that a forward pass may use.

    boot_id: of the machine since it started, the same in all its containers; empty: unknown.
    cpus: their numbers there; none where a device of its own computes. limit: so many of them at
    a time, by the container's share of time. device: which one computes instead, by a name that is
    its own on that machine; empty: none, or it is not known.
    """

    boot_id: str
    cpus: tuple[int, ...]
    limit: float
    device: str = ""

    def contend(self, other: "Cores") -> bool:
        """Whether both may want the same ones at a time: on one machine, and more than it has.

        Two GPUs of a machine are two devices; two models on one GPU take turns on it.
        """
        if self.boot_id != other.boot_id:
            return False
        if self.device or other.device:
            return self.device == other.device
        if not set(self.cpus) & set(other.cpus):
            return False
        return self.limit + other.limit > len(set(self.cpus) | set(other.cpus))


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """Bytes that a model takes: its weights, their copies in 8 or 4 bits, each token's KV."""

    weight_bytes: int
    quantized_bytes: int
    kv_token_bytes: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and its numerics: paceline.v1.ModelInfo.

    kv, cores, memory: None where it was not said. default_sampling: as the model's own files have
    it.
    """

    name: str
    fingerprint: str
    vocabulary_hash: str
    vocabulary_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    sampler_version: int
    batch_invariant: bool
    host: str
    features: tuple[str, ...] = ()
    kv: KVSize | None = None
    cores: Cores | None = None
    tokenizer_hash: str = ""
    default_sampling: Sampling = field(default_factory=Sampling)
    memory: ModelMemory | None = None

    @property
    def named(self) -> tuple[str, str]:
        """What tells it from other models: its name, and its fingerprint."""
        return self.name, self.fingerprint

    def shares_cores(self, other: "ModelInfo") -> bool:
        """Whether its server and another one had better take turns.

        By the machine's name only where more is not known: containers of one machine have names
        of their own, and those of two machines may have the same.
        """
        if self.cores is None or other.cores is None:
            return self.host == other.host
        if self.cores.boot_id and other.cores.boot_id:
            return self.cores.contend(other.cores)
        computes = bool(self.cores.cpus and other.cores.cpus)
        same_device = self.cores.device != "" and self.cores.device == other.cores.device
        return (computes or same_device) and self.host == other.host


@dataclass(frozen=True, slots=True)
class Machine:
    """What a server process says of itself and its machine: paceline.v1.Machine.

    process: names the process; empty where its version knows of no such name.
    """

    version: str
    host: str
    cores: int
    threads: int
    memory_bytes: int
    memory_available_bytes: int
    unix_seconds: float
    process: str = ""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """A tokenizer as a server sends it.

    tokenizer_json: Hugging Face tokenizers' file. chat_template: Jinja, or empty.
    special_tokens: names the template may use, such as bos_token. named_templates: others
    than the default one, such as tool_use.
    """

    tokenizer_json: bytes
    chat_template: str
    special_tokens: dict[str, str]
    named_templates: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of all of it: files that differ in anything are others."""
        digest = hashlib.sha256(self.tokenizer_json)
        others = (self.chat_template, self.special_tokens, self.named_templates)
        digest.update(json.dumps(others, sort_keys=True).encode())
        return digest.hexdigest()[:16]
