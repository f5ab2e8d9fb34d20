"""python -m paceline_tools.cli."""

from paceline_tools.cli.app import main

if __name__ == "__main__":
    main()
