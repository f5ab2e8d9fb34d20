"""What draft and target servers share: a process that owns an engine."""
