"""The target server: decides every token."""
