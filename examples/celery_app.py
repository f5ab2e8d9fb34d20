"""Tasks for a queue. The client is made before Celery forks its workers, and works in each.

pip install celery, then: celery -A celery_app worker, and in a program celery_app.ask.delay("Hi").
"""

import os

from celery import Celery

from paceline.client import SyncClient
from paceline.errors import PacelineError

client = SyncClient(os.environ.get("PACELINE_ADDRESS", "localhost:7070"), timeout=120)
app = Celery("paceline_example", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost"))


@app.task
def ask(question: str) -> str:
    """The answer, or why there is none."""
    messages = [{"role": "user", "content": question}]
    try:
        return client.generate(messages, max_tokens=64).result().text
    except PacelineError as error:
        return f"{type(error).__name__}: {error}"
