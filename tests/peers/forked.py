"""Starts the Python programs of the tests without the second or two that the import of an SDK takes each time.

    forked.py serve [MODULES…]             imports the modules, says on stdout at which socket it is asked
    forked.py SOCKET SCRIPT [ARGUMENTS…]   runs a script as `python SCRIPT …` would, in a fork of that process

Each script runs in a process of its own. It has the pipes, the environment and the folder of the process that asked for
it, which passes HUP, INT and TERM on and ends as the script ends; when that process is killed, the script is too. All
end with the stdin of `serve`.
"""

import json
import os
import signal
import socket
import sys

REQUEST_BYTES = 1 << 18
NO_ANSWER = 70
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def ask(address, words):
    """Has the words run with what this process was given, and ends as they end."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(bytes.fromhex(address))
    request = {"argv": words, "environment": dict(os.environ), "folder": os.getcwd()}
    socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    for stream in range(3):  # nobody but the script keeps them open
        os.close(stream)
    pass_signals_on(connection)
    end_as(int(connection.recv(16) or NO_ANSWER))


def pass_signals_on(connection):
    def pass_on(number, _frame):
        try:
            connection.send(str(number).encode())
        except OSError:
            pass  # whoever waits for the status sees that nobody is there

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)


def end_as(status):
    """Ends this process as one that has this exit code: a negative one is the number of the signal that killed it."""
    if status < 0:
        try:
            signal.signal(-status, signal.SIG_DFL)
        except OSError:
            pass  # nobody can have changed it
        os.kill(os.getpid(), -status)
    os._exit(status)


class Running:
    """A script that runs: who asked for it, its process, and what is readable when that has ended."""

    def __init__(self, asker, pid):
        self.asker = asker
        self.pid = pid
        self.end = os.pidfd_open(pid)

    def close(self):
        self.asker.close()
        os.close(self.end)

    def tell(self, status):
        try:
            self.asker.send(str(status).encode())
        except OSError:
            pass  # it was ended before


class Server:
    """Forks for whoever asks, until stdin ends."""

    def __init__(self):
        import selectors

        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind("")  # a free name that is no file
        self.listener.listen(64)
        self.selector = selectors.DefaultSelector()
        for source in (sys.stdin, self.listener):
            self.selector.register(source, selectors.EVENT_READ)
        self.running = {}

    def serve(self):
        """Returns in the forked processes alone, with what they are to run and their three streams."""
        print(self.listener.getsockname().hex(), flush=True)
        while True:
            for key, events in self.selector.select():
                if key.fileobj is sys.stdin:
                    for script in self.running.values():
                        os.kill(script.pid, signal.SIGKILL)
                    os._exit(0)
                if key.fileobj is self.listener:
                    request = self.accept(events)
                    if request:
                        return request
                elif self.running.get(key.fileobj) is key.data:
                    # Else that script was reaped a moment ago, and what was its descriptor may be another's.
                    self.heed(key.data, key.fileobj)

    def accept(self, events):
        asker, _ = self.listener.accept()
        request, streams, _, _ = socket.recv_fds(asker, REQUEST_BYTES, 3)
        if not request:  # it was ended before it could ask
            asker.close()
            return None
        pid = os.fork()
        if pid == 0:
            asker.close()
            self.close()
            return json.loads(request), streams
        for stream in streams:
            os.close(stream)
        script = Running(asker, pid)
        for source in (asker, script.end):
            self.running[source] = script
            self.selector.register(source, events, script)
        return None

    def heed(self, script, source):
        """The script has ended, or its asker has got a signal, or was killed."""
        if source is script.asker:
            number = script.asker.recv(16)
            os.kill(script.pid, int(number or signal.SIGKILL))
            if number:
                return
        self.reap(script)

    def reap(self, script):
        _, status = os.waitpid(script.pid, 0)
        script.tell(os.waitstatus_to_exitcode(status))
        for each in (script.asker, script.end):
            self.selector.unregister(each)
            del self.running[each]
        script.close()

    def close(self):
        """Leaves nothing of it open."""
        for script in set(self.running.values()):
            script.close()
        self.selector.close()
        self.listener.close()


def become(request, streams):
    """Makes this process what was asked for."""
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["argv"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def serve(modules):
    import gc
    import importlib

    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    become(*Server().serve())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    else:
        ask(sys.argv[1], sys.argv[2:])
