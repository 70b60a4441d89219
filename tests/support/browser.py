"""Chromium for the browser tests, and pages that fail on errors and foreign requests."""

import os
from contextlib import contextmanager

import pytest

ALONE = "--disable-background-networking --disable-component-update --disable-sync"
FLAGS = f"--no-sandbox --disable-gpu --disable-quic --no-first-run {ALONE}".split()


def require(found, what):
    """Skip a test for want of something; fail where `REQUIRE_BROWSER=1`."""
    if not found:
        message = f"the browser tests need {what}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def watched_page(browser):
    """A page that must not fail, nor ask anybody but TensorBoard."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert errors == []
    ours = ("http://127.0.0.1:", "data:", "blob:", "about:")
    assert [url for url in asked if not url.startswith(ours)] == []
