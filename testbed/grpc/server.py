#!/usr/bin/python3
"""A gRPC server of Google's own library, for tests: messages are plain bytes, so that nothing is generated.

Usage: server.py PORT [CERTIFICATE KEY]     says "ready" once it listens; with a certificate it speaks TLS
"""

import sys
import threading
from concurrent import futures

import grpc

cancelled = []


def unary(request, context):
    asked = {key: value for key, value in context.invocation_metadata()}
    context.send_initial_metadata((("x-initial", "first"), ("x-got", asked.get("x-asked", "-"))))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-data-bin", asked.get("x-data-bin", b"-"))))
    return request


def collect(requests, _):
    return b"".join(requests)


def count(request, _):
    for number in range(int(request)):
        yield b"%d" % number


def chat(requests, _):
    for request in requests:
        yield b"heard " + request


def refuse(_, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such café: 100 %")


def half(_, context):
    """Fails once the answer has begun."""
    yield b"a message"
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")


def hang(_, context):
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    cancelled.append(1)
    return b""


def cancellations(_request, _):
    return b"%d" % len(cancelled)


def time_left(_, context):
    return b"%d" % (context.time_remaining() or -1)


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Half": grpc.unary_stream_rpc_method_handler(half),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Cancellations": grpc.unary_unary_rpc_method_handler(cancellations),
    "TimeLeft": grpc.unary_unary_rpc_method_handler(time_left),
}


def main():
    port, *pair = sys.argv[1:]
    # A call that hangs holds a thread.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", METHODS),))
    address = f"127.0.0.1:{port}"
    if pair:
        certificate, key = (open(path, "rb").read() for path in pair)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


main()
