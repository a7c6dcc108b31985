"""The calls and messages of the public contracts, with their comments, as their compiler reads them."""

from __future__ import annotations

import importlib.resources
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tests.manual.pages import ROOT

FOLDER = ROOT / "protos" / "quakegrid" / "api" / "v1"
_HEAD = """\
# gRPC API

*Generated from the code by `make reference`.*

The public contracts, package `quakegrid.api.v1`; the files are in `protos/quakegrid/api/v1`. [Use gRPC from
any language](../how-to/grpc.md) says how to connect.

"""
_SERVICE, _MESSAGE, _ENUM = 6, 4, 5  # of FileDescriptorProto
_METHOD, _FIELD, _VALUE, _NESTED = 2, 2, 2, 3
_KINDS = descriptor_pb2.FieldDescriptorProto


def markdown() -> str:
    """The page."""
    return _HEAD + "\n".join(part for file in _files() for part in _chapter(file))


def _files() -> list[descriptor_pb2.FileDescriptorProto]:
    names = sorted(str(path.relative_to(ROOT / "protos")) for path in FOLDER.glob("*.proto"))
    google = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        options = ["-I", str(ROOT / "protos"), "-I", str(google), f"--descriptor_set_out={out}"]
        assert protoc.main(["protoc", *options, "--include_source_info", *names]) == 0
        return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def _chapter(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    said = {tuple(place.path): _one_line(place.leading_comments) for place in file.source_code_info.location}
    for number, service in enumerate(file.service):
        yield f"## {service.name}\n\n{said.get((_SERVICE, number), '')}\n"
        yield "| call | takes, gives | |\n|---|---|---|"
        for index, method in enumerate(service.method):
            words = said.get((_SERVICE, number, _METHOD, index), "")
            yield f"| `{method.name}` | {_ways(method)} | {words} |"
        yield ""
    if not file.service:
        yield f"## {Path(file.name).name}\n"
    for number, message in enumerate(file.message_type):
        yield from _message(message, (_MESSAGE, number), said)
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, (_ENUM, number), said)


def _ways(method: descriptor_pb2.MethodDescriptorProto) -> str:
    takes = f"{'stream of ' if method.client_streaming else ''}`{_short(method.input_type)}`"
    gives = f"{'stream of ' if method.server_streaming else ''}`{_short(method.output_type)}`"
    return f"{takes}, {gives}"


def _message(
    message: descriptor_pb2.DescriptorProto, place: tuple[int, ...], said: dict[tuple[int, ...], str]
) -> Iterator[str]:
    if message.options.map_entry or not (message.field or message.nested_type):
        return
    yield f"### {message.name}\n\n{said.get(place, '')}\n"
    yield "| field | kind | |\n|---|---|---|"
    for index, field in enumerate(message.field):
        words = said.get((*place, _FIELD, index), "")
        yield f"| `{field.name}` = {field.number} | {_kind(field)} | {words} |"
    yield ""
    for index, nested in enumerate(message.nested_type):
        yield from _message(nested, (*place, _NESTED, index), said)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(enum, (*place, 4, index), said)


def _enum(
    enum: descriptor_pb2.EnumDescriptorProto, place: tuple[int, ...], said: dict[tuple[int, ...], str]
) -> Iterator[str]:
    yield f"### {enum.name}\n\n{said.get(place, '')}\n"
    yield "| value | |\n|---|---|"
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` = {value.number} | {said.get((*place, _VALUE, index), '')} |"
    yield ""


def _kind(field: descriptor_pb2.FieldDescriptorProto) -> str:
    is_named = field.type in {_KINDS.TYPE_MESSAGE, _KINDS.TYPE_ENUM}
    name = _short(field.type_name) if is_named else _KINDS.Type.Name(field.type).removeprefix("TYPE_").lower()
    before = "list of " if field.label == _KINDS.LABEL_REPEATED else ""
    return f"{before}{name}{', may be absent' if field.proto3_optional else ''}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _one_line(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")
