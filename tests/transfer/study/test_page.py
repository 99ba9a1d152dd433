"""A participant in a browser: 20 answers, while the server is killed twice."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from studies import small_study

from transfer.study.store import Store
from transfer.study.study import ANSWERS_NAME

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]


class Server:
    """The command that serves a study, in a process of its own."""

    def __init__(self, folder):
        self._folder, self.port = folder, 0
        self.start()

    def start(self):
        words = ["-m", "transfer", "study", "serve", str(self._folder), "--port", str(self.port)]
        self.process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", self.address)[1])

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def study(tmp_path):
    return small_study(tmp_path, practice=2, tests=18)


@pytest.fixture
def server(study):
    server = Server(study.folder)
    yield server
    if server.process.poll() is None:
        server.kill()


@pytest.fixture
def context():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
        browser.close()


@pytest.mark.timeout(120)
def test_twenty_answers_with_the_server_killed_in_between_are_all_kept(study, server, context):
    asked, trouble = [], []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(server.address)
    page.get_by_role("button", name="Start").click()
    ways = {
        "left": (
            lambda: page.keyboard.press("1"),
            lambda: page.keyboard.press("ArrowLeft"),
            lambda: page.get_by_role("button", name=re.compile("1.*fake")).tap(),
        ),
        "right": (
            lambda: page.keyboard.press("2"),
            lambda: page.keyboard.press("ArrowRight"),
            lambda: page.get_by_role("button", name=re.compile("2.*fake")).click(),
        ),
    }
    said = []
    for position in range(20):
        page.wait_for_selector("#pair.asking")
        counted = f"Practice pair {position + 1} of 2" if position < 2 else f"Pair {position - 1} of 18"
        assert page.get_by_text(counted, exact=True).is_visible()
        assert page.get_by_role("status").filter(has_text="Which one is fake?").is_visible()
        if position == 7:  # the answer finds no server, and waits for it
            server.kill()
        side = ("left", "right", "right")[position % 3]
        ways[side][position % 3]()
        said.append(side)
        if position == 7:
            page.get_by_role("alert").filter(has_text="The server does not answer").wait_for()
            server.start()
        if position == 13:  # the answer is taken, and the server dies at once
            page.wait_for_selector("#pair.asking, #pair.showing")
            server.kill()
            server.start()
            page.reload()
            page.get_by_text("You have answered 14 of 20 pairs").wait_for()
            page.get_by_role("button", name="Go on").click()
        if position < 2:
            feedback = page.get_by_text(re.compile("photo [12] was fake"))
            feedback.wait_for()
            page.get_by_role("button", name=("Next pair", "Begin the test")[position]).press("Enter")
    page.get_by_role("heading", name="Thank you").wait_for()
    assert not trouble
    assert all(url.startswith((server.address, "data:")) for url in asked)
    server.kill()
    store = Store(study.folder / ANSWERS_NAME, study.id)
    answers = store.answers()
    store.close()
    assert [answer.fake for answer in answers] == said
    assert {answer.participant for answer in answers} == {0}
    assert answers[14].views == 2
