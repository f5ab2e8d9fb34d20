"""What a status says of whoever sent it, or did not."""

import grpc
import pytest

from paceline.errors import Internal, PacelineError, Unavailable
from paceline.rpc.status_codes import from_rpc_error

CORE = "Internal error from Core"


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (grpc.StatusCode.INTERNAL, CORE, Unavailable),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", Unavailable),
        (grpc.StatusCode.UNKNOWN, "Stream removed (recvmsg:Connection reset)", Unavailable),
        (grpc.StatusCode.CANCELLED, "CANCELLED", Unavailable),
        (grpc.StatusCode.DATA_LOSS, "", Unavailable),
        (grpc.StatusCode.INTERNAL, "a bug; request id x", Internal),
        (grpc.StatusCode.OUT_OF_RANGE, "who says so", Internal),
    ],
)
def test_what_grpc_makes_of_a_lost_peer_is_unavailable(
    code: grpc.StatusCode, said: str, kind: type[PacelineError]
) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), said)
    found = from_rpc_error(error)
    assert type(found) is kind
    assert str(found) == (said or code.name)
