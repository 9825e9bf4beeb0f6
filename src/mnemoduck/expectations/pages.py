"""The pages of Data Docs, without what Great Expectations has them load from eight servers.

Its own templates name style sheets, scripts and images of content delivery networks. These views are its
views with a few of the templates replaced by those in the folder `templates`, which name nothing outside the page.
"""

from __future__ import annotations

from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import ChoiceLoader, PackageLoader


def _prefer_own_templates(view: Any) -> None:
    view.env.loader = ChoiceLoader([PackageLoader("mnemoduck.expectations", "templates"), view.env.loader])


class OfflinePage(DefaultJinjaPageView):
    """The page of a validation."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _prefer_own_templates(self)


class OfflineIndexPage(DefaultJinjaIndexPageView):
    """The page that lists all validations."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _prefer_own_templates(self)
