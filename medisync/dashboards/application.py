"""The pages' server: Voila with a template of our own, without a tree, and with the reports beside the pages."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tornado.web
from jupyter_server.base.handlers import JupyterHandler
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.treehandler import TornadoVoilaTreeHandler

from medisync import __version__
from medisync.access.addresses import public_host
from medisync.access.jupyter import PagesAuthorizer, PagesIdentity, record_download
from medisync.access.page_audience import AUDIENCE_HEADER, TRIGGER_HEADER
from medisync.access.permissions import Permission
from medisync.access.principal import Audience
from medisync.dashboards import asking, server
from medisync.dashboards.parts import stylesheet
from medisync.dashboards.reading import report_path
from medisync.dashboards.refusing import ErrorPage, NowhereHandler
from medisync.fastlane import kernels as fork_kernels
from medisync.reports.pack import kept_packs
from medisync.reports.page import quality_path
from medisync.settings import Settings, load_settings

CULL_AFTER_SECONDS = 25
"""A kernel nobody is connected to for so long belongs to a page that is closed (which usually says so itself)."""

CULL_LOOK_SECONDS = 10

PONG_MILLISECONDS = 75_000
"""A browser that answered none of the server's pings, one every 30 seconds, for so long is gone.

Before its first ping Jupyter takes the connection's beginning for the last answer: with the interval itself as the
limit it ended every connection after 30 seconds. Tornado reads the same number for its own pings, which are not in use
here, and says once that it should not exceed the interval."""

ICON = server.SHARE / "voila" / "templates" / server.TEMPLATE / "static" / "icon.svg"


def configuration(settings: Settings) -> Config:
    """All that Voila is told. Files in a home or a working directory are not asked."""
    return Config(
        {
            "Voila": {
                "ip": "127.0.0.1",
                "port": settings.pages_port,
                "port_retries": 0,  # a taken port is an error, not a reason to listen where nobody looks
                "open_browser": False,
                "root_dir": str(server.dashboards_folder(settings)),
                "config_file_paths": [],
                "connection_dir_root": "/tmp",  # noqa: S108 - a private folder in it; a socket's path holds 107 bytes
                "identity_provider_class": PagesIdentity,
                "authorizer_class": PagesAuthorizer,
                "log_level": "ERROR",  # a warning a visit would say that our own notebook is not signed
                "tornado_settings": {
                    "default_handler_class": NowhereHandler,
                    "ws_ping_timeout": PONG_MILLISECONDS,
                    "allow_remote_access": False,  # no other name may be made to point here
                    "local_hostnames": ["localhost", *public_host(settings.public_pages_url)],
                    "headers": {"Content-Security-Policy": content_security_policy(settings)},
                },
            },
            "VoilaConfiguration": {
                "template": server.TEMPLATE,
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "preheat_kernel": True,
                "default_pool_size": 1,
                "show_tracebacks": False,
                "file_allowlist": [],
                "http_header_envs": [AUDIENCE_HEADER, TRIGGER_HEADER],
                "resources": {
                    "medisync": {
                        "css": stylesheet(),
                        "version": __version__,
                        "pages": server.page_links(settings),
                    },
                },
            },
            "VoilaKernelManager": {
                "preheat_denylist": [rf"^(?!(.*/)?{re.escape(server.OVERVIEW)}$)"],  # the others are forked in a moment
            },
            "MappingKernelManager": {
                "kernel_manager_class": "medisync.dashboards.kernels.PageKernelManager",
                "cull_idle_timeout": CULL_AFTER_SECONDS,
                "cull_interval": CULL_LOOK_SECONDS,
                "cull_connected": False,
            },
            "PageKernelManager": {"fork_socket": str(fork_kernels.socket_path(settings))},
            "KernelManager": {"transport": "ipc"},  # files of the owner, where TCP could be read by every local user
            # Six results at once are more than the default lets through, and what it holds back is lost.
            "ZMQChannelsWebsocketConnection": {"limit_rate": False},
        }
    )


def content_security_policy(settings: Settings) -> str:
    """What a page may load: nothing from any other address, and no script but our own files."""
    local = [f"ws://{host}:{settings.pages_port}" for host in ("127.0.0.1", "localhost")]
    sockets = " ".join([*local, *(f"wss://{host}" for host in public_host(settings.public_pages_url))])
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            f"connect-src 'self' {sockets}",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        ]
    )


class Pages(Voila):  # type: ignore[misc,unused-ignore]
    """Voila over the folder of dashboards; its root is the overview."""

    workspace: Settings

    def listen(self) -> None:
        """As Voila does, and compressed: its settings come too late for tornado's own switch."""
        self.app.add_transform(tornado.web.GZipContentEncoding)
        super().listen()

    def init_handlers(self) -> list[Any]:
        """Ours first: tornado takes the first that fits."""
        of_voila = [one for one in super().init_handlers() if one[1] is not TornadoVoilaTreeHandler]
        page = {
            "template_paths": self.template_paths,
            "config": self.config,
            "voila_configuration": self.voila_configuration,
        }
        workspace = {"settings_of_workspace": self.workspace}
        ours = [
            (rf"/{server.HEALTH_PATH}", HealthHandler),
            (r"/favicon\.ico", IconHandler),
            (r"/reports/(r[0-9A-Za-z-]+)", ReportHandler, {**workspace, "path_of": report_path}),
            (r"/deliveries/(d[0-9A-Za-z-]+)", ReportHandler, {**workspace, "path_of": quality_path}),
            (r"/packs/([0-9A-Za-z-]+)/pack\.(html|pdf)", PackHandler, workspace),
            (rf"/{asking.ASK_PATH}", asking.AskHandler, workspace),
            (rf"/{asking.STATUS_PATH}", asking.StatusHandler, workspace),
            (r"/()", PageHandler, {**page, "notebook_path": server.OVERVIEW}),
            (r"/voila/render/(.*)", PageHandler, page),
        ]
        return [*ours, *of_voila, (r"/(\w+)", ShortAddressHandler, workspace)]


