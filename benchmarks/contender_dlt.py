"""dlt as a measured process: its rest_api source over the same endpoint with keyset paging, its postgres destination.

It runs in an environment of its own (`make bench` makes it), so that nothing here but `benchmarks.measure` may be imported.
`variant` is `<merge strategy> <file format>`, as `upsert csv`. With `2 processes` after it two of them normalise the rows.
Objects inside a row stay JSON (`max_table_nesting` 0), which is the least work: otherwise each list in a row becomes a
table of its own.
"""

import os
import tempfile
from typing import Any

os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    # Two calls at a time, as RunSignup allows, and as many sessions at PostgreSQL.
    "EXTRACT__WORKERS": "2",
    "LOAD__WORKERS": "2",
    # A file a session; compressing them only costs time where both ends are on one machine.
    "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
}

import dlt
import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator
from dlt.sources.rest_api import rest_api_source

from benchmarks.measure import Job, Meter, Report, answer, job


class ByRegistration(BasePaginator):
    """The next page begins after the last registration of this one. Only a short page is known to be the last."""

    def __init__(self, page_size: int) -> None:
        super().__init__()
        self.page_size = page_size
        self.after = 0

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        rows = data or []
        self._has_next_page = len(rows) == self.page_size
        self.after = max((row["registration_id"] for row in rows), default=0)

    def update_request(self, request: requests.Request) -> None:
        request.params["after_registration_id"] = self.after


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rsu-dlt-") as folder:
        os.environ["DLT_DATA_DIR"] = folder
        meter = Meter()
        work = job()
        report = Report()
        with meter.timing(report.registrations):
            run(work, report, folder)
        meter.close(report, with_child="processes" in work.variant)
    answer(report)


def run(work: Job, report: Report, folder: str) -> None:
    _, file_format, *processes = work.variant.split()
    if processes:
        # Rows go into several files, or there would be nothing to share out.
        os.environ |= {"NORMALIZE__WORKERS": processes[0], "DATA_WRITER__FILE_MAX_ITEMS": str(20 * work.page_size)}
    pipeline = dlt.pipeline(
        "registrations",
        destination=dlt.destinations.postgres(work.database_url),
        dataset_name="dlt",
        pipelines_dir=folder,
    )
    done = pipeline.run(source(work), loader_file_format=file_format)
    done.raise_on_failed_jobs()
    for metrics in pipeline.last_trace.last_extract_info.metrics.values():
        tables = [item["table_metrics"] for item in metrics]
        report.rows += sum(table["participants"].items_count for table in tables if "participants" in table)


def source(work: Job) -> Any:
    """Return the reads as a resource, and for each of them its registrations."""
    partners = {partner.number: partner for partner in work.partners}

    @dlt.resource(name="reads", selected=False)
    def reads() -> Any:
        yield [
            {
                "timing_partner_id": read.partner,
                "race_id": read.race_id,
                "events": ",".join(map(str, read.event_ids)),
                "key": partners[read.partner].key,
                "secret": partners[read.partner].secret,
            }
            for read in work.reads
        ]

    session = requests.Session()
    session.trust_env = False
    strategy = work.variant.partition(" ")[0]
    return rest_api_source(
        {
            "client": {"base_url": work.api_url, "paginator": ByRegistration(work.page_size), "session": session},
            "resources": [
                reads(),
                {
                    "name": "participants",
                    "primary_key": ["_reads_timing_partner_id", "registration_id"],
                    "write_disposition": {"disposition": "merge", "strategy": strategy},
                    "parallelized": True,
                    "include_from_parent": ["timing_partner_id", "race_id"],
                    "endpoint": {
                        "path": "race/{resources.reads.race_id}/participants",
                        "data_selector": "[*].participants[*]",
                        "params": {
                            "format": "json",
                            "api_key": "{resources.reads.key}",
                            "api_secret": "{resources.reads.secret}",
                            "supports_nb": "T",
                            "sort": "registration_id ASC",
                            "event_id": "{resources.reads.events}",
                            "results_per_page": work.page_size,
                            "after_registration_id": 0,
                        },
                    },
                },
            ],
        },
        max_table_nesting=0,
    )


if __name__ == "__main__":
    main()
