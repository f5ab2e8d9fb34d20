"""The draft and target servers that an orchestrator draws on."""
