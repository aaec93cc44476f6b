"""Ends TLS for the tests: listens on a free port of 127.0.0.1, prints it, and passes the bytes of every connection
on to a plain port. Certificate and key are for tests alone; whoever signed them threw the authority's key away.

usage: terminate.py CERTIFICATE KEY PORT [AUTHORITY]

With an authority it asks clients for a certificate, and prints whose each connection brought, or "nobody"."""

import socket
import ssl
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(context, raw, port):
    try:
        tls = context.wrap_socket(raw, server_side=True)
    except OSError:
        raw.close()
        return
    if context.verify_mode != ssl.CERT_NONE:
        subject = dict(pair for part in (tls.getpeercert() or {}).get("subject", ()) for pair in part)
        print(subject.get("commonName", "nobody"), flush=True)
    plain = socket.create_connection(("127.0.0.1", port))
    threading.Thread(target=pump, args=(tls, plain), daemon=True).start()
    pump(plain, tls)


def main():
    certificate, key, port, *authority = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for file in authority:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(file)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=serve, args=(context, raw, int(port)), daemon=True).start()


main()
