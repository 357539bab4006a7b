"""The web page: what a browser gets, and that it keeps to its own host and its own policy."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from videosvc.api.page import FOLDER, add_page


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


PAGE = Elements((FOLDER / "index.html").read_text()).found
SCRIPT = (FOLDER / "app.js").read_text()


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    add_page(app)
    return TestClient(app)


def test_it_is_there_with_all_it_needs(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    links = [attributes.get("src") or attributes.get("href") for tag, attributes in PAGE if tag in ("script", "link")]
    assert len(links) == 3
    for link in links:
        assert link is not None and client.get(link).status_code == 200


def test_its_policy_allows_nothing_inline_and_no_other_host(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not [tag for tag, attributes in PAGE if any(name.startswith("on") or name == "style" for name in attributes)]
    assert not [tag for tag, attributes in PAGE if tag == "style" or (tag == "script" and "src" not in attributes)]
    for file in FOLDER.iterdir():
        urls = re.findall(r"https?://[^\s\"']+", file.read_text())
        assert [url for url in urls if url != "http://www.w3.org/2000/svg"] == []
    assert "innerHTML" not in SCRIPT and "eval(" not in SCRIPT


def test_people_who_cannot_see_it_can_use_it() -> None:
    ids = {attributes["id"] for _, attributes in PAGE if "id" in attributes}
    labelled = {attributes.get("for") for tag, attributes in PAGE if tag == "label"}
    fields = [attributes for tag, attributes in PAGE if tag in ("input", "select", "textarea")]
    assert fields and all(field["id"] in labelled for field in fields)
    assert dict(PAGE)["html"]["lang"] == "en"
    assert {"status", "alert"} <= {attributes.get("role") for _, attributes in PAGE}
    assert any("aria-label" in attributes for tag, attributes in PAGE if tag == "progress")
    assert set(re.findall(r'at\("([\w-]+)"\)', SCRIPT)) <= ids


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_its_script_is_javascript() -> None:
    done = subprocess.run(["node", "--check", str(FOLDER / "app.js")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
