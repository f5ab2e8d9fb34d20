"""Protobuf messages to and from the values of paceline.protocol."""
