"""Whether a service of this machine is available: `python -m quakegrid.health dbserver|broker|agent|web`.

Asks over grpc.health.v1 and mutual TLS, the web service over HTTP; container engines and supervisors call it.
Exit codes: 0 available, 1 not available, 2 wrong settings, 3 unreachable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from grpc_health.v1 import health_pb2, health_pb2_grpc

from quakegrid import errors
from quakegrid.clients.connection import Connection
from quakegrid.machine import local_services, service_files
from quakegrid.machine.service_files import ServiceFile
from quakegrid.settings import config
from quakegrid.settings.config import Settings

TIMEOUT_S = 5.0
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def is_serving(settings: Settings, service: str, port: int = 0) -> bool:
    """Ask a service of this machine whether it is available.

    Args:
        settings: of the cluster.
        service: "dbserver", "broker", "agent" or "web".
        port: where it listens; 0 for the port of the settings.
    Raises:
        PeerUnreachableError: it does not answer.
    """
    configured = local_services.ports_of(settings, [service])[0]
    host = config.LOOPBACK if configured.host in EVERYWHERE else configured.host
    if service == "web":
        return _is_web_serving(host, port or configured.number, has_tls=settings.web_has_tls)
    address = f"{host}:{port or configured.number}"
    node = settings.node_name if service == "agent" else ""
    with Connection(service, address, settings.proof, node=node, timeout_s=TIMEOUT_S) as connection:
        stub = health_pb2_grpc.HealthStub(connection.channel)
        response = connection.call(stub.Check, health_pb2.HealthCheckRequest())
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def _is_web_serving(host: str, port: int, *, has_tls: bool) -> bool:
    import ssl  # noqa: PLC0415 - most commands ask no web service
    from http.client import OK, HTTPConnection, HTTPSConnection  # noqa: PLC0415

    if has_tls:
        # Whether it answers is the question; nothing is told to it, and no answer is believed but this one.
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=TIMEOUT_S, context=anybody)
    else:
        connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == OK
    except OSError as exc:
        raise errors.PeerUnreachableError(f"the web service at {host}:{port} does not answer: {exc}") from exc
    finally:
        connection.close()


def troubles(settings: Settings, records: Mapping[str, ServiceFile]) -> dict[str, str]:
    """What is wrong with services that run, by name; services that are available are left out.

    That its process lives proves nothing: its port may be closed, or it may hang.

    Args:
        settings: of the cluster.
        records: of the services, asked side by side.
    """
    with ThreadPoolExecutor(len(records) or 1) as threads:
        found = threads.map(lambda item: _trouble(settings, *item), records.items())
        return {name: trouble for name, trouble in zip(records, found, strict=True) if trouble}


def _trouble(settings: Settings, service: str, record: ServiceFile) -> str:
    process = f"the {service} runs (process {record.pid})"
    try:
        port = int(record.address.rpartition(":")[2])
        return "" if is_serving(settings, service, port) else f"{process} and is about to stop"
    except errors.PeerUnreachableError:
        return f"{process} but does not answer at port {port}; its log says why"
    except (errors.QuakeGridError, ValueError) as exc:
        return f"{process} but cannot be asked: {exc}"


def main() -> int:
    """Ask a service, and print the answer."""
    parser = argparse.ArgumentParser(prog="python -m quakegrid.health", description=__doc__)
    parser.add_argument("service", choices=service_files.ALL_SERVICES)
    service = parser.parse_args().service
    try:
        found = is_serving(config.load_node_settings(), service)
    except errors.QuakeGridError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    print(f"the {service} {'serves' if found else 'is about to stop'}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
