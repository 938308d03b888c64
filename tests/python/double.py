"""A double of orchd's gRPC server: answers what a test scripts, on a Unix socket or TCP, and keeps every request."""
import concurrent.futures
import json
import os
import pathlib
import threading

import grpc

from orchd._messages import METHODS, message_class


class Failure(Exception):
    """What a scripted answer raises to end a call."""

    def __init__(self, code, text="", reason="", violations=(), retry_after=None):
        super().__init__(text)
        self.code, self.text = code, text
        status = message_class("google.rpc.Status")(code=code.value[0], message=text)
        if reason:
            info = message_class("google.rpc.ErrorInfo")(reason=reason, domain="orchd")
            self._add(status, "google.rpc.ErrorInfo", info)
        if violations:
            bad = message_class("google.rpc.BadRequest")()
            for field, description, word in violations:
                bad.field_violations.add(field=field, description=description, reason=word)
            self._add(status, "google.rpc.BadRequest", bad)
        if retry_after is not None:
            info = message_class("google.rpc.RetryInfo")()
            info.retry_delay.seconds = int(retry_after)
            info.retry_delay.nanos = int(retry_after % 1 * 1e9)
            self._add(status, "google.rpc.RetryInfo", info)
        self.details = status.SerializeToString() if reason or violations or retry_after is not None else None

    @staticmethod
    def _add(status, name, message):
        status.details.add(type_url=f"type.googleapis.com/{name}", value=message.SerializeToString())

    def end(self, context):
        if self.details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
        context.abort(self.code, self.text)


class ServerDouble(grpc.GenericRpcHandler):
    """`script` maps `Service.Method` to a list of answers, taken in turn; the last one stays. An answer is a message, a
    function of the request, a Failure, or, for a stream, a list of messages and Failures."""

    def __init__(self, folder, token="secret", tcp=False, script=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.token = token
        self.script = script or {}
        self.requests = []  # (method, request)
        self.on_end = lambda: None  # called when a stream ends
        self._lock = threading.Lock()
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(8), handlers=(self,), options=[("grpc.so_reuseport", 0)]
        )
        self.unix = "" if tcp else str(self.folder / "grpc.sock")
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.tcp = f"127.0.0.1:{port}"
        if self.unix:
            self._server.add_insecure_port(f"unix:{self.unix}")
        self._server.start()
        known = {"grpc": self.tcp, "http": "", "grpc_unix": self.unix, "http_unix": "", "pid": os.getpid(), "version": "0"}
        (self.folder / "token").write_text(token + "\n")
        (self.folder / "server.json").write_text(json.dumps(known))

    def stop(self):
        self._server.stop(None).wait()
        if self.unix and os.path.exists(self.unix):
            os.unlink(self.unix)

    def of(self, name):
        return [request for method, request in self.requests if method == name]

    def service(self, details):
        name = next((name for name, method in METHODS.items() if method.path == details.method), None)
        if name is None:
            return None
        method = METHODS[name]
        kind = grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler
        call = self._stream if method.streams else self._unary
        return kind(
            lambda request, context: call(name, request, context),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def _next(self, name, request, context):
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            Failure(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong", "TOKEN_INVALID").end(context)
        copy = type(request)()
        copy.CopyFrom(request)
        with self._lock:
            self.requests.append((name, copy))
            answers = self.script.get(name)
            if not answers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not scripted")
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(request) if callable(answer) and not isinstance(answer, Failure) else answer

    def _unary(self, name, request, context):
        answer = self._next(name, request, context)
        if isinstance(answer, Failure):
            answer.end(context)
        return answer

    def _stream(self, name, request, context):
        context.add_callback(self.on_end)
        for answer in self._next(name, request, context):
            if isinstance(answer, Failure):
                answer.end(context)
            yield answer


def run_message(name="r1", state="RUNNING", **fields):
    run = message_class("Run")(name=name, id=f"id-of-{name}", project="default", pipeline="p", **fields)
    run.state = run.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_name[state].number
    run.run_metadata["orchestrator_url"] = f"http://127.0.0.1:7118/runs/{name}"
    return run


def event_message(sequence, state="RUNNING", step="", run="r1"):
    answer = message_class("WatchRunsResponse")(resume_token=f"token-{sequence}")
    event = answer.event
    event.sequence, event.run, event.step = sequence, run, step
    kinds = event.DESCRIPTOR.fields_by_name
    event.type = kinds["type"].enum_type.values_by_name["STEP_STATE_CHANGED" if step else "RUN_STATE_CHANGED"].number
    field = "step_state" if step else "run_state"
    setattr(event, field, kinds[field].enum_type.values_by_name[state].number)
    return answer
