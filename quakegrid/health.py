"""Whether a service of this machine serves: `python -m quakegrid.health dbserver|broker|agent`.

Asks over grpc.health.v1 and mutual TLS, as container engines and supervisors want to know it. Exit codes:
0 serving, 1 not serving, 2 settings, 3 unreachable.
"""

from __future__ import annotations

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from quakegrid import config, errors, local_services, rpc, run_records
from quakegrid.config import Settings

TIMEOUT_S = 5.0
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def is_serving(settings: Settings, service: str) -> bool:
    """Ask a service of this machine whether it serves.

    Raises:
        PeerUnreachableError: it does not answer.
    """
    port = local_services.ports_of(settings, [service])[0]
    address = f"{config.LOOPBACK if port.host in EVERYWHERE else port.host}:{port.number}"
    with rpc.open_channel(address, settings.authkey) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            raise rpc.translate(exc, service, address) from None
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Ask, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m quakegrid.health", description=__doc__)
    parser.add_argument("service", choices=run_records.SERVICES)
    service = parser.parse_args().service
    try:
        found = is_serving(config.load_settings(), service)
    except errors.QuakeGridError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    print(f"the {service} {'serves' if found else 'is about to stop'}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
