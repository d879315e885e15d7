"""The user in a broker's address: whether one is named, and how one is put there."""

from urllib.parse import quote, urlsplit


def names_somebody(url: str) -> bool:
    """Whether the address holds a user or a password: then everybody who is told it is that one user."""
    return "@" in urlsplit(url).netloc


def with_user(url: str, user: str, password: str) -> str:
    """`url` for `user`, whoever it named before; both are written as %XX where they would be misread."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}").geturl()
