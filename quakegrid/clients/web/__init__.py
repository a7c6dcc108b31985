"""Clients of the web service: files go to and from the master over HTTPS, as from any machine.

    sending ──► calculations ──► results        each a few requests of `web_client`, which goes on after a
                                                broken link by itself

Read `web_client.py` first. What needs no files goes over gRPC: `clients/dbserver`, `clients/broker.py`.
"""
