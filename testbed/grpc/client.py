#!/usr/bin/python3
"""A gRPC client of Google's own library, for tests: one check of what a proxy between it and server.py must let pass.

Usage: client.py CHECK ADDRESS HOST AUTHORITY     CHECK: a function below; AUTHORITY: who signed the proxy's certificate.
Exit code 1, and what is wrong, if the check fails.
"""

import sys
import threading
import time

import grpc

# Longer than any call takes that does not hang for good.
LONG = 60


class Caller:
    def __init__(self, address, host, authority):
        credentials = grpc.ssl_channel_credentials(open(authority, "rb").read())
        self.channel = grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", host),))

    def unary(self, method):
        return self.channel.unary_unary(f"/test.Service/{method}")

    def requests(self, method):
        return self.channel.stream_unary(f"/test.Service/{method}")

    def answers(self, method):
        return self.channel.unary_stream(f"/test.Service/{method}")

    def both(self, method):
        return self.channel.stream_stream(f"/test.Service/{method}")


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def fails(call, code):
    """The error of a call that has to fail."""
    try:
        found = call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} ({error.details()}) instead of {code}"
        return error
    raise AssertionError(f"{found!r} instead of {code}")


def unary(caller):
    fields = (("x-asked", "something"), ("x-data-bin", bytes(range(256))))
    answer, call = caller.unary("Unary").with_call(b"hello", timeout=LONG, metadata=fields)
    equal(answer, b"hello")
    initial = dict(call.initial_metadata())
    equal((initial["x-initial"], initial["x-got"]), ("first", "something"))
    trailing = dict(call.trailing_metadata())
    equal((trailing["x-trailing"], trailing["x-data-bin"]), ("last", bytes(range(256))))
    equal(caller.unary("Unary")(b"", timeout=LONG), b"")


def requests(caller):
    parts = [b"%d," % number for number in range(1000)]
    equal(caller.requests("Collect")(iter(parts), timeout=LONG), b"".join(parts))
    equal(caller.requests("Collect")(iter([]), timeout=LONG), b"")


def answers(caller):
    equal(list(caller.answers("Count")(b"1000", timeout=LONG)), [b"%d" % number for number in range(1000)])
    equal(list(caller.answers("Count")(b"0", timeout=LONG)), [])


def both_ways(caller):
    """Each message waits for the answer to the one before: whoever keeps one back stops the conversation."""
    heard = threading.Semaphore(1)

    def say():
        for number in range(50):
            heard.acquire()
            yield b"%d" % number

    for number, answer in enumerate(caller.both("Chat")(say(), timeout=LONG)):
        equal(answer, b"heard %d" % number)
        heard.release()
    equal(number, 49)


def large(caller):
    message = bytes(3 << 20)
    equal(caller.unary("Unary")(message, timeout=LONG), message)
    equal(caller.requests("Collect")(iter([bytes(1 << 20)] * 3), timeout=LONG), message)


def many_at_once(caller):
    calls = [caller.unary("Unary").future(b"%d" % number, timeout=LONG) for number in range(200)]
    equal([call.result() for call in calls], [b"%d" % number for number in range(200)])


def status(caller):
    refused = fails(lambda: caller.unary("Refuse")(b"", timeout=LONG), grpc.StatusCode.FAILED_PRECONDITION)
    equal(refused.details(), "no such café: 100 %")
    equal(dict(refused.trailing_metadata())["x-why"], "because")
    fails(lambda: caller.unary("NoSuchMethod")(b"", timeout=LONG), grpc.StatusCode.UNIMPLEMENTED)
    answers = caller.answers("Half")(b"", timeout=LONG)
    equal(next(answers), b"a message")
    equal(fails(lambda: next(answers), grpc.StatusCode.DATA_LOSS).details(), "the rest is lost")


def deadline(caller):
    left = int(caller.unary("TimeLeft")(b"", timeout=LONG))
    assert 0 < left <= LONG, f"the server has {left} s left of {LONG}"
    before = cancellations(caller)
    fails(lambda: caller.unary("Hang")(b"", timeout=1), grpc.StatusCode.DEADLINE_EXCEEDED)
    until_cancelled(caller, before + 1)


def cancelling(caller):
    before = cancellations(caller)
    call = caller.unary("Hang").future(b"", timeout=LONG)
    # The call has to be at the server: what is asked later over the same connection comes later.
    equal(caller.unary("Unary")(b"x", timeout=LONG), b"x")
    call.cancel()
    until_cancelled(caller, before + 1)


def cancellations(caller):
    return int(caller.unary("Cancellations")(b"", timeout=LONG))


def until_cancelled(caller, count):
    end = time.monotonic() + LONG
    while cancellations(caller) < count:
        assert time.monotonic() < end, "the server does not hear that the client has left"
        time.sleep(0.02)


def no_backend(caller):
    fails(lambda: caller.unary("Unary")(b"", timeout=LONG), grpc.StatusCode.UNAVAILABLE)


def forbidden(caller):
    fails(lambda: caller.unary("Unary")(b"", timeout=LONG), grpc.StatusCode.PERMISSION_DENIED)


def unknown(caller):
    fails(lambda: caller.unary("Unary")(b"", timeout=LONG), grpc.StatusCode.UNIMPLEMENTED)


def too_large(caller):
    equal(caller.unary("Unary")(bytes(1000), timeout=LONG), bytes(1000))
    fails(lambda: caller.unary("Unary")(bytes(100_000), timeout=LONG), grpc.StatusCode.RESOURCE_EXHAUSTED)
    # The connection goes on.
    equal(caller.unary("Unary")(b"x", timeout=LONG), b"x")


def main():
    check, *where = sys.argv[1:]
    globals()[check](Caller(*where))


main()
