#!/usr/bin/env python3
"""Checks a site with asyncio and aiohttp, as the usual program does.

The usual program makes a ClientSession for each check. Here all checks share one, with a connector that closes every
connection: that is kinder to aiohttp, since sessions and connectors are dear to make. asyncio can not resume TLS
sessions, so with `resume` this program ends with status 77.
"""

import asyncio
import json
import ssl
import sys
import time

import aiohttp


def connector(arguments):
    trust = None
    if len(arguments) > 2:
        trust = ssl.create_default_context(cafile=arguments[2])
        trust.minimum_version = ssl.TLSVersion.TLSv1_3
    return aiohttp.TCPConnector(force_close=True, limit=0, ssl=trust)


async def check(session, url):
    async with session.get(url) as response:
        body = await response.read()
        if response.status != 200:
            raise aiohttp.ClientError(f"status {response.status}")
        return len(body)


async def carry_out(session, url, count, at_once):
    took, total, failed = [], 0, 0
    numbers = iter(range(count))

    async def worker():
        nonlocal total, failed
        for _ in numbers:
            began = time.perf_counter_ns()
            try:
                size = await check(session, url)  # on a line of its own: others add while it waits
                total += size
                took.append(time.perf_counter_ns() - began)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
                failed += 1

    began = time.perf_counter_ns()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    wall = time.perf_counter_ns() - began
    took.sort()

    def percentile(percent):
        return took[min(int(len(took) * percent / 100), len(took) - 1)] if took else 0

    return {"checks": count, "failed": failed, "bytes": total, "wall_ns": wall, "p50_ns": percentile(50),
            "p99_ns": percentile(99), "p999_ns": percentile(99.9)}


async def main(arguments):
    headers = {"User-Agent": "bench", "Connection": "close"}
    async with aiohttp.ClientSession(connector=connector(arguments), headers=headers) as session:
        for line in sys.stdin:
            count, at_once = map(int, line.split())
            print(json.dumps(await carry_out(session, arguments[1], count, at_once)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("check.py URL [CA-FILE [resume]]")
    if len(sys.argv) > 3:
        print("asyncio can not resume TLS sessions", file=sys.stderr)
        sys.exit(77)
    asyncio.run(main(sys.argv))
