"""How the one who asked is told; NOTIFIERS is the table.

A notifier's module is imported when a notice is first sent by it, so the web process, which only stores
notices, has no smtplib in it.
"""

import importlib

from ckanpackager.notify.notice import Notice
from ckanpackager.settings import Settings

__all__ = ["NOTIFIERS", "Notice", "notify"]

# Each module has a function notify(settings, notice), which returns when the notice has been handed over.
NOTIFIERS = {
    "mail": "ckanpackager.notify.mail",
}


def notify(name: str, settings: Settings, notice: Notice) -> None:
    """Tell by the notifier *name*. Raises MailDelayedError where to try again helps, MailError where not."""
    importlib.import_module(NOTIFIERS[name]).notify(settings, notice)
