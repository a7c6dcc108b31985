"""The audit log, with real services: who did what, who was refused, and what outlives a restart."""

from __future__ import annotations

import datetime
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.access.audits import AuditRecord
from quakegrid.access.principals import PrincipalRole
from quakegrid.access.proofs import Proof
from quakegrid.api.v1 import database_pb2, database_pb2_grpc, fleet_pb2, fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.audit.client import AuditClient, AuditQuery
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.jobs.values import Job
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support import waiting
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

TIMEOUT_S = 30.0
