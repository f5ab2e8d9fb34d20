"""The draft server: guesses ahead of the target."""
