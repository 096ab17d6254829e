"""The table of URLs."""

import logging
from pathlib import Path

from tornado.web import Application, RequestHandler

from ckanpackager.database import DatabaseThread
from ckanpackager.job import TASKS
from ckanpackager.jobs.queue import JobQueue
from ckanpackager.settings import Settings
from ckanpackager.stats import Statistics
from ckanpackager.web import api, downloads, pages

log = logging.getLogger(__name__)

_JOB = r"/jobs/([0-9a-f]{32})"


def make_app(
    settings: Settings, queue: JobQueue, statistics: Statistics, database: DatabaseThread
) -> Application:
    """The web application, with what its handlers ask."""
    return Application(
        [
            (r"/", pages.Home),
            (r"/status", api.Status),
            *((f"/{task}", api.Package, {"task": task}) for task in TASKS),
            (r"/clear_caches", api.ClearCaches),
            (r"/statistics", api.Totals),
            (r"/statistics/requests", api.Requests),
            (r"/statistics/errors", api.Errors),
            (r"/jobs", api.Jobs),
            (_JOB, pages.JobPage),
            (_JOB + r"/retry", api.Retry),
            (_JOB + r"/cancel", pages.Cancel),
            (r"/download/([A-Za-z0-9_-][A-Za-z0-9_.-]*)", downloads.Download),
        ],
        default_handler_class=pages.Nowhere,
        template_path=str(Path(__file__).parent / "templates"),
        log_function=_log_request,
        config=settings,
        queue=queue,
        statistics=statistics,
        database=database,
    )


def _log_request(handler: RequestHandler) -> None:
    request = handler.request
    seconds = request.request_time()
    log.debug("%s %s %d in %.3f s", request.method, request.path, handler.get_status(), seconds)
