"""The engine that draft and target servers share: everything with torch."""
