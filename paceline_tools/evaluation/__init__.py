"""paceline evaluate: choose a draft before it sees traffic."""
