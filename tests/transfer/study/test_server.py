import asyncio
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from studies import Client

from transfer.study.server import MAX_BODY, _secret, study_app
from transfer.study.store import Store

ORIGIN = "http://127.0.0.1:8000"
OWN = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
KEY = "0123456789abcdef" * 2
#: What posts say that do not come from the page.
FOREIGN_HEADERS = [
    {},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
]
#: Bodies that are no answer.
WRONG_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"[" * 900,
    b'{"position": 0}',
    b"\xff\xfe",
    b'{"position": 0, "fake": "left", "milliseconds": 1, "more": 1}',
    b'{"position": true, "fake": "left", "milliseconds": 1}',
    b'{"position": 0, "fake": "middle", "milliseconds": 1}',
    b'{"position": 0, "fake": ["left"], "milliseconds": 1}',
    b'{"position": 0, "fake": "left", "milliseconds": -1}',
    b'{"position": 0, "fake": "left", "milliseconds": 1e400}',
    b'{"position": 0, "fake": "left", "milliseconds": NaN}',
    b'{"position": 99999999999999999999, "fake": "left", "milliseconds": 1}',
]
#: Paths that might lead to a file.
WRONG_PATHS = [
    "/study.json",
    "/answers.sqlite",
    "/pictures",
    "/pictures/",
    "/s/../study.json",
    "/..%2fstudy.json",
    "/%2e%2e/study.json",
    "/s/%2e%2e/state",
    "/s/x/pair/../../../study.json",
    "/s/x/pair/-1",
    "/s/x/pair/1.5",
    "//etc/passwd",
    "/page.html",
    "/favicon.ico",
]
#: Host headers that are not this server's.
FOREIGN_HOSTS = ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1:8000"]


@pytest.fixture
def store(study, tmp_path):
    store = Store(tmp_path / "answers.sqlite", study.id)
    yield store
    store.close()


@pytest.fixture
def app(study, store):
    return study_app(study, store)


@pytest.fixture
def client(app):
    return Client(app, ORIGIN, headers=OWN)


@pytest.fixture
def foreign(app):
    """A client that says nothing of where it comes from."""
    return Client(app, ORIGIN)


@pytest.fixture
def token(client):
    response = client.post("/start", json={"key": KEY})
    assert response.status_code == 201
    return response.json()["token"]


def look(client, token, position):
    response = client.get(f"/s/{token}/pair/{position}")
    assert response.status_code == 200
    return np.array(Image.open(io.BytesIO(response.content)))


def answer(client, token, position, fake="left", **changes):
    body = {"position": position, "fake": fake, "milliseconds": 900} | changes
    return client.post(f"/s/{token}/answers", json=body)


