"""A pytest plugin: one line for each test, as `cargo xtask conformance` reads them."""

import os
import re

import pytest

SWARM = "asks for a swarm, of which a single machine is none"
# Parts of names, and why the tests called so cannot hold here.
NOT_APPLICABLE = [
    (r"api_(swarm|service|secret|config)_test|models_(swarm|services|nodes)_test", SWARM),
    (r"TestNetworks::test_create_(inspect_network_with_scope|network_attachable|network_ingress)", SWARM),
    (r"api_plugin_test", "plugins come from Docker Hub and run as processes of the engine; Ferry has none"),
    (r"integration/credentials/", "speaks with a credential store of a desktop, and with no engine"),
    (r"context_api_test", "reads and writes the client's own files, and speaks with no engine"),
    (r"test_pull_with_sha", "pulls an image of Docker Hub by a digest that only that image has"),
]
lines = []


def reason(nodeid):
    return next((why for pattern, why in NOT_APPLICABLE if re.search(pattern, nodeid)), None)


def short(nodeid):
    return nodeid.removeprefix("tests/integration/")


def pytest_collection_modifyitems(items):
    for item in items:
        why = reason(item.nodeid)
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def websockets_need_a_port(request, monkeypatch):
    """The SDK's websockets cannot speak through a socket file."""
    if request.node.name.endswith("_ws"):
        monkeypatch.setenv("DOCKER_HOST", os.environ["CONFORMANCE_TCP"])


def pytest_runtest_logreport(report):
    name = short(report.nodeid)
    if report.skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        lines.append(f"skip {name}: {text.removeprefix('Skipped: ').splitlines()[0] if text else 'expected to fail'}")
    elif report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
        lines.append(f"not ok {name}: {' '.join(text.split())[:300]}")
    elif report.when == "call":
        lines.append(f"ok {name}")


def pytest_sessionfinish():
    print()
    print("\n".join(lines))
