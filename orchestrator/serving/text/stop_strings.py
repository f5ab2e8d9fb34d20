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
        self._unarmed = 0
        self.found: str | None = None

    def feed(self, text: str, *, armed: bool = True) -> str:
        """Take more text; returns what can be let through, up to a string once it is found.

        Text that may be the beginning of a string is held back until more is known. A
        string counts when its last character came armed, wherever it began. Nothing is let
        through behind a string that was found.
        """
        if self.found is not None:
            return ""
        text = self._held + text
        if not armed:
            self._unarmed = len(text)
        if (start := self._find(text)) is not None:
            self._held = ""
            return text[:start]
        self._held = self._beginning(text)
        let_through = text[: len(text) - len(self._held)]
        self._unarmed = max(0, self._unarmed - len(let_through))
        return let_through

    def flush(self) -> str:
        """What was held back, when the output has ended without a string."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        """Where the first string that ends behind what came unarmed begins; notes which it is."""
        found = []
        for one in self._strings:
            start = text.find(one, max(0, self._unarmed - len(one) + 1))
            if start >= 0:
                found.append((start + len(one), -len(one), one))
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
