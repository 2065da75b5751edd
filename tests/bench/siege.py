#!/usr/bin/env python3
"""A worker under siege: 200 clients that send 5 MiB and never read, 60 that send a byte a second, functions that fill their output, and
registrations of 2^32 - 1 containers, all at once. Tells how much the worker's memory grows, and its slowest answer to /v1/health beside
that of the same worker idle a minute before. Root, `make build attempts` first.
usage: tests/bench/siege.py [SECONDS, default 60]"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RELEASE = os.path.join(ROOT, "target/release")


def rss(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def head(method, path, more=""):
    return f"{method} {path} HTTP/1.1\r\nhost: siege\r\n{more}".encode()


async def answer(at, request, limit=30):
    reader, writer = await asyncio.open_unix_connection(at)
    writer.write(request)
    try:
        text = await asyncio.wait_for(reader.read(-1), limit)
    finally:
        writer.close()
    return text


def health(at, seconds):
    """How long each answer took, in ms; new connections, 20 a second. In a process of its own, so that the siege's own work is not
    counted."""
    all_of_them, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            with socket.socket(socket.AF_UNIX) as asks:
                asks.settimeout(60)
                asks.connect(at)
                asks.sendall(head("GET", "/v1/health", "connection: close\r\n\r\n"))
                text = asks.recv(4096)
            assert text.startswith(b"HTTP/1.1 200"), text[:80]
            all_of_them.append((time.monotonic() - begun) * 1e3)
        except (OSError, AssertionError) as why:
            print(f"health: {why!r} after {time.monotonic() - begun:.3f} s", file=sys.stderr)
            all_of_them.append(float("inf"))
        time.sleep(0.05)
    return all_of_them


async def never_reads(at, end):
    body = b"x" * (5 << 20)
    while time.monotonic() < end:
        writer = None
        try:
            _, writer = await asyncio.open_unix_connection(at, limit=1)
            writer.write(head("POST", "/v1/functions/echo/invoke", f"content-length: {len(body)}\r\n\r\n") + body)
            # asyncio reads as much as `limit` twice over, and no more of the answer.
            await asyncio.wait_for(writer.drain(), max(0.1, end - time.monotonic()))
            await asyncio.sleep(max(0.0, end - time.monotonic()))
        except (OSError, asyncio.TimeoutError):
            await asyncio.sleep(0.2)
        finally:
            if writer:
                writer.close()


async def sends_slowly(at, end):
    while time.monotonic() < end:
        try:
            _, writer = await asyncio.open_unix_connection(at)
            writer.write(head("POST", "/v1/functions/echo/invoke", "transfer-encoding: chunked\r\n\r\n"))
            while time.monotonic() < end:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()
        except OSError:
            await asyncio.sleep(0.2)


async def floods(at, end):
    while time.monotonic() < end:
        body = b"flood-log 32212254720"
        try:
            await answer(at, head("POST", "/v1/functions/flood/invoke", f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n") + body)
        except (OSError, asyncio.TimeoutError):
            await asyncio.sleep(0.2)


async def registers(at, end, said):
    body = json.dumps({"name": "bomb", "memory": "64MiB", "prewarm": 2**32 - 1, "duration": "1ms", "behaviour": "echo"}).encode()
    while time.monotonic() < end:
        try:
            text = await answer(at, head("POST", "/v1/functions", f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n") + body)
            said.add(text.split(b"\r\n")[0].decode())
        except (OSError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(1)


async def main():
    with tempfile.TemporaryDirectory(prefix="elapse-siege.") as dir:
        at = f"{dir}/api.sock"
        with open(f"{dir}/worker.toml", "w") as config:
            config.write(
                f'listen = "unix:{at}"\nbody_limit = "6MiB"\n[worker]\nmemory = "2GiB"\ncores = 2\n[live]\nworker = "siege-{os.getpid()}"\n'
                '[[function]]\nname = "echo"\nmemory = "64MiB"\nduration = "0ms"\nbehaviour = "echo"\nconcurrency = 8\n'
                f'[[function]]\nname = "flood"\nmemory = "64MiB"\nduration = "1s"\nbehaviour = "exec"\nconcurrency = 4\ncode = "{RELEASE}"\n'
                'command = ["/code/elapse-attempts"]\n'
            )
        log = open(f"{dir}/log", "w")
        worker = subprocess.Popen([f"{RELEASE}/elapse", "worker", f"{dir}/worker.toml"], stderr=log)
        try:
            for _ in range(200):
                if os.path.exists(at):
                    break
                await asyncio.sleep(0.05)
            health(at, 2)
            idle = health(at, min(SECONDS, 20))
            before = rss(worker.pid)
            end, said, most = time.monotonic() + SECONDS, set(), 0.0
            besieging = [never_reads(at, end) for _ in range(200)] + [sends_slowly(at, end) for _ in range(60)]
            besieging += [floods(at, end) for _ in range(4)] + [registers(at, end, said)]
            tasks = [asyncio.create_task(each) for each in besieging]
            with ProcessPoolExecutor(1) as aside:
                under = await asyncio.get_running_loop().run_in_executor(aside, health, at, SECONDS)
            most = rss(worker.pid, "VmHWM")
            await asyncio.gather(*tasks)
            await asyncio.sleep(5)
            print(f"registrations of 2^32 - 1 containers: {sorted(said)}")
            print(f"memory: {before:.1f} MiB idle, at most {most:.1f} under siege (+{most - before:.1f}), {rss(worker.pid):.1f} after it")
            print(f"slowest health: {max(idle):.1f} ms of {len(idle)} idle, {max(under):.1f} ms of {len(under)} under siege")
        finally:
            worker.terminate()
            print(f"it ended with {worker.wait(60)}")


asyncio.run(main())
