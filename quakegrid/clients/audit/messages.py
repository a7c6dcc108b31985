"""Records of the audit log as messages."""

from __future__ import annotations

from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord
from quakegrid.api.v1 import audit_pb2


def encode(record: AuditRecord) -> audit_pb2.AuditRecord:
    """A record as a message."""
    about = record.about
    message = audit_pb2.AuditRecord(
        id=record.id,
        role=record.role,
        name=record.name,
        told=about.told,
        action=about.action,
        job_id=about.job_id,
        owner=record.owner,
        node=about.node,
        person=about.person,
        detail=about.detail,
        outcome=record.outcome,
        peer=record.peer,
        service=record.service,
        count=record.count,
    )
    message.time.FromNanoseconds(int(record.time_s * 1e9))
    return message


def decode(message: audit_pb2.AuditRecord) -> AuditRecord:
    """The record of a message, with texts that can be stored and shown."""
    about = About(
        audits.plain(message.action),
        job_id=message.job_id,
        node=audits.plain(message.node),
        person=audits.plain(message.person),
        detail=audits.plain(message.detail),
        told=audits.plain(message.told),
    )
    return AuditRecord(
        message.time.seconds + message.time.nanos / 1e9,
        audits.plain(message.role),
        audits.plain(message.name),
        about,
        audits.plain(message.outcome),
        audits.plain(message.peer),
        audits.plain(message.service),
        message.count,
        message.id,
        audits.plain(message.owner),
    )
