"""Settings of Celery's workers, which dagster-celery takes from a module of this name; its folder is in PYTHONPATH."""

import os
from pathlib import Path

import yaml

broker_url = os.environ["RSU_CELERY_BROKER"]
result_backend = os.environ["RSU_CELERY_BROKER"]
broker_connection_retry_on_startup = True
# As many runs as may be at work at once: one worker carries them all while the other machine is away.
_INSTANCE = yaml.safe_load((Path(__file__).parent / "dagster.yaml").read_text(encoding="utf-8"))
worker_concurrency = _INSTANCE["concurrency"]["runs"]["max_concurrent_runs"]
# A worker takes no run that it cannot begin: were it killed, the run would lie there unbegun.
worker_prefetch_multiplier = 1
# Each run in a process of its own, as everywhere else.
worker_max_tasks_per_child = 1
