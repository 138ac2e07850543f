"""Requests made of the schema, good and bad, against every endpoint; no answer may be an error of the server's own."""

import os
import socket
import sys
import warnings

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import DataGenerationMethod

warnings.simplefilter("ignore")
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "12"))
BASE = os.environ["CONFORMANCE_TCP"].replace("tcp://", "http://")
# Statuses of servers that the API has on purpose: no swarm, not built in, no such platform.
ON_PURPOSE = {501, 503}


def check(operation):
    found = []

    def once(case):
        try:
            answer = case.call(timeout=3)
        except (requests.exceptions.RequestException, ValueError, socket.timeout, UnicodeError):
            # Streams never end, and what cannot be written as a request is none.
            return
        if answer.status_code >= 500 and answer.status_code not in ON_PURPOSE:
            found.append(f"{answer.status_code}: {answer.text[:200]!r} to {answer.request.method} {answer.request.path_url[:200]}")

    for method in (DataGenerationMethod.positive, DataGenerationMethod.negative):
        try:
            strategy = operation.as_strategy(data_generation_method=method)
            quiet = settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                derandomize=True,
            )
            given(case=strategy)(quiet(lambda case: once(case)))()
        except Exception as error:  # An endpoint without parameters cannot be asked wrongly.
            if "Unsatisfiable" not in type(error).__name__ and "negative" not in str(error):
                print(f"# {operation.verbose_name}: {type(error).__name__}: {error}")
    return found


def main():
    schema = schemathesis.from_path(sys.argv[1], base_url=BASE)
    for result in schema.get_all_operations():
        operation = result.ok()
        name = operation.verbose_name
        found = check(operation)
        print(f"not ok {name}: {found[0]}" if found else f"ok {name}", flush=True)


main()