class PageHandler(TornadoVoilaHandler):  # type: ignore[misc,unused-ignore]
    """A page whose script may end its kernel when it is closed: for that it needs the cookie set here."""

    @tornado.web.authenticated
    async def get(self, path: str | None = None) -> None:
        _ = self.xsrf_token  # asking for it sets the cookie
        # What the page's kernel is told of its viewer is ours to say: a header that came with the request is gone.
        principal = self.medisync_principal
        self.request.headers[AUDIENCE_HEADER] = principal.audience
        self.request.headers[TRIGGER_HEADER] = "yes" if principal.may(Permission.TRIGGER) else "no"
        await super().get(path)


class ShortAddressHandler(ErrorPage):
    """``/forecasts`` leads to that page, with what was chosen in the address."""

    def initialize(self, settings_of_workspace: Settings) -> None:
        self._workspace = settings_of_workspace

    def get(self, name: str) -> None:
        """The page itself asks who it is."""
        link = next((one for one in server.page_links(self._workspace) if one.name == name), None)
        if link is None:
            raise tornado.web.HTTPError(404, "There is no such page")
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"/{link.path}{query}")


class HealthHandler(tornado.web.RequestHandler):
    """Whether the server listens."""

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.write({"status": "ok", "version": __version__})


def _only_for(audience: Audience, handler: JupyterHandler, on: str) -> None:
    """Whole results are not for everybody; the pages show the others what was released. Either way it is recorded."""
    may = audience in ("released", handler.medisync_principal.audience)  # type: ignore[attr-defined,unused-ignore]
    record_download(handler, on, allowed=may)
    if not may:
        raise tornado.web.HTTPError(403, "Your role sees released results only; they are on the pages")


class IconHandler(tornado.web.RequestHandler):
    """The picture in the browser's tab; browsers ask for it on pages that name none, such as the reports."""

    def get(self) -> None:
        self.set_header("Content-Type", "image/svg+xml")
        self.set_header("Cache-Control", "max-age=86400")
        self.write(ICON.read_bytes())


class ReportHandler(ErrorPage, JupyterHandler):
    """The self-contained report of one run, or of one delivery's quality."""

    def initialize(self, settings_of_workspace: Settings, path_of: Callable[[Settings, str], Path]) -> None:
        self._workspace = settings_of_workspace
        self._path_of = path_of

    @tornado.web.authenticated
    def get(self, name: str) -> None:
        _only_for("full", self, f"report of {'run' if name.startswith('r') else 'delivery'} {name}")
        path = self._path_of(self._workspace, name)
        if not path.is_file():
            raise tornado.web.HTTPError(404, "There is no report of %s", name)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.write(path.read_bytes())


class PackHandler(ErrorPage, JupyterHandler):
    """A report pack, as a page or as PDF."""

    def initialize(self, settings_of_workspace: Settings) -> None:
        self._workspace = settings_of_workspace

    @tornado.web.authenticated
    def get(self, name: str, kind: str) -> None:
        found = next((one for one in kept_packs(self._workspace) if one.name == name), None)
        _only_for("full" if found is None else found.audience, self, f"pack {name} ({kind})")
        if found is None:
            raise tornado.web.HTTPError(404, "There is no such pack")
        self.set_header("Content-Type", "application/pdf" if kind == "pdf" else "text/html; charset=utf-8")
        self.write((found.pdf if kind == "pdf" else found.html).read_bytes())


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; ``arguments`` are Voila's own options and win over ours."""
    settings = load_settings()
    os.environ.update(server.environment(settings))
    logging.getLogger("tornado.general").addFilter(lambda record: "websocket_ping_timeout" not in record.getMessage())
    settings.make_folders()
    Path(os.environ["IPYTHONDIR"]).mkdir(parents=True, exist_ok=True)
    pages = Pages.instance(config=configuration(settings))  # the one whose log the parts of Voila write to
    pages.workspace = settings
    pages.initialize(sys.argv[1:] if arguments is None else arguments)
    pages.start()


if __name__ == "__main__":
    main()
