"""Folders in buckets: the lease of one process, and what a user is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.object_stores import emulated, forget_clients, need
from vlfau_jax.buckets import LEASES, Bucket, Lease, Lost, is_bucket, open_bucket
from vlfau_jax.errors import InUse, RunError, UserError


@pytest.fixture(scope="module", params=["s3", "gs"])
def url(request, tmp_path_factory):
    need(request.param)
    with emulated(request.param, tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def bucket(url, request):
    return open_bucket("--workdir", f"{url}/{request.node.originalname}")


def not_of_this_process(lease):
    """As another machine writes it: whether its process lives is not to be seen here."""
    path = f"{lease._bucket.root}/{LEASES}/{lease.number}"
    said = json.loads(lease._bucket.fs.cat_file(path)) | {"process": ["elsewhere", 1]}
    lease._bucket.fs.pipe_file(path, json.dumps(said).encode())


def test_objects_come_and_go(bucket, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_text("one")
    (tmp_path / "c").write_bytes(b"")
    bucket.put(tmp_path, ["a/b.txt", "c"])
    assert bucket.listed() == {"a/b.txt": 3, "c": 0}
    bucket.get(tmp_path / "back", ["a/b.txt", "c"])
    assert (tmp_path / "back/a/b.txt").read_text() == "one"
    bucket.remove(["c", "never"])
    assert bucket.listed() == {"a/b.txt": 3}


def test_a_lease_that_is_renewed_is_refused_to_others(bucket):
    first, second = Lease(bucket, 0.8), Lease(bucket, 0.8)
    first.claim()
    ended = threading.Event()

    def renew():
        while not ended.wait(0.05):
            first.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(InUse, match="a run is going on here"):
            second.claim()
    finally:
        ended.set()
        thread.join()
    first.release()
    second.claim()  # at once
    assert second.number == first.number + 1
    assert second.before == first.number


def test_a_dead_holder_is_followed_and_cannot_come_back(bucket, capsys):
    first, second = Lease(bucket, 0.2), Lease(bucket, 0.2)
    first.claim()
    not_of_this_process(first)
    second.claim()
    assert "waiting 0.2 s" in capsys.readouterr().err
    with pytest.raises(Lost, match="another process has taken over"):
        first.renew()
    second.renew()
    assert [*bucket.listed()] == []  # leases are no content


def test_of_many_who_try_one_gets_it(bucket):
    got, refused = [], []
    start = threading.Barrier(4)

    def claim():
        lease = Lease(bucket, 0.5)
        start.wait()
        try:
            lease.claim()
            got.append(lease)
        except InUse:
            refused.append(lease)

    # None of them renews: those that lose see another number within the time, or wait it out.
    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holders = []
    for lease in got:
        try:
            lease.check()
            holders.append(lease)
        except Lost:
            pass
    assert len(holders) == 1
    assert len({lease.number for lease in got}) == len(got)


def test_missing_bucket_is_named_with_the_command_that_makes_it(url):
    there = url[:5] + "nobodys-bucket/run"
    with pytest.raises(UserError, match=r"there is no bucket nobodys-bucket; create it: \w+"):
        open_bucket("--workdir", there)


@pytest.mark.parametrize("url", ["gs://only", "s3://", "gs://b/../x", "s3://b//x", "gs://b/./x"])
def test_urls_of_no_folder(url):
    with pytest.raises(UserError, match="give a folder in a bucket"):
        open_bucket("--workdir", url)


def test_only_urls_of_stores_are_buckets():
    assert is_bucket("gs://a/b") and is_bucket("s3://a/b")
    assert not is_bucket("/gs/a") and not is_bucket("gs:/a/b") and not is_bucket("runs/s3://a")


def error_named(name, text=""):
    return type(name, (Exception,), {})(text)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            error_named("DefaultCredentialsError"),
            UserError,
            "gcloud auth application-default login",
        ),
        (
            error_named("RefreshError", "expired"),
            UserError,
            "gcloud auth application-default login",
        ),
        (OSError("ExpiredToken"), UserError, "no valid credentials"),
        (PermissionError("denied"), UserError, "roles/storage.objectUser"),
        (OSError("Forbidden: 403"), UserError, "permission is missing"),
        (FileNotFoundError("x"), UserError, "gcloud storage buckets create gs://faces"),
        (OSError("AuthorizationHeaderMalformed: expecting"), UserError, "in another region"),
        (OSError(28, "No space left on device", "/copy/x"), RunError, "/copy/x: No space left"),
        (FileNotFoundError(2, "No such file", "/copy/x"), RunError, "/copy/x: No such file"),
        (OSError("QuotaExceeded: no room"), RunError, "the bucket is full"),
        (OSError("Connection reset"), RunError, "does not answer"),
    ],
)
def test_what_the_store_refuses_is_one_line_with_a_command(error, kind, said):
    bucket = Bucket("--workdir", "gs://faces/run", None, "faces/run")
    with pytest.raises(kind) as caught, bucket.told():
        raise error
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("--workdir=gs://faces/run")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "no valid credentials; give them: aws configure"),
        ("AccessDenied", "permission is missing: s3:ListBucket of faces"),
    ],
)
def test_what_s3_refuses_is_no_missing_bucket(monkeypatch, code, said):
    pytest.importorskip("s3fs")

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "us-east-1")
        try:
            with pytest.raises(UserError, match=said):
                open_bucket("--workdir", "s3://faces/run")
        finally:
            server.shutdown()
            thread.join()
            forget_clients()


def test_a_lease_that_was_given_back_is_not_taken_again_by_its_own_thread(bucket):
    lease = Lease(bucket, 0.2)
    lease.claim()
    lease.release()
    lease.renew()
    assert lease.holder() == ""


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    fsspec = pytest.importorskip("fsspec")

    def refuse(*_, **__):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec, "url_to_fs", refuse)
    with pytest.raises(UserError, match=r"pip install 'vlfau_jax\[gcs\]'"):
        open_bucket("--workdir", "gs://faces/run")
