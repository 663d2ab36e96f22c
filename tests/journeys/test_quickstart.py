"""The reference upstream's public examples work through the proxy but for base URL and header."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.support.world import World

CURL = 'curl https://api.raptormaps.com/facilities \\\n  -H "X-API-Key: rc_live_xxxxxxxx"'
PYTHON = """
import os
import requests

BASE_URL = "https://api.raptormaps.com"
headers = {"X-API-Key": os.environ["RAPTOR_API_KEY"]}

response = requests.get(f"{BASE_URL}/facilities", headers=headers)
response.raise_for_status()
facilities = response.json()

asset = requests.post(
    f"{BASE_URL}/cyber-assets",
    headers=headers,
    json={"name": "RTU 9", "facility_id": facilities[0]["id"]},
)
asset.raise_for_status()
url = f"{BASE_URL}/cyber-assets/{asset.json()['id']}"
requests.patch(url, headers=headers, json={"description": "Bay 4"}).raise_for_status()
requests.delete(url, headers=headers).raise_for_status()
print(len(facilities), asset.json()["name"])
"""


async def test_the_examples_work_unchanged_but_for_base_url_and_header(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    token = (await job.lease("acme"))["token"]
    async with serving(world.edge, protocol=Connection) as address:
        base = f"{address}/proxy/acme/raptor-comply"
        example = CURL.replace("https://api.raptormaps.com", base).replace("rc_live_xxxxxxxx", token)
        by_curl = await asyncio.to_thread(subprocess.run, ["bash", "-c", example], capture_output=True, check=True)
        assert len(json.loads(by_curl.stdout)) == 3

        program = PYTHON.replace("https://api.raptormaps.com", base)
        environment = {"RAPTOR_API_KEY": token, "PATH": os.environ["PATH"], "NO_PROXY": "*"}
        by_python = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert by_python.stdout == "3 RTU 9\n", by_python.stderr

        # or with the header that every other call of the broker takes
        bearer = example.replace("X-API-Key: ", "Authorization: Bearer ")
        again = await asyncio.to_thread(subprocess.run, ["bash", "-c", bearer], capture_output=True, check=True)
        assert json.loads(again.stdout) == json.loads(by_curl.stdout)
    seen = [request for request in world.upstream.requests if request["method"] != "GET"]
    assert [request["method"] for request in seen] == ["POST", "PATCH", "DELETE"]


def test_the_example_in_the_readme_is_this_one() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert '-H "X-API-Key: $LEASE_TOKEN"' in readme
