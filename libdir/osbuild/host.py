"""Services: programs that the engine starts on the host to give a stage inputs, devices and mounts (Python 3.6).

A service is started as `<program> --service-id <id> --service-fd <n>` and answers calls on that socket. When the
engine closes the socket, the service releases everything that it holds and ends; whatever kills the engine has the
same effect. Each message is {"type", "data"}: a `method` is answered by a `reply` or an `exception`, and any number of
`signal`s may come before the answer.
"""

import abc
import argparse
import signal
import sys
import traceback

from osbuild.util.jsoncomm import Socket


class ProtocolError(Exception):
    """A message that the protocol does not know."""


class RemoteError(Exception):
    """An exception of the other side: its name, its text, and where it happened."""

    def __init__(self, name, value, stack):
        super().__init__("%s: %s\n %s" % (name, value, stack))
        self.name = name
        self.value = value
        self.stack = stack


class ServiceProtocol:
    """The messages as dictionaries."""

    @staticmethod
    def decode_message(msg):
        """Return (type, data)."""
        if not msg or not msg.get("type"):
            raise ProtocolError("a message without a type")
        if not msg.get("data"):
            raise ProtocolError("a message without data")
        return msg["type"], msg["data"]

    @staticmethod
    def encode_method(name, arguments):
        """Return a call."""
        return {"type": "method", "data": {"name": name, "args": arguments}}

    @staticmethod
    def decode_method(data):
        """Return (name, arguments) of a call."""
        if not data.get("name"):
            raise ProtocolError("a call without a name")
        return data["name"], data.get("args", [])

    @staticmethod
    def encode_reply(reply):
        """Return the answer to a call."""
        return {"type": "reply", "data": {"reply": reply}}

    @staticmethod
    def decode_reply(msg):
        """Return what a call has given; None is a value, too."""
        if "reply" not in msg:
            raise ProtocolError("a reply without a value")
        return msg["reply"]

    @staticmethod
    def encode_signal(sig):
        """Return a message that comes before the answer."""
        return {"type": "signal", "data": {"reply": sig}}

    @staticmethod
    def encode_exception(value, tb):
        """Return the answer to a call that has failed."""
        return {
            "type": "exception",
            "data": {
                "name": value.__class__.__name__,
                "value": str(value),
                "backtrace": "".join(traceback.format_tb(tb)),
            },
        }

    @staticmethod
    def decode_exception(data):
        """Return the exception of the other side."""
        return RemoteError(data["name"], data["value"], data["backtrace"])


class Service(abc.ABC):
    """The base of all services: override `dispatch` and `stop`, then `Class.from_args(sys.argv[1:]).main()`."""

    protocol = ServiceProtocol

    def __init__(self, args):
        self.sock = Socket.new_from_fd(args.service_fd)
        self.id = args.service_id

    @classmethod
    def from_args(cls, argv):
        """Return the service for a command line."""
        return cls(cls.prepare_argument_parser().parse_args(argv))

    @classmethod
    def prepare_argument_parser(cls):
        """Return the parser of the command line; more arguments can be added to it."""
        parser = argparse.ArgumentParser(description="A host service of osbuild's protocol")
        parser.add_argument("--service-fd", metavar="FD", type=int, help="the socket on which calls come")
        parser.add_argument("--service-id", metavar="ID", type=str, help="the name in the engine's log")
        return parser

    @abc.abstractmethod
    def dispatch(self, method, args, fds):
        """Answer a call: return (value, descriptors or None)."""

    def stop(self):  # noqa: B027 - a service that holds nothing needs none
        """Release everything; called once when the service ends, for whatever reason."""

    def main(self):
        """Answer calls until the engine closes the socket."""
        # The engine ends its services by their sockets, in the right order; a Ctrl-C must not come before it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.serve()
        finally:
            self.stop()

    def serve(self):
        """Answer one call after the other."""
        while True:
            msg, fds, _ = self.sock.recv()
            if not msg:
                return
            try:
                kind, data = self.protocol.decode_message(msg)
                if kind != "method":
                    raise ProtocolError("unknown message type: %s" % kind)
                name, args = self.protocol.decode_method(data)
                value, answer_fds = self.dispatch(name, args, fds)
                reply = self.protocol.encode_reply(value)
            except BaseException:  # whatever it is, the engine must learn of it
                answer_fds = None
                reply = self.protocol.encode_exception(*sys.exc_info()[1:])
            try:
                self.sock.send(reply, fds=answer_fds)
            except BrokenPipeError:
                return  # the engine has gone meanwhile

    def emit_signal(self, data):
        """Send something before the answer of the call that is being served."""
        self.sock.send(self.protocol.encode_signal(data))
