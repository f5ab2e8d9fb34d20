"""Settings from environment variables: which are meant, and which are misspelt."""

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydantic_settings import BaseSettings, EnvSettingsSource

PREFIX = "PACELINE_"
ROLES = ("PACELINE_ORCHESTRATOR_", "PACELINE_TARGET_", "PACELINE_DRAFT_")
"""How the variables of each kind of server begin."""
OTHERS = (
    "PACELINE_HOME",
    *("PACELINE_TOKEN", "PACELINE_CA", "PACELINE_CERTIFICATE", "PACELINE_KEY"),
    *("PACELINE_VLLM_DRAFT", "PACELINE_VLLM_WAIT_MS", "PACELINE_PUBLISH"),
)
"""Variables that are no setting of a server."""
_SERVICE_LINK = re.compile(r"[a-z]+://\S+:\d+")
"""What Kubernetes, and Docker before it, put into NAME_PORT for a service called name."""
_LINK_NAME = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)
"""How they name what else they say of it."""


class Environment(EnvSettingsSource):
    """The environment without service links: PACELINE_TARGET_PORT=tcp://10.0.0.1:7071 is no port.

    They are there where a service has a server's name, as paceline-target.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {
            name: value for name, value in self.env_vars.items() if not _is_link(name, value or "")
        }


def _is_link(name: str, value: str) -> bool:
    return name.lower().endswith("port") and _SERVICE_LINK.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable with our prefix that nothing reads. nearest: what may be meant, or empty."""

    name: str
    nearest: str

    def __str__(self) -> str:
        """In a line."""
        meant = f"; {self.nearest} may be meant" if self.nearest else ""
        return f"the environment has {self.name}, which is no setting{meant}"


def variables(*kinds: type[BaseSettings]) -> list[str]:
    """Those that these settings are read from."""
    return [
        f"{kind.model_config.get('env_prefix', '')}{name}".upper()
        for kind in kinds
        for name in kind.model_fields
    ]


def unknown_variables(
    known: Collection[str], environment: Mapping[str, str] = os.environ
) -> Iterator[UnknownVariable]:
    """Those with our prefix that are not known, by name.

    Variables of a role of which none is known are another server's, which looks itself.
    """
    roles = [role for role in ROLES if not any(name.startswith(role) for name in known)]
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in {*known, *OTHERS}:
            continue
        linked = _LINK_NAME.fullmatch(upper) or _is_link(name, environment[name])
        if linked or upper.startswith(tuple(roles)):
            continue
        ends = [one.removeprefix(PREFIX) for one in (*known, *OTHERS)]
        nearest = difflib.get_close_matches(upper.removeprefix(PREFIX), ends, 1, 0.7)
        yield UnknownVariable(name, f"{PREFIX}{nearest[0]}" if nearest else "")
