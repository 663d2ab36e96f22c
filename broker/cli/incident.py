"""``broker incident``: keys that were exposed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.api import download, fail, pages
from broker.cli.output import AsJson, listing, say

app = typer.Typer(no_args_is_help=True, help="Keys that were exposed.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Exposures, oldest first."""
    columns = ["id", "organization", "credential", "version", "found_by", "where", "since", "reported_at", "rotation"]
    listing(pages("/v1/exposures"), columns, as_json)


@app.command()
def timeline(
    exposure_id: str,
    out: Annotated[Path | None, typer.Option(help="File to write; left out, standard output.")] = None,
) -> None:
    """Export who could have used the key and every use since, one JSON value a line."""
    path = f"/v1/exposures/{exposure_id}/timeline"
    if out is None:
        download(path, say)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            download(path, lambda line: file.write(line + "\n"))
    except FileExistsError:
        fail(f"{out} exists already; name another file.")