class TestSession:
    def test_a_whole_session(self, client, store, study, token):
        for position, trial in enumerate(store.trials(token)):
            state = client.get(f"/s/{token}/state").json()
            assert state == {"position": position, "practice": 3, "total": 23, "seconds": 0.05, "done": False}
            look(client, token, position)
            told = answer(client, token, position, "right").json()
            assert told.pop("feedback", None) == (
                {"answer": "right", "fake": trial.fake} if position < 3 else None
            )
            assert told == state | {"position": position + 1, "done": position == 22}
        assert [given.fake for given in store.answers()] == ["right"] * 23

    def test_the_pair_is_the_true_photo_and_the_fake_on_their_sides(self, client, store, study, token):
        for position, trial in enumerate(store.trials(token)):
            photo, both = study.photos[trial.photo], look(client, token, position)
            names = {trial.real: photo.truth, trial.fake: photo.fake(trial.system)}
            for part, side in ((both[:, :40], "left"), (both[:, 40:], "right")):
                with Image.open(study.picture(names[side])) as own:
                    assert np.array_equal(part, np.array(own))
            answer(client, token, position)

    def test_an_answer_is_stored_before_the_next_pair_can_show(self, client, store, token):
        look(client, token, 0)
        assert client.get(f"/s/{token}/pair/1").status_code == 409
        answer(client, token, 0)
        assert len(store.answers()) == 1
        look(client, token, 1)

    def test_double_posts_count_once(self, client, store, token):
        look(client, token, 0)
        first = answer(client, token, 0, "left")
        again = answer(client, token, 0, "right")
        assert again.json() == first.json()
        assert len(store.answers()) == 1
        assert client.post("/start", json={"key": KEY}).json() == {"token": token}
        assert store.participants() == {0: 23}

    def test_answers_out_of_turn(self, client, store, token):
        assert answer(client, token, 0).status_code == 409  # not shown yet
        look(client, token, 0)
        assert answer(client, token, 1).status_code == 409
        assert answer(client, token, 99).status_code == 409
        answer(client, token, 0)
        assert client.get(f"/s/{token}/pair/0").status_code == 409
        for beyond in (23, 10**30):
            assert client.get(f"/s/{token}/pair/{beyond}").status_code == 409
        assert len(store.answers()) == 1

    def test_a_full_study_says_so_and_does_not_let_the_page_try_for_ever(self, client, token, monkeypatch):
        monkeypatch.setattr("transfer.study.store.MAX_PARTICIPANTS", 1)
        refused = client.post("/start", json={"key": "f" * 32})
        assert (refused.status_code, refused.json()) == (403, {"error": "the study is full"})
        assert client.post("/start", json={"key": KEY}).json() == {"token": token}

    def test_an_unknown_link(self, client):
        for path in ("/s/gone", "/s/gone/state", "/s/gone/pair/0"):
            assert client.get(path).status_code == 404
        assert answer(client, "gone", 0).status_code == 404

    def test_systems_are_dealt_to_participants_in_turn(self, client, store):
        tokens = [client.post("/start", json={"key": f"{k:032x}"}).json()["token"] for k in range(4)]
        own = [{t.system for t in store.trials(token)} - {None} for token in tokens]
        assert sorted(map(sorted, own)) == [["faded"], ["faded"], ["turned"], ["turned"]]


class TestNothingTells:
    """What the server says before an answer is the same for either side."""

    def test_states_and_tokens_say_nothing_of_the_pairs(self, client, store, token):
        said = json.dumps(client.get(f"/s/{token}/state").json()) + client.get(f"/s/{token}").text
        assert client.get(f"/s/{token}").text == client.get("/").text
        assert not any(word in said for word in ("turned", "faded", "vigilance", "class0"))

    def test_headers_of_pairs_are_alike_but_for_the_length_of_what_is_seen(self, client, store, token):
        seen = {}
        for position, trial in enumerate(store.trials(token)):
            response = client.get(f"/s/{token}/pair/{position}")
            headers = {k: v for k, v in response.headers.items() if k not in ("content-length", "date")}
            seen.setdefault(trial.real, []).append(headers)
            kinds = re.findall(rb"IHDR|IDAT|IEND|tEXt|eXIf|tIME|iCCP|zTXt|iTXt|pHYs", response.content)
            assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
            assert Image.open(io.BytesIO(response.content)).size == (80, 32)
            answer(client, token, position)
        assert len({json.dumps(headers) for part in seen.values() for headers in part}) == 1
        assert seen["left"]
        assert seen["right"]

    def test_test_pairs_have_no_feedback(self, client, store, token):
        for position in range(6):
            look(client, token, position)
            told = answer(client, token, position).json()
            assert ("feedback" in told) == (position < 3)
            again = answer(client, token, position).json()
            assert ("feedback" in again) == (position < 3)


