"""Where the doors are for a browser, and which addresses a login may lead back to."""

from __future__ import annotations

from urllib.parse import urlsplit

from medisync.errors import SettingsError
from medisync.settings import Settings


def host_of(header: str | None) -> str:
    """The host a browser asked for, without its port; "127.0.0.1" when it named none."""
    try:
        return urlsplit(f"//{header}").hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"


def api_address(settings: Settings, host: str) -> str:
    return _address(settings.public_url, host, settings.api_port)


def pages_address(settings: Settings, host: str) -> str:
    return _address(settings.public_pages_url, host, settings.pages_port)


def lab_address(settings: Settings, host: str) -> str:
    return _address(settings.public_lab_url, host, settings.lab_port)


def origins(settings: Settings, host: str) -> list[str]:
    """The origins of all doors, as a browser on ``host`` sees them."""
    doors = (api_address, pages_address, lab_address)
    parts = [urlsplit(address(settings, host)) for address in doors]
    return list(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))


def safe_next(settings: Settings, host: str, wanted: str | None) -> str:
    """``wanted`` when it is a path of ours or an address of one of the doors on the same host; else the start page.

    So a link to the login page cannot be made to lead to another site afterwards.
    """
    if not wanted or len(wanted) > 2000 or "\\" in wanted or not wanted.isprintable() or " " in wanted:
        return "/"
    if wanted.startswith("/"):
        return wanted if not wanted.startswith("//") else "/"
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    return wanted if f"{parts.scheme}://{parts.netloc}" in origins(settings, host) else "/"


def require_usable(settings: Settings) -> None:
    """Raises SettingsError for a public address that is none, and for addresses on several hosts: the login's cookie
    belongs to one."""
    hosts = set()
    for name in ("public_url", "public_pages_url", "public_lab_url"):
        given = getattr(settings, name)
        try:
            parts = urlsplit(given)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        except ValueError:
            is_usable = False
        if given and (not is_usable or parts.query or parts.fragment or parts.username):
            raise SettingsError(
                f"MEDISYNC_{name.upper()} is no address of a door.",
                hint="It has the form https://host or https://host:port.",
            )
        if given:
            hosts.add(parts.hostname)
    if len(hosts) > 1:
        raise SettingsError(
            "The public addresses are on several hosts.", hint="One login needs one host; their ports may differ."
        )


def is_secure(settings: Settings) -> bool:
    """Whether browsers reach us through TLS: then cookies travel on nothing else."""
    return settings.public_url.startswith("https://")


def public_host(public: str) -> list[str]:
    """The host of a public address, as a list that is empty when there is none: a name a server answers to."""
    host = urlsplit(public).hostname
    return [host] if host else []


def _address(public: str, host: str, port: int) -> str:
    if public:
        return public.rstrip("/") + "/"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
