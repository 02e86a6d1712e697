"""The page of the server, and the card of a face that it shows, from the templates of reports."""

from __future__ import annotations

from vlfau_jax.data.crop.rule import CropRule
from vlfau_jax.inference.exported_model import ExportedModel
from vlfau_jax.inference.prediction import DROP_REASONS
from vlfau_jax.report.faces import MAPS, face_view, found_note, unlabelled
from vlfau_jax.report.templating import content_security_policy, environment, render_page
from vlfau_jax.report.words import colours
from vlfau_jax.serve.answers import Result
from vlfau_jax.serve.options import ServeOptions

_PART, _CONNECT = "serve.js.j2", "'self'"


def page(model: ExportedModel, finder: CropRule, options: ServeOptions) -> str:
    """The page as HTML."""
    return render_page(
        "serve.html.j2",
        part=_PART,
        connect=_CONNECT,
        model=model,
        finder=finder,
        options=options,
        data={"faces": [], "charts": [], "most_bytes": options.most_bytes, **colours()},
    )


def page_policy() -> str:
    """The page's policy as a header, which can forbid frames, too."""
    return f"{content_security_policy(_PART, _CONNECT)}; frame-ancestors 'none'"


def card(result: Result, model: ExportedModel) -> str:
    """The cards of a picture's faces as a piece of HTML, or why there is none."""
    cards, first = [], result.found[0]
    for place, (found, explained) in enumerate(zip(result.found, result.explained, strict=False)):
        face = unlabelled("face", found.crop, explained)
        maps = {name: MAPS[name] for name in face.maps}
        cards.append((face_view(face, model.thresholds, found_note(found, place)), maps))
    reason = "" if first.reason is None else DROP_REASONS[first.reason]
    template = environment().get_template("answer.html.j2")
    return template.render(cards=cards, found=first, meaning=reason)
