"""The pages of Data Docs, without what Great Expectations has them load from seven servers.

Its own templates name style sheets, scripts and images of content delivery networks. These views are its
views with a few of the templates replaced by those in the folder `templates`, which name nothing outside
the page.
"""

from __future__ import annotations

import re
from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import ChoiceLoader, PackageLoader

_LINK_TO_SUITE = re.compile(r'<a\b[^>]*href="[^"]*expectations/[^"/]*\.html"[^>]*>(.*?)</a>', re.DOTALL)
"""A link to the page of a suite, which is not made: the suite is a file that its user edits."""


def _prefer_own_templates(view: Any) -> None:
    view.env.loader = ChoiceLoader([PackageLoader("mnemoduck.expectations", "templates"), view.env.loader])


class OfflinePage(DefaultJinjaPageView):
    """The page of a validation."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _prefer_own_templates(self)

    def render(self, *arguments: Any, **options: Any) -> str:
        page: str = super().render(*arguments, **options)  # type: ignore[no-untyped-call]
        return _LINK_TO_SUITE.sub(r"\1", page)


class OfflineIndexPage(DefaultJinjaIndexPageView):
    """The page that lists all validations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _prefer_own_templates(self)
