"""Client for Launchpad's web service (version devel) through launchpadlib: token, errors.

launchpadlib is the extra `launchpad`, and imported where it is used. Its answers are objects whose
attributes ask the server, so whoever uses them does it within `Launchpad.errors`. No browser is
ever opened: the token comes from a file that launchpadlib or `lp-shell` made before. Source:
launchpadlib's documentation and the WADL that it brings.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services import rest
from pipeline_steps.toolbox import http, scratch
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
    ToolMissing,
    Unreachable,
)
from pipeline_steps.toolbox.late_imports import LATE_IMPORT
from pipeline_steps.toolbox.redact import redact, register

PUBLIC = "https://api.launchpad.net/"
VERSION = "devel"
#: launchpadlib's own variable for the file with the token.
TOKEN_VARIABLE = "LP_CREDENTIALS_FILE"
NAME = "pipeline-steps"
#: Seconds that one answer may take, and how often launchpadlib asks again after 502 and 503: at
#: once, after 1 s, after 2 s.
TIMEOUT, RETRIES = 60.0, 3
_SECTION, _KEYS = "1", ("consumer_key", "access_token", "access_secret")
_MAKE_ONE = "docs/how-to/launchpad.md#a-token says how to make one"


class Token(NamedTuple):
    """text: of the file, as launchpadlib reads it. path: the file."""

    text: str
    path: Path


def read_token(path: Path) -> Token:
    """The token in a file that only its owner can read.

    Raises ConfigurationError when it is missing, or no file of launchpadlib; AccessRefused when
    others may read it.
    """
    try:
        status = path.stat()
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(
            f"the file with Launchpad's token cannot be read: {reason}",
            where=str(path),
            advice=_MAKE_ONE,
        ) from error
    if status.st_mode & 0o077:
        raise AccessRefused(
            f"other accounts may read this token of Launchpad (mode {status.st_mode & 0o777:04o})",
            where=str(path),
            advice=f"run chmod 600 {path}; if others could have read it, make a new one",
        )
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        fields = {name: parser.get(_SECTION, name) for name in _KEYS}
    except configparser.Error as error:  # its text would quote the file
        raise ConfigurationError(
            f"the file is no token of launchpadlib: it needs the section [{_SECTION}] with {', '.join(_KEYS)}",
            where=str(path),
            advice=_MAKE_ONE,
        ) from error
    register(fields["access_token"])
    register(fields["access_secret"])
    return Token(text, path)


class Launchpad:
    """The web service at `root`.

    root: its URL without the version. token: a file; "" for the one that LP_CREDENTIALS_FILE
    names. Without both it is asked anonymously, which is enough to read what is public. plain_http:
    whether http:// is allowed; on this machine it always is.
    """

    def __init__(
        self,
        root: str = PUBLIC,
        token: str = "",
        *,
        plain_http: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        variables = os.environ if environ is None else environ
        allowed = rest.may_have_token(root, Host(plain_http=plain_http))
        if not allowed or not urlsplit(root).hostname:
            raise ConfigurationError(
                "the address of Launchpad's web service is no https:// URL",
                where=http.safe_url(root),
                advice="correct review.launchpad.api_url; without TLS it needs plain_http: true in "
                "`hosts`",
            )
        self.root = f"{root.rstrip('/')}/"
        self._path = token or variables.get(TOKEN_VARIABLE, "")

    @property
    def is_anonymous(self) -> bool:
        """Whether there is no token."""
        return not self._path

    @functools.cached_property
    def service(self) -> Any:
        """launchpadlib's own object. Raises ToolMissing, ConfigurationError, AccessRefused,
        Unreachable, Temporary.
        """
        try:
            with LATE_IMPORT:
                from launchpadlib.credentials import AnonymousAccessToken, Credentials
                from launchpadlib.launchpad import Launchpad as Service
        except ImportError as error:
            raise ToolMissing(
                f"launchpadlib cannot be imported: {error}",
                where=self.root,
                advice="install the extra from a clone: pip install '/where/the/clone/is[launchpad]'",
            ) from error
        if self._path:
            credentials = Credentials.from_string(read_token(Path(self._path)).text)
        else:
            credentials = Credentials(NAME, access_token=AnonymousAccessToken())
        # Answers that it keeps between processes could be private: they last as long as this one.
        answers = scratch.Scratch("launchpad")
        weakref.finalize(self, answers.remove)
        with self.errors():
            # Without an engine for authorization: launchpadlib would open a browser for a bad
            # token.
            service = Service(
                credentials,
                None,
                None,
                service_root=self.root,
                cache=str(answers.path),
                timeout=TIMEOUT,
                version=VERSION,
            )
            service._browser.max_retries = RETRIES
            # launchpadlib keeps its connections open, and ends none.
            weakref.finalize(self, service._browser._connection.close)
            return service

    def require_token(self) -> None:
        """Raise AccessRefused when there is none: what is asked next writes."""
        if self.is_anonymous:
            raise AccessRefused(
                "no token for Launchpad is configured",
                where=self.root,
                advice=f"name its file in review.launchpad.token or {TOKEN_VARIABLE}; {_MAKE_ONE}",
            )

    @contextlib.contextmanager
    def errors(self, where: str = "") -> Iterator[None]:
        """Translate what launchpadlib raises into our errors. where: the entry that is asked."""
        from httplib2 import HttpLib2Error
        from lazr.restfulclient.errors import ResponseError, RestfulError

        place = redact(where or self.root)
        try:
            yield
        except ResponseError as error:
            raise _answer_error(error.response.status, error.content, place) from error
        except (HttpLib2Error, RestfulError) as error:
            raise Unreachable(
                f"Launchpad cannot be asked: {redact(str(error))}",
                where=place,
                advice="check the address and that this machine reaches it",
            ) from error
        except PipelineError:
            raise
        except OSError as error:
            raise http.connection_error(error, place) from error


def _answer_error(status: int, content: bytes, where: str) -> PipelineError:
    """The error for a status that is no success."""
    text = redact(http.excerpt(content))
    if status == 401:
        return AccessRefused(
            f"Launchpad refuses this login: {text}",
            where=where,
            advice="check the token, and whether its account may do this there; "
            "make a new one if it expired",
        )
    if status in (403, 404):
        return AccessRefused(
            f"Launchpad answered {status}: {text}",
            where=where,
            advice="check the address: it does not exist, or this login may not see it",
        )
    if status in http.TEMPORARY:
        return Temporary(f"Launchpad answered {status}: {text}", where=where, advice="run it again")
    return MachineError(
        f"Launchpad answered {status}: {text}",
        where=where,
        advice="check review.launchpad.api_url; the text above is Launchpad's",
    )
