"""What draft and target servers share: a process, its server, and sessions in its engine."""