class TestAttacks:
    def test_a_foreign_host(self, client):
        for host in FOREIGN_HOSTS:
            assert client.get("/", headers={"Host": host}).status_code == 421

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "[::1]:8000", "LOCALHOST"])
    def test_its_own_names(self, client, host):
        assert client.get("/", headers={"Host": host}).status_code == 200

    def test_a_cross_site_post(self, foreign, store, token):
        for headers in FOREIGN_HEADERS:
            assert foreign.post("/start", json={"key": "f" * 32}, headers=headers).status_code == 403
            form = {"position": "0", "fake": "left"}
            assert foreign.post(f"/s/{token}/answers", data=form, headers=headers).status_code == 403
            assert store.participants() == {0: 23}
            assert not store.answers()

    @pytest.mark.parametrize("headers", [{"Origin": ORIGIN}, {"Sec-Fetch-Site": "same-origin"}])
    def test_either_header_is_enough(self, foreign, headers):
        assert foreign.post("/start", json={"key": KEY}, headers=headers).status_code == 201

    def test_a_form_is_no_answer(self, client, store, token):
        look(client, token, 0)
        sent = {"data": {"position": "0", "fake": "left", "milliseconds": "1"}}, {"content": b"{}"}
        for body in sent:
            assert client.post(f"/s/{token}/answers", **body).status_code == 415
        assert not store.answers()

    def test_not_an_answer(self, client, store, token):
        for body in WRONG_BODIES:
            look(client, token, 0)
            response = client.post(
                f"/s/{token}/answers", content=body, headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 400
            assert not store.answers()

    def test_not_a_key(self, client, store):
        for key in ("", "x" * 32, 7, None, ["0" * 32], 10**31):
            assert client.post("/start", json={"key": key}).status_code == 400, key
        assert store.participants() == {}

    def test_a_huge_body_is_not_read(self, app, token):
        read = 0

        async def endless():
            nonlocal read
            read += 65536
            return {"type": "http.request", "body": b" " * 65536, "more_body": True}

        sent = []

        async def send(message):
            sent.append(message)

        headers = {"host": "127.0.0.1", "content-type": "application/json", "sec-fetch-site": "same-origin"}
        scope = {
            "type": "http", "method": "POST", "path": f"/s/{token}/answers", "raw_path": b"", "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 8000),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        asyncio.run(app(scope, endless, send))
        assert sent[0]["status"] == 413
        assert read <= 65536 * (1 + MAX_BODY // 65536)

    def test_no_file_is_served(self, client):
        for path in WRONG_PATHS:
            assert client.get(path).status_code == 404

    def test_no_picture_is_served_by_its_name(self, client, study, token):
        for name in (study.photos[0].truth, study.photos[0].vigilance):
            for path in (f"/{name}", f"/pictures/{name}", f"/s/{token}/{name}", f"/s/{token}/pair/{name}"):
                assert client.get(path).status_code == 404

    def test_other_methods(self, client, token):
        assert client.get("/start").status_code == 405
        assert client.put(f"/s/{token}/answers", json={}).status_code == 405
        assert client.delete("/").status_code == 405

    def test_every_answer_keeps_the_page_to_itself(self, client, token):
        for path in ("/", f"/s/{token}", f"/s/{token}/pair/0", "/gone"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy


class TestBoundElsewhere:
    @pytest.fixture
    def client(self, study, store):
        app = study_app(study, store, "0.0.0.0", ["studies.example"], "secret-token")
        return Client(app, "http://192.0.2.7:8000", headers={"Origin": "http://192.0.2.7:8000"})

    def test_the_address_has_the_token(self, client):
        assert client.get("/secret-token/").status_code == 200
        made = client.post("/secret-token/start", json={"key": KEY}).json()["token"]
        assert client.get(f"/secret-token/s/{made}/state").json()["position"] == 0
        for path in ("/", "/state", f"/s/{made}/state", "/secret", "/secret-tokenn/"):
            assert client.get(path).status_code == 404
        assert client.post("/start", json={"key": KEY}).status_code == 404

    @pytest.mark.parametrize(
        ("host", "status"),
        [("192.0.2.7:8000", 200), ("[2001:db8::1]", 200), ("Studies.example", 200), ("evil.example", 421)],
    )
    def test_addresses_and_given_names_are_its_own(self, client, host, status):
        assert client.get("/secret-token/", headers={"Host": host}).status_code == status


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/").text
    assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|@import|https?://", page)
    assert page.count("<script>") == page.count("<style>") == 1


def test_the_address_keeps_its_token(tmp_path):
    path = tmp_path / "address_token"
    path.touch()  # a kill may leave it empty
    first = _secret(path)
    assert len(first) >= 20
    assert _secret(path) == first
    assert _secret(tmp_path / "another") != first
    assert (tmp_path / "another").stat().st_mode & 0o077 == 0
