"""The client library: typed, async and sync; retries and resumes by itself."""

from paceline.client.client import Client
from paceline.client.result import Choice, Result
from paceline.client.stream import Generation
from paceline.client.sync import SyncClient, SyncGeneration

__all__ = ["Choice", "Client", "Generation", "Result", "SyncClient", "SyncGeneration"]
