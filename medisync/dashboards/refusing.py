"""What somebody sees of a page that is not there or not for them."""

from __future__ import annotations

from http.client import responses
from typing import Any

import tornado.web


class ErrorPage(tornado.web.RequestHandler):
    """A handler whose errors are shown with the template of our own.

    Jupyter's is for its own pages: it asks for its files, which this server does not have, and the answer stays empty.
    """

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What our own code says of it is shown; of any other error the number alone."""
        error = kwargs.get("exc_info", (None, None))[1]
        message = error.get_message() if isinstance(error, tornado.web.HTTPError) else ""
        page = self.settings["voila_jinja2_env"].get_template("error.html")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            page.render(
                status_code=status_code,
                status_message=responses.get(status_code, "Unknown error"),
                message=message,
                base_url=self.settings["base_url"],
            )
        )


class NowhereHandler(ErrorPage):
    """Addresses that lead nowhere."""

    def prepare(self) -> None:
        raise tornado.web.HTTPError(404)
