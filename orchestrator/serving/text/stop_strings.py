"""Stop strings in text that comes in pieces: what is let through is never taken back. Pure."""


class StopStrings:
    """Watches an output's text for strings that end it.

    What is let through, and where it ends, depends on the text alone and not on how it was
    cut into pieces: of several strings the one that is complete first counts, and of those
    complete at once the longest.
    """

    def __init__(self, strings: tuple[str, ...], *, keep: bool = False) -> None:
        """`strings` are not empty ones; there may be none.

        keep: the string that is found is let through, so that nothing is held back. Otherwise
        nothing of it is.
        """
        self._keep = keep
        self._strings = strings
        self._prefixes = {text[:end] for text in strings for end in range(1, len(text))}
        self._longest = max((len(text) for text in strings), default=0)
        self._open = ""  # the end of the text that may begin a string
        self._shown = 0  # characters of it that were let through
        self._unarmed = 0
        self.found: str | None = None

    def feed(self, text: str, *, armed: bool = True) -> str:
        """Take more text; returns what can be let through, up to a string once it is found.

        Text that may be the beginning of a string that is not kept is held back until more is
        known. A string counts when its last character came armed, wherever it began. Nothing is
        let through behind a string that was found.
        """
        if not self._strings:
            return text
        if self.found is not None:
            return ""
        text, shown = self._open + text, self._shown
        if not armed:
            self._unarmed = len(text)
        if (end := self._find(text)) is not None:
            self._open = ""
            return text[shown:end]
        self._open = self._beginning(text)
        settled = len(text) - len(self._open)
        self._unarmed = max(0, self._unarmed - settled)
        self._shown = len(self._open) if self._keep else 0
        return text[shown : settled + self._shown]

    def flush(self) -> str:
        """What was held back, when the output has ended without a string."""
        held, self._open = self._open[self._shown :], ""
        return held

    def _find(self, text: str) -> int | None:
        """Where text ends at the first string that ends behind what came unarmed; notes which."""
        found = []
        for one in self._strings:
            start = text.find(one, max(0, self._unarmed - len(one) + 1))
            if start >= 0:
                found.append((start + len(one), -len(one), one))
        if not found:
            return None
        end, _, self.found = min(found)
        return end if self._keep else end - len(self.found)

    def _beginning(self, text: str) -> str:
        """The longest end of `text` that begins a string."""
        for size in range(min(len(text), self._longest - 1), 0, -1):
            if text[-size:] in self._prefixes:
                return text[-size:]
        return ""
