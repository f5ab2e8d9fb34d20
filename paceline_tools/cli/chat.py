"""paceline chat: a conversation in the terminal."""

import asyncio
import contextlib
import sys

from pydantic import Field
from rich.console import Console

from paceline.client import SyncClient
from paceline.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PacelineError,
    Unavailable,
    Unimplemented,
)
from paceline.protocol.generation import ChatMessage
from paceline.protocol.status import Role
from paceline_tools.cli.asked import answers_instead
from paceline_tools.cli.flags import Text
from paceline_tools.cli.request_options import RequestOptions
from paceline_tools.cli.show import Streamed, summary
from paceline_tools.lost import tell_lost
from paceline_tools.terminal import console, plain

HELP = "[dim]/reset forgets the conversation, /undo the last turn, /exit or Ctrl-D ends it[/]"


class Talk(RequestOptions):
    """Talk with the model; it remembers the conversation. Ctrl-C stops an answer."""

    system: Text = Field(
        "", description="What the model is told before the conversation. Unless given: nothing."
    )

    def cli_cmd(self) -> None:
        """Run the command."""
        if sys.stdin is None:
            raise InvalidArgument("standard input is closed; chat reads its turns from there")
        self.constraint()  # what is wrong with it is said before the first turn
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  line editing and history, where there is any
        output = console()
        with SyncClient(self.address, timeout=self.timeout, **self.access()) as client:
            output.print(plain(self._served(client), "bold"), HELP, highlight=False)
            Conversation(self, client, output).run()

    def _served(self, client: SyncClient) -> str:
        """Who is talked with; raises when nobody answers."""
        try:
            names = [model.name for model in client.models()]
        except PacelineError as error:
            if instead := asyncio.run(answers_instead(self.address, error)):
                raise FailedPrecondition(instead) from error
            raise
        if not names:
            why = _why_not_yet(client)
            raise Unavailable(f"the orchestrator at {self.address} has no target to talk with{why}")
        if self.model and self.model not in names:
            raise NotFound(f"--model is {self.model!r}; it must be one of {', '.join(names)}")
        return self.model or names[0]


def _why_not_yet(client: SyncClient) -> str:
    """What a target that is there still does; of an orchestrator that does not say, nothing."""
    with contextlib.suppress(Unimplemented):
        for one in client.status().of(Role.TARGET):
            if one.loading:
                return f" yet: one is {one.reason}"
    return ""


class Conversation:
    """Turns of a user and the model."""

    def __init__(self, asking: Talk, client: SyncClient, console: Console) -> None:
        """Begin with what the system says, if anything."""
        self._asking = asking
        self._client = client
        self._console = console
        self._beginning = [ChatMessage("system", asking.system)] if asking.system else []
        self.messages = list(self._beginning)

    def run(self) -> None:
        """Read turns until the input ends."""
        while True:
            try:
                text = self._console.input("[bold cyan]>[/] ").strip()
            except (EOFError, KeyboardInterrupt):
                self._console.print()
                return
            if text == "/exit":
                return
            if text.startswith("/"):
                self._command(text)
            elif text:
                self.turn(text)

    def turn(self, text: str) -> None:
        """Ask, and stream the answer. One that is stopped stays as far as it came."""
        self.messages.append(ChatMessage("user", text))
        finished, answer, shown = None, [], Streamed(self._console)
        try:
            request = self._asking.asking(tuple(self.messages))
            generation = self._client.generate(request, on_lost=tell_lost)
            with contextlib.closing(iter(generation)) as deltas:
                for delta in deltas:
                    answer.append(delta.text)
                    shown.show(delta)
            finished = generation.finished
        except KeyboardInterrupt:
            self._console.print(" [dim](stopped)[/]", end="", highlight=False)
        except PacelineError as error:
            self._console.print(plain(str(error), "red"), soft_wrap=True)
        self._console.print()
        if finished is not None:
            self._console.print(summary(finished), highlight=False)
        if answer:
            self.messages.append(ChatMessage("assistant", "".join(answer)))
        else:
            self.messages.pop()

    def _command(self, text: str) -> None:
        if text == "/reset":
            self.messages = list(self._beginning)
        elif text == "/undo":
            del self.messages[max(len(self._beginning), len(self.messages) - 2) :]
        else:
            self._console.print(HELP)
