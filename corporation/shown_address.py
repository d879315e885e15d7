"""What of an address may be written down or shown: never its password, and of one nobody can read, nothing."""

from urllib.parse import urlsplit


def without_password(address: str) -> str:
    """`address` as it may be written down: the user stays, the password goes, and of one that is none, nothing stays.

    Doing it again changes nothing.
    """
    return _with(address, "") if address else ""


def shown(address: str) -> str:
    """`address` as a person may see it: *** in place of its password, and of an odd one no part at all."""
    return _with(address, ":***") or ("an address that cannot be read" if address else "")


def _with(address: str, instead: str) -> str:
    try:
        parts = urlsplit(address)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else (parts.hostname or "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    # A password that holds a slash ends up behind the host; nobody then knows where it begins.
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or not parts.scheme:
        return ""
    if parts.password is None:
        return address
    before = f"{parts.username or ''}{instead}"
    return parts._replace(netloc=f"{before}@{host}{port}" if before else f"{host}{port}").geturl()
