"""docs/api.md: every call, message and field on the wire, with the comments of the protos.

python -m tests.api_reference writes it anew.
"""

import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from tests.reference_pages import DOCS, code, prose, replaced, table

PAGE = DOCS / "api.md"
PROTOS = Path(__file__).parents[1] / "protos"
FILES = ("generation", "sampling", "status", "model", "session", "target", "draft")
"""In the order of the page: first what clients call."""
SERVICES, MESSAGES, ENUMS = 6, 4, 5
METHODS = FIELDS = VALUES = 2
"""Numbers of what stands in a file, a service, a message and an enum, as paths of comments."""


class Commented:
    """A proto with its comments."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        """As protoc has it, with source info."""
        self.proto = proto
        self._comments = {
            tuple(one.path): one.leading_comments for one in proto.source_code_info.location
        }

    def comment(self, *path: int) -> str:
        """What stands above the thing there."""
        return prose(self._comments.get(path, ""))


def compiled() -> dict[str, Commented]:
    """Our protos by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "protos.binpb")
        sources = [f"paceline/v1/{name}.proto" for name in FILES]
        includes = [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
        options = ["--include_source_info", f"--descriptor_set_out={out}"]
        assert protoc.main(["protoc", *includes, *options, *sources]) == 0
        found = FileDescriptorSet.FromString(out.read_bytes())
    return {Path(one.name).stem: Commented(one) for one in found.file}


def sections(of: Commented) -> Iterator[str]:
    """All of a proto."""
    for at, service in enumerate(of.proto.service):
        yield _service(of, service, at)
    for at, message in enumerate(of.proto.message_type):
        yield _message(of, message, at)
    for at, enum in enumerate(of.proto.enum_type):
        yield _enum(of, enum, at)


def _service(of: Commented, service: ServiceDescriptorProto, at: int) -> str:
    rows = [
        [
            code(one.name),
            _stream(one.client_streaming) + _link(one.input_type),
            _stream(one.server_streaming) + _link(one.output_type),
            of.comment(SERVICES, at, METHODS, number),
        ]
        for number, one in enumerate(service.method)
    ]
    title = f"### {service.name}\n\n{of.comment(SERVICES, at)}"
    return table(title, ["call", "request", "response", "what"], rows)


def _stream(streams: bool) -> str:
    return "stream of " if streams else ""


def _message(of: Commented, message: DescriptorProto, at: int) -> str:
    title = f"### {message.name}\n\n{of.comment(MESSAGES, at)}"
    rows = [
        [str(one.number), code(one.name), _kind(one, message), of.comment(MESSAGES, at, 2, number)]
        for number, one in enumerate(message.field)
    ]
    return table(title, ["no", "field", "type", "what"], rows) if rows else f"{title}\n"


def _kind(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.type_name and _is_map(field, message):
        return code("map")
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    shown = _link(field.type_name) if field.type_name else code(kind)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {shown}"
    if field.proto3_optional:
        return f"optional {shown}"
    if field.HasField("oneof_index"):
        return f"{shown}, one of {code(message.oneof_decl[field.oneof_index].name)}"
    return shown


def _is_map(field: FieldDescriptorProto, message: DescriptorProto) -> bool:
    entries = {one.name for one in message.nested_type if one.options.map_entry}
    return _name(field.type_name) in entries


def _enum(of: Commented, enum: EnumDescriptorProto, at: int) -> str:
    title = f"### {enum.name}\n\n{of.comment(ENUMS, at)}"
    rows = [
        [str(one.number), code(one.name), of.comment(ENUMS, at, VALUES, number)]
        for number, one in enumerate(enum.value)
    ]
    return table(title, ["no", "value", "what"], rows)


def _name(kind: str) -> str:
    return kind.rpartition(".")[2]


def _link(kind: str) -> str:
    if not kind.startswith(".paceline.v1."):
        return code(kind.lstrip("."))
    inner = kind.removeprefix(".paceline.v1.")
    return f"[{inner}](#{inner.partition('.')[0].lower()})"


def page() -> str:
    """The page as it is to be."""
    found = compiled()
    parts = ["\n".join([f"## {name}.proto\n", *sections(found[name])]) for name in FILES]
    return replaced(PAGE, "tests.api_reference", "\n".join(parts))


if __name__ == "__main__":
    PAGE.write_text(page())
