#!/usr/bin/env bash
# smg 1.13.0 with smg-grpc-proto 0.4.28: a gRPC worker that answers HealthCheck while it still loads
# (healthy=false) is registered at once. The gateway asks GetModelInfo that one time; fails it, the
# worker's model is "unknown" from then on, also once it is healthy and GetModelInfo answers: it is not
# asked again, /v1/models lists "unknown", and the model's own name is a 404. A worker whose HealthCheck
# fails with UNAVAILABLE instead is tried again every --worker-startup-check-interval, and then known
# by its name.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet smg==1.13.0 smg-grpc-proto==0.4.28 grpcio==1.85.1 protobuf==7.36.2
cat > "$work/try.py" <<'PY'
import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as pb
from smg_grpc_proto.generated import vllm_engine_pb2_grpc as rpc


class Worker(rpc.VllmEngineServicer):
    """Loads until it is told otherwise. honest: HealthCheck fails meanwhile, too."""

    def __init__(self, honest):
        self.honest, self.loading, self.asked = honest, True, 0

    async def HealthCheck(self, request, context):
        if self.loading and self.honest:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        return pb.HealthCheckResponse(healthy=not self.loading)

    async def GetModelInfo(self, request, context):
        self.asked += 1
        if self.loading:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        return pb.GetModelInfoResponse(
            served_model_name="my-model", model_path="my-model", is_generation=True, max_context_length=64)

    async def GetServerInfo(self, request, context):
        return pb.GetServerInfoResponse(server_type="vllm-grpc")

    async def GetLoads(self, request, context):
        return pb.GetLoadsResponse(dp_rank_count=1, loads=[pb.SchedulerLoad()])


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return {}


async def until(condition, seconds=120):
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.5)


async def trial(honest, port):
    server, worker = grpc.aio.server(), Worker(honest)
    rpc.add_VllmEngineServicer_to_server(worker, server)
    at = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway = subprocess.Popen(
        [str(Path(sys.executable).with_name("smg")), "launch", "--host", "127.0.0.1", "--port", str(port),
         "--prometheus-host", "127.0.0.1", "--prometheus-port", str(port + 1),
         "--worker-urls", f"grpc://127.0.0.1:{at}", "--worker-startup-check-interval", "1",
         "--health-check-interval-secs", "1", "--health-success-threshold", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await until(lambda: "workers" in get(port, "/workers"))
        await asyncio.sleep(8)  # several looks at a worker that loads
        worker.loading = False
        await until(lambda: any(one["is_healthy"] for one in get(port, "/workers").get("workers", [])))
        await asyncio.sleep(4)  # several looks at one that is healthy
        names = [one["id"] for one in get(port, "/v1/models").get("data", [])]
        print("HealthCheck fails" if honest else "HealthCheck says healthy=false", "->", names)
    finally:
        gateway.kill()
        gateway.wait()
        await server.stop(0)


async def main():
    await trial(honest=False, port=int(sys.argv[1]))
    await trial(honest=True, port=int(sys.argv[1]) + 10)


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/try.py" 31550 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
HealthCheck says healthy=false -> ['unknown']
HealthCheck fails -> ['my-model']
OUT
