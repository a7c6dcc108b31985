"""All doors, and the scenes that they are part of."""

from __future__ import annotations

from tests.fuzz.door import Door
from tests.fuzz.doors.lane import LaneMessages
from tests.fuzz.doors.local import TemplateOrders, TemplateReports, UnixSocket
from tests.fuzz.doors.rpcs import AgentRpcs, BrokerRpcs, DbserverRpcs
from tests.fuzz.doors.tls import Http2Holders, TlsStrangers
from tests.fuzz.doors.zmtp import ZmtpHolders, ZmtpStrangers
from tests.fuzz.scenes import ClusterScene, Scene
from tests.fuzz.template_scenes import AgentScene, TemplateScene

DOORS: dict[str, type[Door]] = {
    door.name: door
    for door in (
        ZmtpStrangers,
        ZmtpHolders,
        TlsStrangers,
        Http2Holders,
        LaneMessages,
        DbserverRpcs,
        BrokerRpcs,
        AgentRpcs,
        UnixSocket,
        TemplateReports,
        TemplateOrders,
    )
}
SCENES: dict[str, type[Scene]] = {"cluster": ClusterScene, "agent": AgentScene, "template": TemplateScene}
