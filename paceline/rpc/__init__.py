"""What was decided for gRPC, in one place."""
