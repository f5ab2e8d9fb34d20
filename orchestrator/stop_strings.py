"""Stop strings in text that comes in pieces: nothing of one is ever let through. Pure."""


class StopStrings:
    """Watches an output's text for strings that end it.

    What is let through, and where it ends, depends on the text alone and not on how it was
    cut into pieces: of several strings the one that is complete first counts, and of those
    complete at once the longest.
    """

    def __init__(self, strings: tuple[str, ...]) -> None:
        """`strings` are not empty ones; there may be none."""
        self._strings = strings
        self._prefixes = {text[:end] for text in strings for end in range(1, len(text))}
        self._longest = max((len(text) for text in strings), default=0)
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str, *, armed: bool = True) -> str:
        """Take more text; returns what can be let through, up to a string once it is found.

        Text that may be the beginning of a string is held back until more is known. A
        string that is complete while not armed does not count.
        """
        text = self._held + text
        if armed and (start := self._find(text)) is not None:
            self._held = ""
            return text[:start]
        self._held = self._beginning(text)
        return text[: len(text) - len(self._held)]

    def flush(self) -> str:
        """What was held back, when the output has ended without a string."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        """Where the first complete string begins; notes which it is."""
        found = [
            (text.find(one) + len(one), -len(one), one) for one in self._strings if one in text
        ]
        if not found:
            return None
        end, _, self.found = min(found)
        return end - len(self.found)

    def _beginning(self, text: str) -> str:
        """The longest end of `text` that begins a string."""
        for size in range(min(len(text), self._longest - 1), 0, -1):
            if text[-size:] in self._prefixes:
                return text[-size:]
        return ""
