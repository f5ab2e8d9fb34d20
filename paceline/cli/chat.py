"""paceline chat: a conversation in the terminal."""

import contextlib

from pydantic import Field
from rich.console import Console

from paceline.cli.asking import Asking
from paceline.cli.show import show_delta, summary
from paceline.client import SyncClient
from paceline.errors import PacelineError
from paceline.generation import ChatMessage

HELP = "[dim]/reset forgets the conversation, /undo the last turn, /exit or Ctrl-D ends it[/]"


class Chat(Asking):
    """Talk with the model; it remembers the conversation. Ctrl-C stops an answer."""

    system: str = Field("", description="What the model is told before the conversation.")

    def cli_cmd(self) -> None:
        """Run the command."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  line editing and history, where there is any
        console = Console()
        with SyncClient(self.address) as client:
            console.print(f"[bold]{client.models()[0].name}[/]  {HELP}", highlight=False)
            Conversation(self, client, console).run()


class Conversation:
    """Turns of a user and the model."""

    def __init__(self, asking: Chat, client: SyncClient, console: Console) -> None:
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
        generation = self._client.generate(self._asking.asking(tuple(self.messages)))
        answer = []
        try:
            for delta in generation:
                show_delta(self._console, delta)
                answer.append(delta.text)
        except KeyboardInterrupt:
            self._console.print(" [dim](stopped)[/]", end="")
        except PacelineError as error:
            self._console.print(f"[red]{error}[/]", highlight=False)
        self._console.print()
        if generation.finished is not None:
            self._console.print(summary(generation.finished), highlight=False)
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
