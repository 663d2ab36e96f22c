"""The page's script makes the same bytes as the broker: links, codes, proofs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route

from tests.page.conftest import Visit

SOURCES = Path(__file__).parents[2] / "broker/web/pages/script/src"
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "links.json").read_text())["vectors"]
MADE = """async ({secret, public_key, context, nonce, route, body}) => {
    const link = await import("/static/src/link.js"), proof = await import("/static/src/proof.js");
    const {fromBase64Url, toBase64Url} = await import("/static/src/bytes.js");
    const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
    const hex = (data) => [...data].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const recipient = await link.recipientOf({public_key: toBase64Url(bytes(public_key)), context});
    const text = await link.linkTo(bytes(secret), recipient), {code} = await link.takeCode(window.code);
    const key = await proof.keyOf(text), codeKey = await proof.keyOf(code);
    const next = await link.linkTo(await proof.nextSecret(codeKey, context.intake, recipient), recipient);
    return {
        recipient: hex(recipient), link: text, code, link_key: hex(key), code_key: hex(codeKey), next_link: next,
        header: (await proof.header(key, nonce, route, body))["X-Broker-Proof"],
        constant_proof: await link.constantProof(code),
        next_recipient: hex(await proof.nextRecipient(codeKey, nonce, recipient)),
        found: await link.find(`%23${text}%3E`), is_for: link.isFor(text, recipient),
        other: link.isFor(text, recipient.map((byte) => byte ^ 1)),
        cut: await link.find(text.slice(0, 53)),
        fresh: (await link.takeCode(await link.newCode())).code.length,
    };
}"""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["context"]["provider"])
async def test_the_script_agrees_on_the_vectors(visit: Visit, vector: dict[str, Any]) -> None:
    async def source(route: Route) -> None:
        text = (SOURCES / route.request.url.rpartition("/")[2]).read_text()
        await route.fulfill(body=text, content_type="text/javascript")

    await visit.page.route("**/static/src/*", source)
    await visit.page.goto(f"{visit.url}/status/int_{'0' * 32}")
    await visit.page.evaluate("(code) => { window.code = code }", vector["code"])
    made = await visit.page.evaluate(MADE, vector)
    wanted = ("recipient", "link", "code", "link_key", "code_key", "next_link", "header", "constant_proof")
    assert {name: made[name] for name in wanted} == {name: vector[name] for name in wanted}
    assert made["next_recipient"] == vector["next_recipient"]
    assert (made["found"], made["is_for"], made["other"]) == (vector["link"], True, False)
    assert (made["cut"], made["fresh"]) == ("", 32)
