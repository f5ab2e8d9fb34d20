"""python -m paceline_tools.cli, and the paceline command."""

from paceline import interrupts


def main() -> None:
    """Run the command."""
    interrupts.end_at_once()
    from paceline_tools.cli import app  # takes a while, and can be interrupted

    interrupts.raise_again()
    app.main()


if __name__ == "__main__":
    main()
