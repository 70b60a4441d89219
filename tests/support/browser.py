"""Chromium flags for the browser tests, and pages that fail on errors and foreign requests."""

import os
from contextlib import contextmanager

import pytest

NO_BACKGROUND_REQUESTS = "--disable-background-networking --disable-component-update --disable-sync"
FLAGS = f"--no-sandbox --disable-gpu --disable-quic --no-first-run {NO_BACKGROUND_REQUESTS}".split()


def require(available, requirement):
    """Skip the test unless a requirement is available; fail instead if `REQUIRE_BROWSER=1`."""
    if not available:
        message = f"the browser tests need {requirement}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def watched_page(browser):
    """Open a page that must raise no errors and send requests to TensorBoard alone."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(30_000)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    page.close()
    assert errors == []
    local = ("http://127.0.0.1:", "data:", "blob:", "about:")
    assert [url for url in requests if not url.startswith(local)] == []
