"""A job in Python: job.py IDENTITY ORGANIZATION PROVIDER PATH."""

import sys
from pathlib import Path

import requests
from keybroker import CallFailed, Client, read_identity


def main(identity: str, organization: str, provider: str, path: str) -> None:
    """Print what the upstream answers at ``path``."""
    with Client(read_identity(Path(identity))) as client:
        # A job that calls for longer than a lease lasts writes `with client.upstream(…) as acme:` in the place of this.
        lease = client.lease(organization, provider, purpose="an example in Python")
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy that the environment happens to name
                headers = {"Authorization": f"Bearer {lease.token}"}
                answer = session.get(lease.proxy_url + path, headers=headers, timeout=60)
            if not answer.ok:
                sys.exit(f"{answer.status_code} {answer.text}")
            print(answer.text)
        finally:
            client.end(lease.id)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CallFailed as error:
        sys.exit(f"{error} [{error.code}]")
