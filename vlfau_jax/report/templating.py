"""Pages from the Jinja2 templates in templates/: self-contained, escaped, closed to the network."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vlfau_jax.report import formats
from vlfau_jax.report.theme import DARK, LIGHT

FILTERS = ("share", "percent", "number", "signed", "au_name", "unit_name", "people", "undefined")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates: every value is escaped, and a missing one is an error."""
    made = Environment(
        loader=PackageLoader("vlfau_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {name: getattr(formats, name) for name in FILTERS}
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made


@lru_cache
def script(part: str = "") -> str:
    """The script of every page, and of one kind of page the template `part` besides.

    No value of a page goes into it: its data are JSON beside it.
    """
    return environment().get_template("script.js.j2").render(part=part)


def content_security_policy(part: str = "", connect: str = "") -> str:
    """What a page may load: its own style, the one script, pictures that it holds itself.

    `connect` is what a page that a server gives may talk to, such as "'self'".
    """
    digest = base64.b64encode(hashlib.sha256(script(part).encode()).digest()).decode()
    talks = f"connect-src {connect}; " if connect else ""
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:; {talks}base-uri 'none'; form-action 'none'"
    )


def render_page(template: str, part: str = "", connect: str = "", **values: Any) -> str:
    """The page of a template as HTML; see `script` and `content_security_policy`."""
    return (
        environment()
        .get_template(template)
        .render(
            **values,
            light=LIGHT.variables,
            dark=DARK.variables,
            script=script(part),
            policy=content_security_policy(part, connect),
        )
    )
