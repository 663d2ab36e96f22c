"""Environment variables that the commands of operators and jobs read.

They begin as the server's settings do.  So the server knows them, and refuses whatever else begins so.
"""

from __future__ import annotations

from typing import Final

URL: Final = "BROKER_URL"
TOKEN: Final = "BROKER_TOKEN"  # noqa: S105 - the name of one
PROFILE: Final = "BROKER_PROFILE"
IDENTITY: Final = "BROKER_IDENTITY"
CLIENT_PROXY: Final = "BROKER_CLIENT_PROXY"
WORKLOAD: Final = "BROKER_WORKLOAD"
ID_TOKEN: Final = "BROKER_ID_TOKEN"  # noqa: S105 - the name of one
OF_COMMANDS: Final = frozenset({URL, TOKEN, PROFILE, IDENTITY, CLIENT_PROXY, WORKLOAD, ID_TOKEN})
