"""What is said on the wire, as plain values. Pure."""
