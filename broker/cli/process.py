"""How commands of the server's side read settings and end."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop

from broker import schema
from broker.base import faults
from broker.base.errors import BrokerError
from broker.base.logs import configure
from broker.cli.failing import fail
from broker.config import Settings, SettingsUnusable, load
from broker.formats.head import Unreadable
from broker.keystore.keystore import CannotOpen
from broker.keystore.local import MasterKeysUnusable

T = TypeVar("T")


def settings_of_process() -> Settings:
    """The settings of this process; if they are unusable, it ends and names the fix."""
    try:
        settings = load()
    except SettingsUnusable as error:
        fail(str(error))
    configure(settings.log_level)
    return settings


def run_or_fail(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns.

    If something keeps the broker from starting, the command ends and names the fix instead of showing a trace.
    """
    try:
        return uvloop.run(work)
    except (schema.SchemaUnusable, MasterKeysUnusable, SettingsUnusable, Unreadable) as error:
        fail(str(error))
    except BrokerError as error:
        fail(error.public)
    except CannotOpen:
        fail("The master keys that are loaded did not seal this database; restore the right master key file.")
    except OSError as error:
        if error.filename:
            fail(f"{error.filename}: {error.strerror}; the broker needs it, so make it usable for its user.")
        fail(f"BROKER_DATABASE_URL: the database can't be reached ({type(error).__name__}: {error.strerror or ''}).")
    except Exception as error:
        if faults.is_forbidden(error):
            fix = "name a role that may, such as the schema's owner for `broker migrate`"
            fail(f"BROKER_DATABASE_URL: this role may not do that ({faults.said(error)}); {fix}.")
        if faults.is_away(error):
            fail(f"BROKER_DATABASE_URL: the database can't be used: {faults.said(error)}.")
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
