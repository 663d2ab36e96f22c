"""How commands of the server's side read settings and end."""

from __future__ import annotations

import errno
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

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
# What standard output says if its disk is full or its reader has gone; a database says neither so.
_OF_STREAMS = frozenset({errno.ENOSPC, errno.EPIPE})


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
        _fail_of_machine(error)
    except Exception as error:
        if faults.is_forbidden(error):
            fix = "name a role that may, such as the schema's owner for `broker migrate`"
            fail(f"BROKER_DATABASE_URL: this role may not do that ({faults.said(error)}); {fix}.")
        if faults.is_away(error):
            fail(f"BROKER_DATABASE_URL: the database can't be used: {faults.said(error)}.")
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail_of_machine(error: OSError) -> NoReturn:
    """End the command with what failed: a file, the database, or what it prints to."""
    if error.filename:
        fail(f"{error.filename}: {error.strerror}; the broker needs it, so make it usable for its user.")
    if error.errno in _OF_STREAMS:
        raise error
    if isinstance(error, TimeoutError):
        fail("BROKER_DATABASE_URL: the database did not answer in time.")
    fail(f"BROKER_DATABASE_URL: the database can't be reached ({type(error).__name__}: {error.strerror or ''}).")
