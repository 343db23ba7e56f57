"""Which proxy a URL is reached by, as Go's programs read the environment, helm and crane among them.

Source: golang.org/x/net/http/httpproxy. Python's urllib and requests know neither ports nor, the
former, networks in NO_PROXY. Beyond Go, ALL_PROXY counts where the scheme has no proxy of its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_PORTS = {"http": "80", "https": "443"}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The URL of the proxy for a URL, None where it is reached without one.

    This machine itself never is reached by a proxy.

    >>> names = {"HTTP_PROXY": "proxy:3128", "NO_PROXY": "10.0.0.0/8,.example.com"}
    >>> [proxy_for(f"http://{host}/", names) for host in ("10.1.2.3", "a.example.com", "b.org")]
    [None, None, 'http://proxy:3128']
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    proxy = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not proxy or not parts.hostname:
        return None
    port = str(parts.port or _PORTS.get(scheme, ""))
    if _is_direct(parts.hostname.lower(), port, _variable(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _variable(environ: Mapping[str, str], name: str) -> str:
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return environ.get(name, "")  # of a CGI program the client sets HTTP_PROXY (CVE-2016-5385)
    return environ.get(name.upper()) or environ.get(name, "")


def _is_direct(host: str, port: str, no_proxy: str) -> bool:
    """Whether `host` is this machine, or one of those that NO_PROXY lists."""
    if is_loopback(host):
        return True
    address = _address(host)
    entries = (entry.strip().lower() for entry in no_proxy.split(","))
    return any(_matches(entry, host, address, port) for entry in entries if entry)


def _matches(entry: str, host: str, address: _Address | None, port: str) -> bool:
    """Does an entry of NO_PROXY name the host: "*", a network, an address or a domain, the last two
    with or without a port? A domain never names an address.
    """
    if entry == "*":
        return True
    if network := _network(entry):
        return address is not None and address in network
    name, asked_port = _split(entry)
    if not name or asked_port not in ("", port):
        return False
    if (listed := _address(name)) or address:
        return listed == address
    name = _in_ascii(name[1:] if name.startswith("*.") else name)
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def _network(entry: str) -> _Network | None:
    """The network that an entry is, by the number of its bits: Go knows no masks like 255.0.0.0."""
    bits = entry.partition("/")[2]
    if not re.fullmatch(r"[0-9]{1,3}", bits):
        return None
    try:
        network = ipaddress.ip_network(entry, strict=False)
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        return ipaddress.ip_network(f"{mapped}/{int(bits) - 96}") if mapped else network
    except ValueError:
        return None  # a domain for Go, which no host can have


def _split(entry: str) -> tuple[str, str]:
    """Host and port of an entry; "" for no port. An IPv6 address with a port is in brackets, and
    only that.
    """
    name, separator, port = entry.rpartition(":")
    if separator and name.startswith("[") and name.endswith("]"):
        return name[1:-1], port
    return (name, port) if separator and ":" not in name else (entry, "")


def _in_ascii(name: str) -> str:
    """A domain as URLs have it, with its letters beyond ASCII in punycode."""
    try:
        return ".".join(label.encode("idna").decode() for label in name.split("."))
    except UnicodeError:
        return name


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
