"""The servers of `paceline up` on this machine: planned, checked, started, told of."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from draft_server.drafters.registry import DRAFTERS, MODEL
from draft_server.settings import DraftSettings
from orchestrator.settings import NO_DRAFT, OrchestratorSettings
from paceline.addresses import ANY_IPV4, is_loopback, join
from paceline.client import Client
from paceline.environment import unknown_variables, variables
from paceline.errors import FailedPrecondition, InvalidArgument, PacelineError, Unavailable
from paceline_tools.cli.devices import check_device
from paceline_tools.cli.up_gateway import check_gateway
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_ports import PAGE, Ports, choose_ports, usual_ports
from paceline_tools.draft_watch import DraftWatch
from paceline_tools.local_plan import (
    PlannedDraft,
    PlannedTarget,
    labels,
    plan_drafts,
    plan_targets,
)
from paceline_tools.local_servers import Servers, answers, running
from paceline_tools.other_python import check_vllm_python, vllm_python
from paceline_tools.server_commands import draft_command, orchestrator_of, target_command
from paceline_tools.server_log import ServerLog
from paceline_tools.start_checks import (
    Mistakes,
    check_home,
    check_ports,
    check_serving,
    check_writable,
    without_text,
)
from paceline_tools.terminal import console
from target_server.settings import TargetSettings

IN_PLACE_OF_A_DRAFT = (*(name for name in DRAFTERS if name != MODEL), NO_DRAFT)
"""Words, of which one may be misspelt."""
ASK_SECONDS = 0.3
"""Whether drafts are used is asked this often, until it is known."""


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """The servers of one `up`, by how they are called on the screen. ports: once checked."""

    targets: dict[str, PlannedTarget]
    drafts: dict[str, PlannedDraft]
    ports: Ports = field(default_factory=lambda: Ports({}, ()))

    @classmethod
    def of(cls, up: UpOptions) -> "LocalPlan":
        """Raises InvalidArgument for flags that do not fit together."""
        targets = plan_targets(up.target, up.model_name)
        drafts = plan_drafts(up.draft, up.drafter, up.draft_weights) if up.draft_length else []
        names = labels("target", [one.served_as for one in targets])
        pools = labels("draft", [one.pool for one in drafts])
        return cls(dict(zip(names, targets, strict=True)), dict(zip(pools, drafts, strict=True)))

    @property
    def names(self) -> list[str]:
        """Of all servers, in the order of their ports."""
        return ["orchestrator", *self.targets, *self.drafts]

    @property
    def pools(self) -> dict[str, list[str]]:
        """Names of drafts by their pool."""
        pools: dict[str, list[str]] = {}
        for name, one in self.drafts.items():
            pools.setdefault(one.pool, []).append(name)
        return pools

    def check_one_model(self) -> None:
        """InvalidArgument where there are several: an orchestrator is of one to a gateway."""
        names = sorted({one.served_as for one in self.targets.values()})
        if len(names) > 1:
            raise InvalidArgument.of("--gateway", "given", f"left out with {len(names)} models")

    def serves(self, names: set[str]) -> bool:
        """Whether these can answer a client."""
        return "orchestrator" in names and bool(names & self.targets.keys())


def check(up: UpOptions) -> LocalPlan:
    """What is to be started; raises all that is wrong with it, before anything is."""
    plan, mistakes = LocalPlan({}, {}), Mistakes()
    with mistakes.noted():
        plan = LocalPlan.of(up)
    with mistakes.noted():
        check_home()
        _check_models(up, plan, mistakes)  # in a folder that is none no model is found
    if up.vllm is not None:
        with mistakes.noted():
            check_vllm_python("--vllm", vllm_python(up.vllm))
    for flag, device in (("--device", up.device), ("--draft-device", up.draft_device)):
        with mistakes.noted():
            check_device(flag, device or "cpu")
    with mistakes.noted():
        plan = replace(plan, ports=check_addresses(up, plan))
    mistakes.tell()
    return plan


def _check_models(up: UpOptions, plan: LocalPlan, mistakes: Mistakes) -> None:
    targets = [one.model for one in plan.targets.values()]
    drafts = [one.model for one in plan.drafts.values() if DRAFTERS[one.drafter].needs_model]
    for model in dict.fromkeys([*targets, *drafts]):
        with mistakes.noted():
            of_vllm = up.vllm is not None and model not in drafts
            others = () if model in targets else IN_PLACE_OF_A_DRAFT
            check_serving(model, others, any_weights=of_vllm)


def check_addresses(up: UpOptions, plan: LocalPlan) -> Ports:
    """Where all listen; raises what hinders them."""
    if up.gateway:
        check_gateway()
        plan.check_one_model()
    check_ports(up.host, {up.port: ""}, "--port")
    check_writable(Path(tempfile.gettempdir()), "sockets are put", "TMPDIR")
    usual = usual_ports(up.port, plan.names, page=up.page, gateway=up.gateway)
    return choose_ports(up.host, up.port, usual)


@contextlib.asynccontextmanager
async def up_running(
    up: UpOptions,
    log: ServerLog | None = None,
    *,
    drafts: bool = True,
    plan: LocalPlan | None = None,
) -> AsyncIterator[Servers]:
    """The servers, ready; stopped when the context is left. Raises as `check` and `running` do.

    drafts: ready is only what drafts too; raises Unavailable saying why one does not. plan: as
    checked.
    """
    plan, log = plan or check(up), log or ServerLog(console(stderr=True), "none")
    for unknown in unknown_variables(
        variables(OrchestratorSettings, TargetSettings, DraftSettings)
    ):
        log.say(f"{unknown}", style="yellow", level="warning")
    with tempfile.TemporaryDirectory(prefix="paceline-") as folder:
        commands = _commands(up, plan, Path(folder))
        log.addresses = {f"unix:{folder}/{at}": name for at, name in enumerate(plan.names)}

        async def ready() -> None:
            await answers(up.port, drafts=0, host=up.host)

        models = [one.model for one in plan.targets.values()]
        texts = (without_text(one, any_weights=up.vllm is not None) for one in models)
        for news in (plan.ports.news, *texts):
            if news:
                log.say(news, style="yellow")
        log.say(f"starting {', '.join(plan.names)}: models load, this may take minutes")
        pythons = dict.fromkeys(plan.targets, vllm_python(up.vllm)) if up.vllm else {}
        async with running(commands, ready, log, serves=plan.serves, pythons=pythons) as servers:
            if drafts:
                await _have_drafts(up, servers, plan)
            yield servers


async def tell_of_servers(up: UpOptions, servers: Servers, log: ServerLog) -> None:
    """Say of each draft once whether it is used, and why not; and of each server that it ended."""
    watch = DraftWatch(LocalPlan.of(up).pools)
    await asyncio.gather(
        _tell_of_drafts(up, servers, watch, log), _tell_of_endings(servers, watch, log)
    )


async def _tell_of_endings(servers: Servers, watch: DraftWatch, log: ServerLog) -> None:
    async for one in servers.endings():
        if not watch.tells_end_of(one.name):
            text = f"{one.ending}; the rest goes on, and nothing starts it again"
            log.say(text, style="yellow", level="warning")


async def _tell_of_drafts(
    up: UpOptions, servers: Servers, watch: DraftWatch, log: ServerLog
) -> None:
    async with Client(_address(up)) as client:
        await tell_of_text(client, log)
        while not watch.done:
            with contextlib.suppress(PacelineError):
                drafts = max((one.drafts for one in await client.models()), default=0)
                for news in watch.look(await client.status(), drafts, servers.ended):
                    style, level = ("", "info") if news.used else ("yellow", "warning")
                    log.say(news.text, style=style, level=level)
            await asyncio.sleep(ASK_SECONDS)


async def tell_of_text(client: Client, log: ServerLog) -> None:
    """Say of each model that has no text, or whose chat template is broken, what requests get."""
    with contextlib.suppress(PacelineError):
        for model in await client.models():
            if why := await _no_text(client, model.name):
                log.say(f"{model.name}: {why}", style="yellow", level="warning")


async def _no_text(client: Client, model: str) -> str:
    """Why it takes no prompt as text, or no conversation; a model that has no template is whole."""
    for prompt in ("text", [{"role": "user", "content": "text"}]):
        try:
            await client.tokenize(prompt, model)
        except FailedPrecondition as error:
            return str(error)
        except InvalidArgument:
            break
    return ""


async def _have_drafts(up: UpOptions, servers: Servers, plan: LocalPlan) -> None:
    """Wait until all drafts are used; raises Unavailable for one that is not."""
    watch = DraftWatch(plan.pools)
    dying = asyncio.create_task(servers.died())
    try:
        async with Client(_address(up)) as client:
            while not watch.done:
                drafts = max((one.drafts for one in await client.models()), default=0)
                for news in watch.look(await client.status(), drafts, servers.ended):
                    if not news.used:
                        raise Unavailable(news.text)
                await asyncio.wait({dying}, timeout=ASK_SECONDS)
                if dying.done():
                    await dying
    finally:
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)


def _address(up: UpOptions) -> str:
    return join("127.0.0.1" if up.host == ANY_IPV4 else up.host, up.port)


def _commands(up: UpOptions, plan: LocalPlan, folder: Path) -> dict[str, list[str]]:
    """Arguments of each server; drafts and targets listen on unix sockets."""
    numbers = [f"--threads={up.threads}", f"--dtype={up.dtype}", f"--kv-tokens={up.kv_tokens}"]
    at = {name: index for index, name in enumerate(plan.names)}
    commands = {}
    for name, target in plan.targets.items():
        named = [f"--model-name={target.served_as}"] if target.served_as else []
        engine = "--engine=vllm" if up.vllm else f"--device={up.device}"
        flags = [*numbers, engine, *named, *_common(up, plan, name)]
        commands[name] = target_command(target.model, folder / str(at[name]), flags)
    for name, draft in plan.drafts.items():
        device = f"--device={up.draft_device or up.device}"
        flags = [*numbers, device, f"--weights={draft.weights}", *_common(up, plan, name)]
        socket = folder / str(at[name])
        commands[name] = draft_command(draft.model, draft.drafter, socket, flags)
    targets = [f"unix:{folder / str(at[name])}" for name in plan.targets]
    drafts = [f"{one.pool}=unix:{folder / str(at[name])}" for name, one in plan.drafts.items()]
    branches = f"--max-branch-tokens={up.max_branch_tokens}"
    lengths = [f"--draft-length={up.draft_length}", *_max_length(up), branches]
    page = [f"--page-port={plan.ports.of[PAGE]}", f"--page-host={up.host}"] if up.page else []
    trusted = [] if is_loopback(up.host) else ["--plaintext"]  # asked for by --host
    commands["orchestrator"] = orchestrator_of(
        up.port, targets, drafts, [*lengths, *page, *trusted, *_common(up, plan, "orchestrator")]
    )
    return commands


def _max_length(up: UpOptions) -> list[str]:
    """Where it is given: the default is no limit to a longer --draft-length."""
    given = "max_draft_length" in up.model_fields_set
    return [f"--max-draft-length={up.max_draft_length}"] if given else []


def _common(up: UpOptions, plan: LocalPlan, name: str) -> list[str]:
    """Flags of every server."""
    return [
        f"--health-port={plan.ports.health(name)}",
        f"--metrics-port={plan.ports.metrics(name)}",
        f"--host={up.host}",
        "--drain-seconds=5",
        f"--log-level={up.log_level}",
        "--log-format=json",
    ]
