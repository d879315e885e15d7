"""The dashboard in a real browser: what only a browser enforces (H-13). Skipped where there is no Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright
from served_api import OPS_TOKEN, Api

from hq_api.dashboard.session import COOKIE

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP hq.lan 127.0.0.1"]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script><style>*{color:red}</style>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Playwright's own browser, else the system's."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = own if Path(own).exists() else shutil.which("chromium") or shutil.which("google-chrome")
        if path is None:
            pytest.skip("no Chromium here; `playwright install chromium` brings one")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, api: Api) -> Iterator[Page]:
    """A page on which an operator has signed in by the form."""
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, api.url)
        yield page


def sign_in(page: Page, address: str) -> None:
    page.goto(f"{address}/dashboard/corporation")
    page.get_by_label("Operator's token").fill(OPS_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/corporation")


def test_nothing_a_factory_says_runs_or_breaks_the_policy(api: Api, page: Page) -> None:
    said: list[str] = []

    def hear_console(message: ConsoleMessage) -> None:
        said.append(message.text)

    def hear_dialog(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("console", hear_console)
    page.on("dialog", hear_dialog)
    beat = {"factory_id": HOSTILE, "capabilities": [HOSTILE] * 9, "version": HOSTILE}
    api.ops.post("/api/v1/factory/registrations", json=beat)
    api.sql("UPDATE corporation.factories SET metadata = json_build_object('hostname', :host)", host=HOSTILE)
    page.reload()
    page.get_by_text("3 more").click()

    assert page.locator("bdi.name", has_text=HOSTILE).count() == 1
    assert page.locator("script, style, iframe").count() == 0
    assert said == []


def test_scripts_cannot_see_the_session_and_signing_out_ends_it(api: Api, page: Page) -> None:
    assert page.evaluate("document.cookie") == ""
    assert [cookie["name"] for cookie in page.context.cookies() if cookie["httpOnly"]] == [COOKIE]
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/dashboard/login")
    page.goto(f"{api.url}/dashboard")

    assert page.title() == "Sign in · Corporation"


def test_a_form_on_another_site_neither_signs_in_nor_out(api: Api, page: Page) -> None:
    """The other site is the same server under its other name: for a browser, a stranger."""
    other = page.context.new_page()
    other.goto(f"http://localhost:{api.port}/api/v1/health")
    for path, told in (("login", "The form did not come from this page"), ("logout", "Unauthorized")):
        other.set_content(
            f'<form method="post" action="{api.url}/dashboard/{path}"><input name="token" value="{OPS_TOKEN}"></form>'
        )
        with other.expect_navigation():
            other.evaluate("document.forms[0].submit()")
        assert told in other.content()
        other.goto(f"http://localhost:{api.port}/api/v1/health")
    page.reload()

    assert page.title() == "Corporation · Corporation"


def test_without_https_a_browser_proves_itself_by_its_origin(api: Api, page: Page) -> None:
    """On a plain address that is not this machine's own, browsers send no Sec-Fetch-Site."""
    address = f"http://hq.lan:{api.port}"
    with page.expect_request(lambda request: request.method == "POST") as posted:
        sign_in(page, address)

    headers = posted.value.all_headers()
    assert ("sec-fetch-site" in headers, headers["origin"]) == (False, address)
    assert page.title() == "Corporation · Corporation"


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_no_page_is_wider_than_the_screen(api: Api, page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    api.ops.post("/api/v1/factory/registrations", json={"factory_id": "w" * 200, "capabilities": ["l" * 200]})
    for path in ("/dashboard", "/dashboard/corporation"):
        page.goto(api.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
